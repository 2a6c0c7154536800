"""Labels that a model contradicts: its detections on the images of a spec, ranked by suspicion."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from rcnn_jax.data.sources.boxes import Source
from rcnn_jax.diagnose import kinds
from rcnn_jax.diagnose.checks import Example, Observations
from rcnn_jax.diagnose.records import Record
from rcnn_jax.evaluate.loop import rows_of
from rcnn_jax.evaluate.suspicions import Cause, Labelled, Suspicion, rank
from rcnn_jax.runtime.backend import Predictor
from rcnn_jax.tasks.experiment import Experiment

Track = Callable[[Iterable, int, str], Iterable]
CLEAR = 0.5
"""Suspicion from which a label is counted as a finding; weaker ones are ranked and not counted."""
KINDS = {
    "class": kinds.OTHER_CLASS,
    "shifted": kinds.ELSEWHERE,
    "missing": kinds.UNLABELLED,
    "nothing": kinds.NOTHING_THERE,
}


def suspicions_of(
    experiment: Experiment,
    predictor: Predictor,
    sources: Sequence[Source],
    records: Sequence[Record],
    track: Track,
) -> list[Suspicion]:
    """Returns the suspicions of all labels, most suspicious first.

    Args:
      experiment: geometry and batches.
      predictor: images on the canvas to detections.
      sources: the images, one source after the other.
      records: the same images with their labels.
      track: shows progress.
    """
    names = {name: number for number, name in enumerate(experiment.task.class_names)}
    images: list[Labelled] = []
    for source in sources:
        images += _of_source(experiment, predictor, source, records[len(images) :], names, track)
    return rank(images)


def observe(
    suspicions: Sequence[Suspicion], records: Sequence[Record], names: Sequence[str]
) -> Observations:
    """Returns the clear suspicions as observations of the doctor.

    Args:
      suspicions: most suspicious first, so that the first examples are the best.
      records: the images.
      names: of the classes.
    """
    seen = Observations()
    for one in suspicions:
        # What nothing comes near is never clear: the model may be blind for it.
        if one.strength < CLEAR and one.cause != "nothing":
            continue
        record = records[one.image]
        label = None if one.label is None else record.objects[one.label]
        where = (label.where if label is not None else "") or record.name
        detail = describe(one.cause, None if label is None else label.name, one.proposed, names)
        objects = () if one.label is None else (one.label,)
        example = Example(where, f"{detail} ({one.strength:.2f})", one.image, objects)
        seen.add(KINDS[one.cause], example)
    return seen


def describe(cause: Cause, label: str | None, proposed: int, names: Sequence[str]) -> str:
    """Returns a suspicion in words."""
    predicted = f"'{names[proposed]}'" if proposed >= 0 else ""
    return {
        "class": f"'{label}', the model says {predicted}",
        "shifted": f"'{label}', the model sees {predicted} beside the box",
        "missing": f"{predicted} without a label",
        "nothing": f"'{label}', the model sees nothing there",
    }[cause]


def _of_source(
    experiment: Experiment,
    predictor: Predictor,
    source: Source,
    records: Sequence[Record],
    names: dict[str, int],
    track: Track,
) -> list[Labelled]:
    rows = rows_of(experiment, predictor, source, batch=experiment.eval_batch)
    labels: dict[int, Labelled] = {}
    for batch, row, detections, _ in track(rows, len(source), "look for wrong labels"):
        index = int(batch.image_id[row])
        objects = records[index].objects
        labels[index] = Labelled(
            boxes=np.asarray(detections.boxes),
            scores=np.asarray(detections.scores),
            classes=np.asarray(detections.classes),
            gt_boxes=np.array([one.box for one in objects], np.float32).reshape(-1, 4),
            gt_classes=np.array([names[one.name] for one in objects], np.int32),
            # What the metric leaves out is hard to see: that a model misses it raises no suspicion.
            gt_crowd=np.array([one.crowd or one.difficult for one in objects], bool),
        )
    return [labels[index] for index in range(len(source))]
