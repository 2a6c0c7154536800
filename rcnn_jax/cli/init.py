"""`init`: from a folder of images to a checked and commented spec that trains without editing."""

import argparse
import dataclasses
import os
import re
import shutil
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rcnn_jax.cli.outputs import CommandPaths
from rcnn_jax.cli.session import Session
from rcnn_jax.errors import DataError, UsageError
from rcnn_jax.spec.recipes import NAMES
from rcnn_jax.tasks.families import FAMILIES

if TYPE_CHECKING:
    from rcnn_jax.configure.drafting import Known
    from rcnn_jax.configure.proposal import Choice
    from rcnn_jax.configure.splits import Split
    from rcnn_jax.data.layouts.collection import Collection
    from rcnn_jax.diagnose.dataset import Diagnosis
    from rcnn_jax.diagnose.records import Pixels
    from rcnn_jax.tasks.draft import Draft

MARK = ".made-by-rcnn-jax-init"
"""File in folders that `--overwrite` may replace."""

# Long enough on a laptop to see whether a data set can be learnt, and short enough to wait for.
MINUTES = 20.0
# A sample: mean and deviation settle long before all pictures are read.
_PICTURES = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `init`."""
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="folder of images and labels, or an annotation file"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="SPEC", required=True, help="spec to write"
    )
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, metavar="M",
        help=f"time for training that the canvas and the schedule are chosen for ({MINUTES:g})",
    )  # fmt: skip
    parser.add_argument("--masks", action="store_true", help="learn outlines, not boxes alone")
    parser.add_argument(
        "--weights",
        default="auto",
        metavar="FILE|NAME|auto|none",
        help="weights to start from (auto: published ones of the backbone where they can be had; none: "
        "random)",
    )
    parser.add_argument(
        "--arch",
        default="",
        metavar="NAME",
        help="backbone (default: that of the weights, or resnet:18)",
    )
    parser.add_argument(
        "--detector", choices=tuple(FAMILIES), help="instead of the one that suits the objects"
    )
    parser.add_argument(
        "--canvas",
        metavar="HxW",
        help="height x width of the network input, instead of the chosen one",
    )
    parser.add_argument(
        "--tiles", action=argparse.BooleanOptionalAction, default=None,
        help="cut images into overlapping tiles where objects are too small on the canvas (default: "
        "where most of a class are, and the time allows it)",
    )  # fmt: skip
    parser.add_argument(
        "--recipe",
        choices=NAMES,
        help="name a recipe in the spec, for fields that are not chosen for the data (default: none)",
    )
    parser.add_argument(
        "--seed", type=int, default=42, metavar="N", help="of splits and training (42)"
    )
    parser.add_argument(
        "--new-splits", action="store_true", help="split anew, whatever splits the folder has"
    )
    parser.add_argument(
        "--crowds-as-objects", action="store_true",
        help="learn objects that are marked as crowds, as exports of assistants mark masks",
    )  # fmt: skip
    parser.add_argument(
        "--accept-errors", action="store_true",
        help="go on although the doctor found errors; what cannot be read is left out",
    )  # fmt: skip
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the spec and the data that an earlier init wrote",
    )
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="that decode images (0: all cores)"
    )


def paths(args: Namespace) -> CommandPaths:
    """Lists the paths of the command's inputs and outputs."""
    known = CommandPaths()
    known.read("DATA", args.data, "folder" if args.data.is_dir() else "file")
    known.write("-o", args.output)
    return known


def run(args: Namespace) -> int:
    """Looks at the data and writes a spec; returns the exit code.

    Raises:
      RcnnError: the flags or the data are at fault; nothing is written then.
    """
    canvas = _checked(args)
    from rcnn_jax.checkpoints.atomic import write_file
    from rcnn_jax.configure import proposal
    from rcnn_jax.configure.data_files import Wish, provide_files, with_sizes
    from rcnn_jax.configure.drafting import Known, draft_of
    from rcnn_jax.configure.outlines import with_outlines
    from rcnn_jax.configure.pace import pace_here, with_backbone
    from rcnn_jax.configure.pictures import pixel_statistics, upside_down
    from rcnn_jax.configure.splits import split_items
    from rcnn_jax.configure.tiles import choose_tiles, pays
    from rcnn_jax.configure.weights import is_folded, published_start, start_of
    from rcnn_jax.diagnose.exif import shown_size
    from rcnn_jax.spec.load import parse_spec

    with Session("init", status_folder=None) as session:
        chooses_weights = args.weights == "auto"
        start = start_of("none" if chooses_weights else args.weights, args.arch)
        folded = Path(start.path).is_file() and is_folded(Path(start.path))
        collection, diagnosis = _examined(args, session)
        readable = [n for n, scan in enumerate(diagnosis.scans) if not scan.fault]
        scans = [diagnosis.scans[n] for n in readable]
        shown = diagnosis.shown
        sizes = [
            shown_size(diagnosis.scans[n]) if n in shown else diagnosis.scans[n].size
            for n in readable
        ]
        items = with_sizes([collection.items[n] for n in readable], sizes)
        # Labels in place are read again by the training, with all that was left out here.
        untouched = len(readable) == len(collection.items) and not collection.problems
        if args.masks:
            items, left_out = with_outlines(
                items, str(args.data), collection.layout, accept=args.accept_errors
            )
            if left_out:
                session.warn(left_out)
            untouched = untouched and not left_out
        split = split_items(items, scans, seed=args.seed)
        counts, names = _classes(collection, split, session)
        items = proposal.renamed(split.items, names)
        objects = proposal.Objects.of(items)
        pace = with_backbone(pace_here(), start.arch)
        choice, why = proposal.choose(
            objects,
            pace,
            args.minutes,
            masks=args.masks,
            arch=start.arch,
            kind=args.detector,
            canvas=canvas,
        )
        if chooses_weights:  # not earlier: which ones fit depends on the detector
            whole = choice.writer.takes_detectors
            start = published_start(start.arch, detectors=whole, masks=args.masks)
        tiled, most = None, objects.most
        # A canvas that was asked for is meant for whole images, unless the flag says otherwise.
        if args.tiles or (args.tiles is None and canvas is None):
            tiled = choose_tiles(
                items,
                objects,
                choice,
                pace,
                args.minutes,
                masks=args.masks,
                arch=start.arch,
                canvas=canvas,
            )
            if args.tiles and tiled is None:
                session.warn(
                    "--tiles: the objects are large enough in whole images, which stay whole"
                )
            elif tiled is not None and not args.tiles:
                tiled = tiled if pays(tiled, choice, objects, pace, args.minutes) else None
                if tiled is not None:
                    session.note(tiled.why)
        if tiled is not None:
            objects, choice = tiled.objects, tiled.choice
        parts = Counter(item.split for item in items) if tiled is None else tiled.counts
        length = proposal.schedule(choice, pace, args.minutes, parts["train"], parts["val"])
        classes = list(
            dict.fromkeys(names[name] for name in collection.class_names if name in names)
        )
        classes += [name for name in dict.fromkeys(names.values()) if name not in classes]
        wish = Wish(
            form=choice.writer.labels,
            items=items,
            class_names=tuple(classes),
            as_found=untouched and not args.crowds_as_objects and not shown,
            beside=_beside(args.output),
            orientations={collection.items[n].image: diagnosis.scans[n].orientation for n in shown},
        )
        # Not earlier: where the data or a flag is at fault, the spec that is there keeps its data.
        shutil.rmtree(wish.beside, ignore_errors=True)
        placed = provide_files(wish, collection, session.track)
        known = Known(
            source=f"{args.data} ({collection.layout})",
            seed=args.seed,
            minutes=args.minutes,
            masks=args.masks,
            output=str(args.output.with_name(f"{args.output.stem}_run")),
            split=split,
            placed=placed,
            names=names,
            counts=counts,
            objects=objects,
            most=most,
            choice=choice,
            why=why,
            schedule=length,
            start=start,
            pixels=start.pixels or pixel_statistics(_pictures(diagnosis, readable)),
            flips=upside_down(items, scans),
            tiled=tiled,
        )
        draft = dataclasses.replace(draft_of(known), recipe=args.recipe or "")
        if folded:
            draft = _with_statistics(args, choice, draft, session)
        if wish.beside.is_dir():
            write_file(wish.beside / MARK, [b"replaced by init --overwrite\n"])
        # Written as text and read back as any spec: what init promises is that its spec passes.
        text = choice.writer.text(draft)
        loaded = parse_spec(text, str(args.output), choice.family.kind, "train")
        for warning in loaded.warnings:
            session.warn(warning)
        for note in loaded.notes:
            # Without a recipe a draft has nothing to remark on: a note is a fault of its writer.
            (session.note if args.recipe else session.warn)(note)
        write_file(args.output, [text.encode()])
        _report(args, session, known)
    return 0


def _checked(args: Namespace) -> tuple[int, int] | None:
    """Returns the wanted canvas, after all flags were checked.

    Raises:
      UsageError: a flag makes no sense, or what would be written is there already.
    """
    if not 0 < args.minutes < 100_000:
        raise UsageError(f"--minutes {args.minutes:g}: expected more than 0")
    if args.threads < 0:
        raise UsageError(f"--threads {args.threads}: expected 0 or more")
    if args.seed < 0:
        raise UsageError(f"--seed {args.seed}: expected 0 or more")
    canvas = None
    if args.canvas is not None:
        # Below 32 no map is left after the backbone's strides.
        match = re.fullmatch(r"(\d+)[xX](\d+)", args.canvas)
        if match is None or not all(32 <= int(side) <= 16384 for side in match.groups()):
            raise UsageError(f"--canvas {args.canvas}: expected HEIGHTxWIDTH, such as 480x640")
        canvas = int(match[1]), int(match[2])
    beside = _beside(args.output)
    there = [path for path in (args.output, beside) if path.exists()]
    if there and not args.overwrite:
        raise UsageError(
            f"{there[0]}: is there already; give another -o, or --overwrite to replace what an earlier "
            "init wrote"
        )
    if beside.exists():
        # --overwrite removes a folder: it must be one of ours, whatever its name.
        if not (beside / MARK).is_file():
            raise UsageError(f"{beside}: was not written by init: give another -o")
        if args.data.resolve().is_relative_to(beside.resolve()):
            raise UsageError(f"{beside}: holds the data: give another -o")
    return canvas


def _beside(spec: Path) -> Path:
    """Returns the folder of what is written beside a spec."""
    return spec.with_name(f"{spec.stem}_data")


def _examined(args: Namespace, session: Session) -> "tuple[Collection, Diagnosis]":
    """Returns the folder as it was read and what the doctor says of it.

    Raises:
      DataError: the doctor found errors, and they are not accepted.
    """
    from rcnn_jax.cli.doctor import findings_table
    from rcnn_jax.data.layouts.collection import crowds_as_objects
    from rcnn_jax.data.layouts.detect import read_collection
    from rcnn_jax.diagnose import kinds, records
    from rcnn_jax.diagnose.dataset import examine

    collection = read_collection(args.data)
    if args.crowds_as_objects:
        collection = crowds_as_objects(collection)
    if (
        args.new_splits
    ):  # also for the doctor, who would complain of leaks between those of the folder
        items = tuple(dataclasses.replace(item, split="") for item in collection.items)
        collection = dataclasses.replace(collection, items=items)
    diagnosis = examine(
        str(args.data),
        records.of_collection(collection),
        problems=collection.problems,
        choices=(f"layout: {collection.layout}", *collection.choices),
        threads=args.threads or len(os.sched_getaffinity(0)),
        track=session.track,
    )
    for choice in diagnosis.choices:
        session.note(choice)
    session.console.print(findings_table(diagnosis))
    # Warnings pass: they are about how well a model will learn, errors about what. Images that are to be
    # turned are mended here, in a copy.
    errors = any(
        seen.kind.severity == "error" and seen.kind is not kinds.DRAWN_TURNED
        for seen in diagnosis.observations
    )
    if errors and not args.accept_errors:
        raise DataError(
            f"{args.data}: the doctor found errors (above), and a model would learn them. Mend them "
            f"(`rcnn-jax doctor {args.data} --fix DIR` mends what needs no guess, and init takes DIR), "
            "split anew with --new-splits where images are in both splits, or give --accept-errors to "
            "go on without what cannot be read"
        )
    return collection, diagnosis


def _classes(
    collection: "Collection", split: "Split", session: Session
) -> tuple[dict[str, int], dict[str, str]]:
    """Returns objects per label and label -> class, of the labels that are learnt."""
    from rcnn_jax.configure.proposal import classes_of

    counts, names = classes_of(split.items)
    unused = [name for name in collection.class_names if name not in counts]
    if unused:
        session.note(f"no object is called {', '.join(unused[:8])}: left out")
    for name in [name for name in names if name.casefold() == "background"]:
        session.warn(
            f"'{name}' is no class: what is not labelled is background; its objects are left out"
        )
        del names[name]
    for name, leader in names.items():
        if name != leader:
            session.note(f"'{name}' and '{leader}' are one class, '{leader}'")
    return dict(counts), names


def _pictures(diagnosis: "Diagnosis", readable: Sequence[int]) -> "Iterator[Pixels]":
    # Evenly over the whole set: the first ones may be of one film.
    step = max(len(readable) // _PICTURES, 1)
    for n in readable[::step][:_PICTURES]:
        yield diagnosis.records[n].read()


def _with_statistics(
    args: Namespace, choice: "Choice", draft: "Draft", session: Session
) -> "Draft":
    """Returns the draft with folded weights whose batch norms were given statistics.

    Folded weights with batch norm that learns would train from chance; frozen, they train slowly.
    """
    from rcnn_jax.cli.unfold_batch_norm import write_unfolded
    from rcnn_jax.spec.load import parse_spec
    from rcnn_jax.tasks.build import build_experiment

    session.note(f"{draft.weights}: batch norm is folded; its statistics are taken from this data")
    output = _beside(args.output) / "weights.npz"
    loaded = parse_spec(choice.writer.text(draft), str(args.output), choice.family.kind, "train")
    experiment = build_experiment(loaded.config, choice.family.kind)
    layers = write_unfolded(experiment, Path(draft.weights), output)
    session.note(f"{output}: {layers} layers with statistics")
    reason = f"{output} is {draft.weights} with statistics of batch norm from this data."
    reasons = {**draft.reasons, "weights": [*draft.reasons["weights"], reason]}
    return dataclasses.replace(draft, weights=str(output), reasons=reasons)


def _report(args: Namespace, session: Session, known: "Known") -> None:
    """Prints what was decided, what to think of, and the next command."""
    from rcnn_jax.configure.drafting import lines_of

    say = session.console.print
    for line in lines_of(known):
        say(line, markup=False)
    relief, kind = known.choice.relief, known.choice.family.kind
    for line in relief.sentences if relief is not None else ():
        session.warn(line)
    say(f"\n{args.output}: a {kind} spec, checked. Next:", markup=False)
    say(
        f"  rcnn-jax {kind} train -e {args.output} -d {known.output} --minutes {args.minutes:g}",
        markup=False,
    )
