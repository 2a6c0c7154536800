"""Pictures of an evaluation: the worst images and the suspicious labels, with what is wrong marked."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rcnn_jax.data.sources.boxes import Source
from rcnn_jax.errors import DataError
from rcnn_jax.evaluate.analysis import Analysis, BadImage
from rcnn_jax.evaluate.masks import decode_window
from rcnn_jax.evaluate.matching import iou_matrix
from rcnn_jax.evaluate.suspicions import Suspicion
from rcnn_jax.report.page import Picture
from rcnn_jax.report.pictures import Color, Mark, around, thumbnail

_WORST, _SUSPECTS = 24, 36
_SIDE, _CROP = 340, 220
_RIGHT: Color = (70, 200, 110)
_FALSE: Color = (240, 60, 50)
_MISSED: Color = (255, 190, 0)
_LABEL: Color = (255, 255, 255)


class Budget:
    """Counts the bytes of pictures, so that a page stays one that can be mailed."""

    def __init__(self, left: int):
        self._left = left

    def take(self, jpeg: bytes) -> bool:
        """Says whether a picture still fits, and counts it."""
        self._left -= 4 * len(jpeg) // 3
        return self._left >= 0


def sentence_of(one: Suspicion, names: Sequence[str]) -> str:
    """Returns a suspicion as a caption."""
    proposed = f"'{names[one.proposed]}'" if one.proposed >= 0 else ""
    return {
        "class": f"is it {proposed}?",
        "shifted": f"box of {proposed} is elsewhere",
        "missing": f"{proposed} has no label",
        "nothing": "nothing is found there",
    }[one.cause]


def worst_pictures(analysis: Analysis, source: Source, budget: Budget) -> Iterator[Picture]:
    """Yields the images with the most errors, as long as the budget lasts."""
    for bad in analysis.worst[:_WORST]:
        record = analysis.evaluation.records[bad.image]
        try:
            image = source.image(record, "rgb")
        except DataError:  # it was whole a minute ago, and may be gone now
            continue
        jpeg = thumbnail(image, list(_marks(analysis, bad)), _SIDE)
        if not budget.take(jpeg):
            return
        name = Path(source.name(record)).name
        yield Picture(jpeg, f"{name}: {bad.missed} missed, {bad.false} false, {bad.hits} right")


def _marks(analysis: Analysis, bad: BadImage) -> Iterator[Mark]:
    """Yields the marks of an image: objects first, what is wrong on top."""
    image = analysis.evaluation.images[bad.image]
    shown = np.flatnonzero(np.asarray(image.scores) >= analysis.threshold)
    shown = shown[np.argsort(-np.asarray(image.scores)[shown], kind="stable")]
    iou = iou_matrix(image.boxes[shown], image.gt_boxes)
    iou[np.asarray(image.classes)[shown][:, None] != np.asarray(image.gt_classes)[None, :]] = 0.0
    free = np.ones(len(image.gt_boxes), bool)
    right = np.zeros(len(shown), bool)
    for row in range(len(shown)):
        best = int(np.argmax(iou[row] * free)) if len(free) else -1
        if best >= 0 and free[best] and iou[row, best] >= 0.5:
            right[row], free[best] = True, False
    crowd = np.asarray(image.gt_crowd, bool)
    outlines = analysis.evaluation.outlines
    predicted = None if outlines is None else outlines[bad.image].predicted
    truth = None if outlines is None else outlines[bad.image].truth
    for index, box in enumerate(image.gt_boxes):
        if not crowd[index]:
            missed = bool(free[index])
            rings = [] if truth is None else _rings(truth[index])
            yield Mark(
                tuple(box.tolist()), _MISSED if missed else _LABEL, 2 if missed else 1, rings
            )
    for good in (True, False):
        for row in np.flatnonzero(right == good):
            rings = [] if predicted is None else _rings(predicted[shown[row]])
            box = tuple(image.boxes[shown[row]].tolist())
            yield Mark(box, _RIGHT if good else _FALSE, 1 if good else 2, rings)


def suspect_pictures(analysis: Analysis, source: Source, budget: Budget) -> Iterator[Picture]:
    """Yields the suspicious labels, the strongest first, as long as the budget lasts."""
    evaluation = analysis.evaluation
    for number, one in enumerate(analysis.suspicions[:_SUSPECTS], start=1):
        if one.strength <= 0:
            return
        try:
            image = source.image(evaluation.records[one.image], "rgb")
        except DataError:
            continue
        picture = suspect(image, one, evaluation.images[one.image].gt_boxes, evaluation.class_names)
        if not budget.take(picture.jpeg):
            return
        yield Picture(picture.jpeg, f"{number}. {picture.caption}")


def suspect(image: np.ndarray, one: Suspicion, labels: np.ndarray, names: Sequence[str]) -> Picture:
    """Returns a suspicious label with its surroundings.

    Args:
      image: u8[h w 3], RGB.
      one: the suspicion.
      labels: f32[m 4], boxes of the labels of the image.
      names: of the classes.
    """
    marks = [
        Mark(tuple(box), _LABEL, 2 if index == one.label else 1)
        for index, box in enumerate(np.asarray(labels).tolist())
    ]
    boxes = [one.box]
    if one.label is not None:
        boxes.append(tuple(np.asarray(labels)[one.label].tolist()))
    if one.cause != "nothing":
        marks.append(Mark(one.box, _MISSED, 2))
    return Picture(thumbnail(image, marks, _CROP, around(boxes)), sentence_of(one, names))


def _rings(outline: Any) -> list[np.ndarray]:
    """Returns outlines i32[k 2] (x, y) of a mask in the forms of COCO."""
    if outline is None:
        return []
    if isinstance(outline, list):
        return [np.asarray(part, np.float64).reshape(-1, 2).astype(np.int32) for part in outline]
    window = decode_window(outline)
    if not window.pixels.size:
        return []
    contours, _ = cv2.findContours(
        np.ascontiguousarray(window.pixels, np.uint8),
        cv2.RETR_EXTERNAL,
        cv2.CHAIN_APPROX_SIMPLE,
        offset=(window.left, window.top),
    )
    return [np.asarray(ring).reshape(-1, 2) for ring in contours]
