"""Matching of detections with ground truth: IoU and greedy one-to-one matches, in NumPy.

Coordinates are continuous (area = height * width, no "+1"), and arithmetic is float64 so that a
comparison with a threshold means the same here as in pycocotools.
"""

import numpy as np


def iou_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the intersection over union of every box of `a` with every box of `b`.

    Args:
      a: [n 4] boxes (y1, x1, y2, x2).
      b: [m 4] boxes in the same coordinates.

    Returns:
      f64[n m] in [0, 1]; 0 where both boxes are empty.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    intersection = np.prod(np.maximum(bottom_right - top_left, 0.0), axis=-1)
    union = _area(a)[:, None] + _area(b)[None, :] - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0.0)


def best_overlaps(
    boxes: np.ndarray, classes: np.ndarray, gt_boxes: np.ndarray, gt_classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns for every box the ground truth of its class with the largest overlap.

    Ties go to the lower index.

    Args:
      boxes: [n 4].
      classes: [n] integers.
      gt_boxes: [m 4].
      gt_classes: [m] integers.

    Returns:
      (index i64[n], overlap f64[n]): index is -1 and overlap 0 where nothing of the class overlaps.
    """
    if len(boxes) == 0 or len(gt_boxes) == 0:
        return np.full(len(boxes), -1, np.int64), np.zeros(len(boxes))
    iou = iou_matrix(boxes, gt_boxes)
    # One matrix for all classes, 0 where they differ, in place of a loop over classes of a few boxes.
    iou[np.asarray(classes)[:, None] != np.asarray(gt_classes)[None, :]] = 0.0
    index = np.argmax(iou, axis=1)
    overlap = iou[np.arange(len(iou)), index]
    return np.where(overlap > 0.0, index, -1), overlap


def first_matches(matches: np.ndarray, count: int) -> np.ndarray:
    """Marks the first match of each object: greedy one-to-one matching in the given order.

    Args:
      matches: i64[n], object of each detection, best detection first; -1 for none.
      count: number of objects; matches are below it.

    Returns:
      bool[n], True where no detection before has the same object.
    """
    order = np.flatnonzero(matches >= 0)
    first = np.full(count, -1, np.int64)
    # Of a repeated index the last value written stays: written backwards, the first match.
    first[matches[order[::-1]]] = order[::-1]
    won = np.zeros(len(matches), bool)
    won[first[first >= 0]] = True
    return won


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=1)
