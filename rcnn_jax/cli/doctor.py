"""`doctor`: one pass over a data set that names everything that will hurt training."""

import argparse
import json
import os
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from rcnn_jax.cli.flags import KEY_VARIABLE, existing_file
from rcnn_jax.cli.outputs import CommandPaths
from rcnn_jax.cli.session import Session, memory_advice
from rcnn_jax.errors import DataError, UsageError

if TYPE_CHECKING:
    from rcnn_jax.diagnose.dataset import Diagnosis

REPORT = "doctor.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `doctor`."""
    parser.add_argument(
        "data",
        type=Path,
        metavar="DATA|SPEC",
        help="folder of images and labels, a COCO file, or a spec",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE.html", help=f"report (default: {REPORT} here)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="findings as JSON too")
    parser.add_argument(
        "--fix", type=Path, metavar="DIR", help="write a repaired copy into this new folder"
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FILE",
        help="a model trained on this data: ranks labels that it contradicts (needs a spec)",
    )
    parser.add_argument(
        "-k",
        "--key",
        metavar="KEY",
        help=f"key of an encrypted model (default: ${KEY_VARIABLE}, then enc_key of the spec)",
    )
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="that decode images (0: all cores)"
    )


def paths(args: Namespace) -> CommandPaths:
    """Lists the paths of the command's inputs and outputs."""
    known = CommandPaths()
    known.read("DATA", args.data, "folder" if args.data.is_dir() else "file")
    known.read("--model", args.model)
    known.write("-o", args.output or Path(REPORT))
    known.write("--json", args.json)
    known.write("--fix", args.fix, "folder")
    return known


def run(args: Namespace) -> int:
    """Looks at the data; returns 0 without warnings, 1 with warnings, 2 with errors.

    Raises:
      RcnnError: there is nothing to look at, or a report cannot be written.
    """
    if args.threads < 0:
        raise UsageError(f"--threads {args.threads}: expected 0 or more")
    if args.fix is not None and args.fix.exists() and any(args.fix.iterdir()):
        raise UsageError(f"--fix {args.fix}: expected a new or an empty folder")
    # Late, and behind the checks of the flags: a typing error should not wait for the imports.
    from rcnn_jax.checkpoints.atomic import write_file
    from rcnn_jax.diagnose import pages

    # No status file: the doctor has no run whose folder it could lie in.
    with Session("doctor", status_folder=None) as session:
        # Those this process may use: `cpu_count` counts the cores of the machine, in a container too.
        threads = args.threads or len(os.sched_getaffinity(0))
        diagnosis = _diagnosis(args, threads, session)
        console = session.console
        for choice in diagnosis.choices:
            session.note(choice)
        console.print(findings_table(diagnosis))
        report = args.output or Path(REPORT)
        write_file(report, [pages.page(diagnosis).encode()])
        console.print(f"report: {report}", markup=False)
        if args.json is not None:
            text = json.dumps(pages.as_json(diagnosis), indent=2)
            write_file(args.json, [text.encode()])
        if args.fix is not None:
            from rcnn_jax.diagnose.repair import repair

            for line in repair(diagnosis, args.fix, session.track):
                console.print(line, markup=False)
    return diagnosis.exit_code


def _diagnosis(args: Namespace, threads: int, session: Session) -> "Diagnosis":
    from rcnn_jax.data.layouts.detect import read_collection
    from rcnn_jax.diagnose import records
    from rcnn_jax.diagnose.dataset import examine, target_of, with_suspicions
    from rcnn_jax.diagnose.labels import suspicions_of
    from rcnn_jax.runtime.open import experiment_of, open_model
    from rcnn_jax.spec.load import load_spec
    from rcnn_jax.spec.render import redact, written_key
    from rcnn_jax.tasks.build import build_experiment

    if args.data.is_dir() or args.data.suffix.lower() == ".json":
        if args.model is not None:
            raise UsageError(
                f"--model needs the spec that the model was trained with, found {args.data}"
            )
        try:
            collection = read_collection(args.data)
        except DataError as error:
            # Only here: TFRecords lie beside the labels that they were made from, which say more.
            _refuse_records(args.data, records.first_record_file(args.data), error)
            raise
        return examine(
            str(args.data),
            records.of_collection(collection),
            problems=collection.problems,
            choices=(f"layout: {collection.layout}", *collection.choices),
            categories={str(path): ids for path, ids in collection.category_ids.items()},
            threads=threads,
            track=session.track,
        )
    if args.data.is_file():
        _refuse_records(args.data, records.first_record_file(args.data), None)
    loaded = load_spec(args.data, None, None if args.model is None else "evaluate")
    if loaded.kind == "dataset_convert":
        raise UsageError(f"{args.data}: expected a folder, or the spec of a detector")
    if args.fix is not None:
        raise UsageError("--fix needs the folder of the data instead of a spec")
    if args.model is None:
        predictor = None
        experiment = build_experiment(redact(loaded.config), loaded.kind)
    else:
        key = args.key or os.environ.get(KEY_VARIABLE) or written_key(loaded.config) or None
        model = open_model(existing_file(args.model, "--model"), key)
        experiment = experiment_of(
            model, redact(loaded.config), loaded.kind, own_classes=False, reporter=session
        )
        predictor = model.predictor(experiment, experiment.evaluation)
    sources = [experiment.train_source()]
    if experiment.eval_source is not None:
        sources.append(experiment.eval_source())
    ids = experiment.category_ids
    examined = [
        record
        for source, split in zip(sources, ("train", "val"), strict=False)
        for record in records.of_source(source, split, coco=ids is not None)
    ]
    diagnosis = examine(
        str(args.data),
        examined,
        categories=None if ids is None else {str(args.data): ids},
        findings=[finding for source in sources for finding in source.findings],
        target=target_of(experiment),
        threads=threads,
        track=session.track,
    )
    if predictor is None:
        return diagnosis
    with memory_advice(loaded.kind):
        suspicions = suspicions_of(experiment, predictor, sources, examined, session.track)
    return with_suspicions(diagnosis, suspicions, experiment.task.class_names)


def _refuse_records(data: Path, shard: Path | None, cause: DataError | None) -> None:
    """Raises UsageError where TFRecords were given: their spec names the images and the classes."""
    if shard is None:
        return
    what = f"a TFRecord file ({shard.name})" if shard != data else "a TFRecord file"
    raise UsageError(
        f"{data}: expected a folder of labels, a COCO file or a spec, found {what}: give the spec that "
        "reads it (tfrecords_path of Faster R-CNN, training_file_pattern of Mask R-CNN), or the folder "
        "that it was converted from"
    ) from cause


def findings_table(diagnosis: "Diagnosis"):
    """Returns the findings of a data set as a table for the console."""
    from rich.table import Table

    if not diagnosis.observations:
        return f"the doctor looked at {len(diagnosis.records)} images and found nothing wrong"
    table = Table(show_lines=False)
    for heading in ("severity", "finding", "what to do"):
        table.add_column(heading, overflow="fold")
    styles = {"error": "red", "warning": "yellow", "note": ""}
    for seen in diagnosis.observations:
        table.add_row(
            seen.kind.severity,
            seen.finding.sentence,
            seen.kind.advice,
            style=styles[seen.kind.severity],
        )
    return table
