"""Suspicious labels: where a model contradicts them with confidence, most suspicious first.

    a confident detection of another class on the object        the class is wrong
    a confident detection beside the object, none on it         the box is shifted
    a confident detection where no label is                     a label is missing
    a label that no detection comes near                        there is nothing

Source: Northcutt et al. 2021, "Confident Learning" (arXiv 1911.00068): labels are ranked by how far the
confidence of a model speaks against them. Scores take the place of its probabilities here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rcnn_jax.evaluate.matching import iou_matrix

Cause = Literal["class", "shifted", "missing", "nothing"]
ON = 0.5
"""IoU from which a detection is on an object."""
BESIDE = 0.1
"""IoU from which a detection is beside an object, and below which it has nothing to do with it."""
_NOTHING = 0.25
"""Suspicion of a label that nothing comes near: most often the model has missed a hard object."""
_MISSING = 0.5
"""Weight in the ranking of a detection where no label is: it may be an object, or a false detection.

A detection that contradicts a label on the same object is nearly always right. With one weight for all,
the first tenth of BCCD's suspicions held 72 of classes and boxes, each a planted error, among 316 of
missing labels, of which 30 were planted (experiments/label_errors).
"""
_LOOSE = 0.25
"""Weight of a box that fits badly, beside 1 for one that does not fit at all."""


@dataclass(frozen=True, kw_only=True)
class Suspicion:
    """One label that may be wrong, or one that may be missing.

    Attributes:
      image: number of the image.
      label: number of the object in the image; None where a label is missing.
      cause: what may be wrong.
      strength: in [0, 1].
      box: (y1, x1, y2, x2) that the model proposes; that of the label where it proposes none.
      proposed: class that the model proposes; -1 for none.
    """

    image: int
    label: int | None
    cause: Cause
    strength: float
    box: tuple[float, float, float, float]
    proposed: int = -1


@dataclass(frozen=True, eq=False, kw_only=True)
class Labelled:
    """Labels and detections of one image; boxes (y1, x1, y2, x2) in pixels.

    Attributes:
      boxes: f32[d 4] of the detections.
      scores: f32[d].
      classes: i32[d].
      gt_boxes: f32[m 4] of the labels.
      gt_classes: i32[m].
      gt_crowd: bool[m], regions of many: never suspicious, and nothing is missing inside.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    gt_boxes: np.ndarray
    gt_classes: np.ndarray
    gt_crowd: np.ndarray


def rank(images: Sequence[Labelled]) -> list[Suspicion]:
    """Returns every suspicion, most suspicious first; contradicted labels come before missing ones."""
    suspicions = [one for number, image in enumerate(images) for one in of_image(number, image)]
    return sorted(
        suspicions,
        key=lambda one: -one.strength * (_MISSING if one.cause == "missing" else 1.0),
    )


def of_image(number: int, image: Labelled) -> list[Suspicion]:
    """Returns the suspicions of one image.

    Args:
      number: of the image.
      image: its labels and detections.
    """
    order = np.argsort(-np.asarray(image.scores), kind="stable")
    boxes = np.asarray(image.boxes, np.float64).reshape(-1, 4)[order]
    scores, classes = np.asarray(image.scores)[order], np.asarray(image.classes)[order]
    labels = np.asarray(image.gt_boxes, np.float64).reshape(-1, 4)
    iou = iou_matrix(labels, boxes)
    own = np.asarray(image.gt_classes)[:, None] == classes[None, :]
    crowd = np.asarray(image.gt_crowd, bool)
    # What already stands for an object is no evidence of another one beside it.
    taken = np.asarray((iou >= ON).any(axis=0))
    in_crowd = np.asarray((_covered(boxes, labels[crowd]) >= ON).any(axis=1))
    suspicions, used = [], np.zeros(len(boxes), bool)
    for label in range(len(labels)):
        if crowd[label] or not (labels[label, 2:] > labels[label, :2]).all():
            continue
        one, detection = _of_label(iou[label], own[label], scores, taken)
        if one is None:
            continue
        cause, strength = one
        if detection is not None and cause == "shifted":
            used[detection] = True
        suspicions.append(
            Suspicion(
                image=number,
                label=label,
                cause=cause,
                strength=float(strength),
                box=_box(labels[label] if detection is None else boxes[detection]),
                proposed=-1 if detection is None else int(classes[detection]),
            )
        )
    kept: list[int] = []
    for detection in np.flatnonzero(~taken & ~used & ~in_crowd):
        # One proposal an object: the best of those that overlap each other, of whatever class.
        if kept and iou_matrix(boxes[detection : detection + 1], boxes[kept]).max() >= ON:
            continue
        kept.append(int(detection))
        # A detection that leans on a labelled object is more likely a part of it.
        near = float(iou[:, detection].max(initial=0.0))
        suspicions.append(
            Suspicion(
                image=number,
                label=None,
                cause="missing",
                strength=float(scores[detection] * (1.0 - near / ON)),
                box=_box(boxes[detection]),
                proposed=int(classes[detection]),
            )
        )
    return suspicions


def _of_label(
    iou: np.ndarray, own: np.ndarray, scores: np.ndarray, taken: np.ndarray
) -> tuple[tuple[Cause, float] | None, int | None]:
    """Returns ((cause, strength), detection) of a label, the first None where nothing speaks against it.

    Args:
      iou: [d] with every detection, best score first.
      own: bool[d], of the same class.
      scores: [d].
      taken: bool[d], on some object.
    """
    on = iou >= ON
    right = float(scores[on & own].max(initial=0.0))
    causes: list[tuple[Cause, float, int | None]] = []
    other = np.flatnonzero(on & ~own)
    if len(other):
        causes.append(("class", float(scores[other[0]]) * (1.0 - right), int(other[0])))
    beside = np.flatnonzero((iou >= BESIDE) & ~taken)
    if len(beside) and not right:
        # Full up to half of the limit, then falling to 0 there: a model that places boxes loosely is near
        # the limit often, a label that was shifted seldom.
        loose = min(2.0 * (1.0 - float(iou[beside[0]]) / ON), 1.0)
        causes.append(("shifted", float(scores[beside[0]]) * loose, int(beside[0])))
    if right:
        best = np.flatnonzero(on & own)[0]
        causes.append(("shifted", _LOOSE * right * (1.0 - float(iou[best])) / (1 - ON), int(best)))
    if not (iou >= BESIDE).any():
        causes.append(("nothing", _NOTHING, None))
    if not causes:
        return None, None
    cause, strength, detection = max(causes, key=lambda one: one[1])
    return (cause, strength), detection


def _covered(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Returns [n m]: the part of every box that lies in every region."""
    low = np.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0.0), axis=-1)
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-9), axis=-1)
    return common / area[:, None]


def _box(values: np.ndarray) -> tuple[float, float, float, float]:
    y1, x1, y2, x2 = values.tolist()
    return y1, x1, y2, x2
