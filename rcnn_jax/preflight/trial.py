"""What a few steps on four images tell: weights, rate, labels, export, memory and hours."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rcnn_jax.checkpoints.bundle import Bundle, write_bundle
from rcnn_jax.checkpoints.leaves import flatten
from rcnn_jax.checkpoints.state import model_header, variables_of
from rcnn_jax.data.loader.images import origin
from rcnn_jax.data.loader.pipeline import evaluation_batches
from rcnn_jax.data.sources.boxes import Source
from rcnn_jax.data.sources.subset import Subset
from rcnn_jax.diagnose import preflight
from rcnn_jax.diagnose.preflight import Check, failed
from rcnn_jax.errors import RcnnError
from rcnn_jax.evaluate import hypotheses
from rcnn_jax.evaluate.loop import detections_by_image
from rcnn_jax.evaluate.voc import ImageResult
from rcnn_jax.export.command import export
from rcnn_jax.export.plan import ExportOptions
from rcnn_jax.models.variables import layer_order
from rcnn_jax.runtime.bundle import jax_predictor, open_bundle
from rcnn_jax.structures import TrainState
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.train import overfit
from rcnn_jax.train.memory import device_limit
from rcnn_jax.train.overfit import Course

# As few as can be learnt by heart in minutes, as many as show that batches are put together
# rightly.
IMAGES = 4
MOST_BATCH = 4
"""Images of a step: larger batches of the spec are planned from it, for compiling one takes as long."""
LEARNING = 0.6
"""Part of the time after which no further step is begun; evaluation and export take the rest."""


@dataclass(frozen=True)
class Clock:
    """The time that a trial may take.

    Attributes:
      began: in seconds of `time.monotonic`.
      seconds: to take, about.
    """

    began: float
    seconds: float

    def left(self) -> float:
        """Returns the seconds left, below zero after the end."""
        return self.seconds - (time.monotonic() - self.began)


def few(source: Source) -> Subset:
    """Returns four images with objects: those with the most classes, then with the fewest objects."""
    ranked = []
    for record in range(len(source)):
        labels = source.annotation(record)
        classes = labels.classes[~labels.crowd]
        if len(classes):
            # Few objects are learnt sooner; many classes show a table of names that is shifted.
            ranked.append((-len(np.unique(classes)), len(classes), record))
    return Subset(source, [record for *_, record in sorted(ranked)[:IMAGES]])


def check_learning(
    experiment: Experiment,
    part: Subset,
    images: int,
    key: str | None,
    clock: Clock,
) -> list[Check]:
    """Returns answers about weights, rate, labels, export, memory and hours, as far as it gets.

    Args:
      experiment: of the spec.
      part: the images of the trial.
      images: in the whole training set.
      key: of encrypted weights to start from.
      clock: time of the whole preflight.

    Raises:
      RcnnError: the weights or an image cannot be read.
    """
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
        preflight.check_rate(
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
        if course.last < preflight.FELL * course.first and ap50 < preflight.LEARNT:
            sizes = [part.size(record) for record in range(len(part))]
            diagnosis = hypotheses.diagnose(results, sizes, names, experiment.geometry)
        checks.append(
            preflight.check_overfit(course.first, course.last, len(course.losses), len(part), ap50)
        )
        explained = preflight.check_evaluation(diagnosis)
        checks += [explained] if explained is not None else []
        checks.append(_check_export(experiment, learnt, clock))
    wanted = experiment.batch_per_device
    limit = device_limit(jax.local_devices()[0]) or None
    checks.append(preflight.check_memory(course.memory, course.batch, wanted, limit))
    checks.append(preflight.check_hours(course.seconds, course.batch, wanted, steps))
    return checks


def _check_weights(experiment: Experiment, state: TrainState, batch: Any) -> Check:
    """Compares the statistics that the starting weights bring with those of this data."""
    start, pixels = experiment.start, experiment.task.pixels
    order = layer_order(experiment.task.model, pixels.channels)
    statistics = state.collections.get("batch_stats")
    named = start.resume_from or start.pruned or start.pretrained
    stored = preflight.first_statistics(statistics, order) if named else None

    statistics_of = overfit.statistics_function(experiment, state) if stored is not None else None

    def measure(images: Any) -> Any:
        assert statistics_of is not None
        return preflight.first_statistics(statistics_of(batch.replace(images=images)), order)

    return preflight.check_weights(pixels, batch.images, stored, measure)


def _slower(
    experiment: Experiment, state: TrainState, part: Subset, course: Course, clock: Clock
) -> float | None:
    """Returns a tenth or a hundredth of a rate with which the loss falls; None where it does not."""
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


def _detections(experiment: Experiment, state: TrainState, part: Subset) -> Any:
    """Returns the detections of learnt weights in the images of the trial, with their labels."""
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


def _check_export(experiment: Experiment, state: TrainState, clock: Clock) -> Check:
    """Exports what was learnt, and lets the exporter compare ONNX Runtime with JAX."""
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
