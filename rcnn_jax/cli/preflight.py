"""`preflight`: go or no-go for a spec, within minutes, before hours are spent on it.

    data -> anchors, pixels, labels -> weights -> overfit of four images -> evaluation -> export -> plan

What needs no program to be compiled comes first, and a no-go there ends it.
"""

import argparse
import contextlib
import json
import os
import tempfile
import time
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcnn_jax.cli.flags import KEY_VARIABLE, existing_file
from rcnn_jax.cli.outputs import CommandPaths
from rcnn_jax.cli.session import Session, memory_advice
from rcnn_jax.errors import RcnnError, UsageError

if TYPE_CHECKING:
    from rcnn_jax.data.sources.boxes import Source
    from rcnn_jax.data.sources.subset import Subset
    from rcnn_jax.diagnose.preflight import Check, Preflight
    from rcnn_jax.structures import TrainState
    from rcnn_jax.tasks.experiment import Experiment
    from rcnn_jax.train.overfit import Course

MINUTES = 3.0
# As few as can be learnt by heart in minutes, as many as show that batches are put together
# rightly.
IMAGES = 4
MOST_BATCH = 4
"""Images of a step: larger batches of the spec are planned from it, for compiling one takes as long."""
LEARNING = 0.6
"""Part of the time after which no further step is begun; evaluation and export take the rest."""
LOOKED_AT = 80
"""Images whose edges are compared with their boxes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `preflight`."""
    parser.add_argument("spec", type=Path, metavar="SPEC", help="spec of a detector")
    parser.add_argument(
        "--minutes",
        type=float,
        default=MINUTES,
        metavar="M",
        help=f"time to take, at most about this much (default: {MINUTES:g})",
    )
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="write the answers")
    parser.add_argument(
        "-k",
        "--key",
        metavar="KEY",
        help=f"key of encrypted weights (default: ${KEY_VARIABLE}, then enc_key of the spec)",
    )


def paths(args: Namespace) -> CommandPaths:
    """Lists the paths of the command's inputs and outputs."""
    known = CommandPaths()
    known.read("SPEC", args.spec)
    known.write("--json", args.json)
    return known


def run(args: Namespace) -> int:
    """Answers; returns 0 for go and 2 for no-go.

    Raises:
      RcnnError: the flags, the spec or the data are at fault.
    """
    if not args.minutes > 0:
        raise UsageError(f"--minutes {args.minutes:g}: expected more than 0")
    from rcnn_jax.checkpoints.atomic import write_file
    from rcnn_jax.cli.compilations import keep_compilations
    from rcnn_jax.spec.load import load_spec
    from rcnn_jax.spec.render import redact, written_key
    from rcnn_jax.tasks.build import build_experiment

    keep_compilations()
    with Session("preflight", status_folder=None) as session:
        loaded = load_spec(existing_file(args.spec, "SPEC"), None, "train")
        if loaded.kind == "dataset_convert":
            raise UsageError(f"{args.spec}: expected the spec of a detector")
        for warning in loaded.warnings:
            session.warn(warning)
        key = args.key or os.environ.get(KEY_VARIABLE) or written_key(loaded.config) or None
        with memory_advice(loaded.kind):
            experiment = build_experiment(redact(loaded.config), loaded.kind)
            result = preflight(experiment, key, 60 * args.minutes, session)
        session.console.print(_table(result))
        style = "green" if result.go else "red"
        session.console.print(result.sentence(), markup=False, style=style)
        if args.json is not None:
            write_file(args.json, [(json.dumps(result.to_json(), indent=2) + "\n").encode()])
    return 0 if result.go else 2


def preflight(
    experiment: "Experiment", key: str | None, seconds: float, session: Session
) -> "Preflight":
    """Returns the answers for an experiment.

    Args:
      experiment: of the spec.
      key: of encrypted weights to start from.
      seconds: to take, about.
      session: console.

    Raises:
      RcnnError: the data or the weights cannot be used.
    """
    from rcnn_jax.data.sources.tiles import tiled
    from rcnn_jax.diagnose import preflight as preflight_checks

    clock = _Clock(time.monotonic(), seconds)
    source = tiled(experiment.train_source(), experiment.tiling)
    checks = _check_data(experiment, source, session)
    # A step takes long to compile, and would say nothing that the data have not.
    if any(check.outcome == "no-go" for check in checks):
        return preflight_checks.merged(checks)
    part = _few(source)
    session.console.print(f"overfit of {len(part)} images", markup=False)
    checks += _check_learning(experiment, part, len(source), key, clock)
    return preflight_checks.merged(checks)


@dataclass(frozen=True)
class _Clock:
    began: float
    seconds: float

    def left(self) -> float:
        return self.seconds - (time.monotonic() - self.began)


def _check_data(experiment: "Experiment", source: "Source", session: Session) -> "list[Check]":
    """Answers what the data and the numbers of the spec tell, without a program being compiled."""
    import numpy as np

    from rcnn_jax.data.loader.images import apply_boxes, fit
    from rcnn_jax.diagnose import edges
    from rcnn_jax.diagnose import preflight as preflight_checks
    from rcnn_jax.errors import DataError
    from rcnn_jax.tasks.anchor_advice import anchor_advice

    settings = experiment.task.settings
    sides = []
    for record in range(len(source)):
        labels = source.annotation(record)
        with contextlib.suppress(DataError):  # a crop that leaves nothing: training says so
            # Sizes from headers, labels from files: no image is decoded for the anchors.
            matrix = fit(source.size(record), experiment.geometry).matrix
            boxes = apply_boxes(labels.boxes[~labels.crowd], matrix)
            sides.append(boxes[:, 2:] - boxes[:, :2])
    every = np.concatenate(sides) if sides else np.zeros((0, 2), np.float32)
    every = every[(every > 0).all(axis=1)]
    advice = ""
    if len(every):
        advice = anchor_advice(experiment.spec.fields, experiment.kind, settings, every).text
    cells = {2**level: sizes for level, sizes in settings.cell_sizes}
    checks = [
        preflight_checks.check_anchors(every, cells, advice),
        preflight_checks.check_pixels(experiment.task.pixels),
    ]
    # Evenly over the set: the first images may be of one source.
    chosen = np.unique(np.linspace(0, len(source) - 1, min(LOOKED_AT, len(source))).astype(int))
    images, boxes = [], []
    for record in session.track(chosen.tolist(), len(chosen), "compare boxes with edges"):
        labels = source.annotation(record)
        images.append(source.image(record, "rgb"))
        boxes.append(labels.boxes[~labels.crowd])
    checks.append(preflight_checks.check_labels(edges.placement(images, boxes)))
    return checks


def _few(source: "Source") -> "Subset":
    """Returns four images with objects: those with the most classes, then with the fewest objects."""
    import numpy as np

    from rcnn_jax.data.sources.subset import Subset

    ranked = []
    for record in range(len(source)):
        labels = source.annotation(record)
        classes = labels.classes[~labels.crowd]
        if len(classes):
            # Few objects are learnt sooner; many classes show a table of names that is shifted.
            ranked.append((-len(np.unique(classes)), len(classes), record))
    return Subset(source, [record for *_, record in sorted(ranked)[:IMAGES]])


def _check_learning(
    experiment: "Experiment",
    part: "Subset",
    images: int,
    key: str | None,
    clock: _Clock,
) -> "list[Check]":
    """Answers what a few steps tell."""
    from rcnn_jax.diagnose import preflight as preflight_checks
    from rcnn_jax.evaluate import hypotheses
    from rcnn_jax.train import overfit

    batch = min(experiment.batch_per_device, MOST_BATCH)
    experiment, state = overfit.prepare(experiment, key=key)
    first = next(overfit.batches_of(experiment, part, batch))
    checks = [_check_weights(experiment, state, first)]
    # Wrong statistics look like a wrong rate a minute later.
    if checks[0].outcome == "no-go":
        return checks
    # The highest of the schedule: what diverges there would otherwise do so only after the warm-up.
    rate, _, steps = overfit.highest_rate(experiment, images)
    budget = LEARNING * clock.seconds

    def goes_on(taken: int, step_seconds: float) -> bool:
        del taken
        return clock.left() - step_seconds > clock.seconds - budget

    course = overfit.overfit(
        experiment, state, part, rate=rate, batch=batch, goes_on=goes_on, most=400
    )
    # Only where it exploded, as every further rate is a further run.
    slower = _slower(experiment, state, part, course, clock) if course.exploded else None
    checks.append(
        preflight_checks.check_rate(
            rate, course.exploded, course.first, course.last, len(course.losses), slower
        )
    )
    if not course.exploded:
        learnt = course.state.replace(
            collections=overfit.settled(experiment, course.state, first), ema=None
        )
        results = _detections(experiment, learnt, part)
        names = experiment.task.class_names
        ap50 = hypotheses.mean_ap50(results, len(names))
        diagnosis = None
        # The losses fall and nothing is found: the fault lies between them, in labels or boxes.
        if course.last < preflight_checks.FELL * course.first and ap50 < preflight_checks.LEARNT:
            sizes = [part.size(record) for record in range(len(part))]
            diagnosis = hypotheses.diagnose(results, sizes, names, experiment.geometry)
        checks.append(
            preflight_checks.check_overfit(
                course.first, course.last, len(course.losses), len(part), ap50
            )
        )
        explained = preflight_checks.check_evaluation(diagnosis)
        checks += [explained] if explained is not None else []
        checks.append(_check_export(experiment, learnt, clock))
    wanted = experiment.batch_per_device
    checks.append(preflight_checks.check_memory(course.memory, course.batch, wanted, _memory()))
    checks.append(preflight_checks.check_hours(course.seconds, course.batch, wanted, steps))
    return checks


def _check_weights(experiment: "Experiment", state: "TrainState", batch: Any) -> "Check":
    """Compares the statistics that the starting weights bring with those of this data."""
    from rcnn_jax.diagnose import preflight as preflight_checks
    from rcnn_jax.models.variables import layer_order
    from rcnn_jax.train import overfit

    start, pixels = experiment.start, experiment.task.pixels
    order = layer_order(experiment.task.model, pixels.channels)
    statistics = state.collections.get("batch_stats")
    named = start.resume_from or start.pruned or start.pretrained
    stored = preflight_checks.first_statistics(statistics, order) if named else None

    statistics_of = overfit.statistics_function(experiment, state) if stored is not None else None

    def measure(images: Any) -> Any:
        assert statistics_of is not None
        return preflight_checks.first_statistics(statistics_of(batch.replace(images=images)), order)

    return preflight_checks.check_weights(pixels, batch.images, stored, measure)


def _slower(
    experiment: "Experiment", state: "TrainState", part: "Subset", course: "Course", clock: _Clock
) -> float | None:
    """Returns a tenth or a hundredth of a rate with which the loss falls; None where it does not."""
    from rcnn_jax.train import overfit

    # A rate is wrong by powers of ten: by a batch that was meant, or a digit.
    for factor in (0.1, 0.01):
        again = overfit.overfit(
            experiment,
            state,
            part,
            rate=course.rate * factor,
            batch=course.batch,
            goes_on=lambda taken, seconds: taken < 2 * overfit.RISE and clock.left() > 0,
        )
        if not again.exploded and again.last < again.first:
            return course.rate * factor
    return None


def _detections(experiment: "Experiment", state: "TrainState", part: "Subset") -> Any:
    """Returns the detections of learnt weights in the images of the trial, with their labels."""
    import numpy as np

    from rcnn_jax.checkpoints.state import variables_of
    from rcnn_jax.data.loader.images import origin
    from rcnn_jax.data.loader.pipeline import evaluation_batches
    from rcnn_jax.evaluate.loop import detections_by_image
    from rcnn_jax.evaluate.voc import ImageResult
    from rcnn_jax.runtime.bundle import jax_predictor

    predictor = jax_predictor(experiment, experiment.evaluation)(variables_of(state))
    batches = evaluation_batches(
        part,
        experiment.geometry,
        None,
        experiment.task.pixels.channel_order,
        batch=min(experiment.eval_batch, len(part)),
        threads=1,
        prefetch=1,
    )
    results: dict[int, ImageResult] = {}
    for batch, row, detections, _ in detections_by_image(
        predictor, batches, origin(experiment.geometry)
    ):
        record = int(batch.image_id[row])
        labels = part.annotation(record)
        results[record] = ImageResult(
            boxes=np.asarray(detections.boxes),
            scores=np.asarray(detections.scores),
            classes=np.asarray(detections.classes),
            gt_boxes=labels.boxes,
            gt_classes=labels.classes,
            gt_crowd=labels.crowd,
        )
    return [results[record] for record in sorted(results)]


def _check_export(experiment: "Experiment", state: "TrainState", clock: _Clock) -> "Check":
    """Exports what was learnt, and lets the exporter compare ONNX Runtime with JAX."""
    from rcnn_jax.checkpoints.bundle import Bundle, write_bundle
    from rcnn_jax.checkpoints.leaves import flatten
    from rcnn_jax.checkpoints.state import model_header
    from rcnn_jax.diagnose.preflight import Check, failed
    from rcnn_jax.export.command import export
    from rcnn_jax.export.plan import ExportOptions
    from rcnn_jax.runtime.bundle import open_bundle

    # Skipped and said so, for an answer within the time was promised.
    if clock.left() < 0.1 * clock.seconds:
        return Check(
            name="export", outcome="skipped", sentence="no time was left for it (--minutes)"
        )
    arrays = flatten(state.params, "params")
    for name, tree in state.collections.items():
        arrays |= flatten(tree, name)
    # A real file through the real exporter: what is tested is what will be run.
    with tempfile.TemporaryDirectory(prefix="preflight-") as folder:
        model = Path(folder) / "model.tlt"
        write_bundle(model, Bundle(experiment.kind, model_header(experiment), arrays), None)
        try:
            options = ExportOptions(output=Path(folder) / "model.onnx")
            result = export(open_bundle(model, None), experiment, options)
        except RcnnError as error:
            return failed("export", error, "Train all the same only if no export is wanted")
        size = result.output.stat().st_size / 2**20
    return Check(
        name="export",
        outcome="go",
        sentence=f"ONNX Runtime finds what JAX finds ({size:.0f} MiB of ONNX)",
    )


def _memory() -> int | None:
    """Returns the bytes that a step may take: of the device, or free on a machine without one."""
    import jax

    device: Any = jax.local_devices()[0]
    if device.platform != "cpu":
        with contextlib.suppress(Exception):  # a backend that does not say
            return int((device.memory_stats() or {})["bytes_limit"])
        return None
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _table(result: "Preflight"):
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_lines=False)
    for heading in ("check", "answer", "what was seen"):
        table.add_column(heading, overflow="fold")
    styles = {"go": "green", "caution": "yellow", "no-go": "red", "skipped": "dim"}
    for check in result.checks:
        text = check.sentence + (f". {check.advice}" if check.advice else "")
        table.add_row(check.name, check.outcome, escape(text), style=styles[check.outcome])
    return table
