"""Alignment of labels and detections: the classes, the scale and the shift under which they agree."""

from collections.abc import Sequence

import numpy as np

from rcnn_jax.evaluate.matching import iou_matrix
from rcnn_jax.evaluate.voc import ImageResult

_MOST_PAIRED = 30  # boxes of an image that take part in the search for a scale
_FEW = 12  # pairs of boxes below which a scale is noise


def best_permutation(images: Sequence[ImageResult], classes: int) -> list[int]:
    """Returns for every label the class under which the model finds its objects, all different.

    Args:
      images: detections and ground truth.
      classes: n.

    Returns:
      n classes; a label that no detection speaks for keeps its own where that is free.
    """
    votes = np.zeros((classes, classes))
    for image in images:
        if not len(image.boxes) or not len(image.gt_boxes):
            continue
        iou = iou_matrix(image.gt_boxes, image.boxes)
        strength = (iou >= 0.5) * np.asarray(image.scores)[None, :]
        best = strength.argmax(axis=1)
        strong = strength[np.arange(len(best)), best]
        np.add.at(votes, (image.gt_classes, np.asarray(image.classes)[best]), strong)
    order = [-1] * classes
    # Greedy instead of an optimal assignment: confusions that restore AP are clear, and ties are not.
    for index in np.argsort(-votes, axis=None, kind="stable"):
        label, predicted = divmod(int(index), classes)
        if votes[label, predicted] <= 0:
            break
        if order[label] < 0 and predicted not in order:
            order[label] = predicted
    free = [number for number in range(classes) if number not in order]
    for label in [number for number in range(classes) if order[number] < 0]:
        order[label] = label if label in free else free[0]
        free.remove(order[label])
    return order


def search_scale(
    images: Sequence[ImageResult], per: Sequence[np.ndarray]
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Returns the scale and the shift that lay the labels on the detections.

    Every pair of a label and a confident detection of an image votes for the scale between them, then for
    the shift: true pairs agree, others scatter.

    Args:
      images: detections and ground truth.
      per: f32[4] of every image: what its coordinates are divided by.

    Returns:
      ((y, x) scale, (y, x) shift in units of `per`), or None where too little agrees.
    """
    pairs = []
    for image, unit in zip(images, per, strict=True):
        if not len(image.boxes) or not len(image.gt_boxes):
            continue
        best = np.argsort(-image.scores, kind="stable")[: min(len(image.gt_boxes), _MOST_PAIRED)]
        detections, labels = image.boxes[best] / unit, image.gt_boxes[:_MOST_PAIRED] / unit
        first = np.repeat(labels, len(detections), axis=0)
        pairs.append(np.concatenate([first, np.tile(detections, (len(labels), 1))], axis=1))
    rows = np.concatenate(pairs) if pairs else np.zeros((0, 8))
    label_side, detection_side = rows[:, 2:4] - rows[:, 0:2], rows[:, 6:8] - rows[:, 4:6]
    usable = (label_side > 0).all(axis=1) & (detection_side > 0).all(axis=1)
    rows, label_side, detection_side = rows[usable], label_side[usable], detection_side[usable]
    if len(rows) < _FEW:
        return None
    ratios = np.log(detection_side / label_side)
    near = _around_mode(ratios, np.array([0.1, 0.1]))
    scale = np.exp(np.median(ratios[near], axis=0))
    label_centre = (rows[:, 0:2] + rows[:, 2:4]) / 2
    detection_centre = (rows[:, 4:6] + rows[:, 6:8]) / 2
    cell = np.median(detection_side[near], axis=0) / 3
    for _ in range(3):
        gaps = (detection_centre - scale * label_centre)[near]
        agree = _around_mode(gaps, cell)
        if agree.sum() < _FEW:
            return None
        shift = np.median(gaps[agree], axis=0)
        # Again from the pairs that agree: positions of objects tell the scale over the whole image, their
        # sides only over themselves.
        one, other = label_centre[near][agree], detection_centre[near][agree]
        spread = one.std(axis=0)
        slope = ((one - one.mean(0)) * (other - other.mean(0))).mean(0) / np.maximum(
            spread, 1e-9
        ) ** 2
        scale = np.where((spread > cell) & (slope > 0), slope, scale)
        shift = np.median(other - scale * one, axis=0)
    return (float(scale[0]), float(scale[1])), (float(shift[0]), float(shift[1]))


def _around_mode(values: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Returns bool[n]: the points in the fullest cell of a grid, and around it.

    Args:
      values: [n 2].
      cell: [2], sides of a cell.
    """
    keys = np.floor(values / np.maximum(cell, 1e-9)).astype(np.int64)
    cells, counts = np.unique(keys, axis=0, return_counts=True)
    mode = cells[counts.argmax()]
    return (np.abs(keys - mode) <= 1).all(axis=1)
