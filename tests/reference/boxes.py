"""Slow readings of box arithmetic, in float32 and with the very expression of the library."""

import numpy as np


def area(box):
    y1, x1, y2, x2 = np.moveaxis(np.float32(box), -1, 0)
    return (y2 - y1) * (x2 - x1)


def iou(a, b):
    """Returns the IoU of boxes [... 4] that broadcast against each other."""
    a, b = np.float32(a), np.float32(b)
    top, left = np.maximum(a[..., 0], b[..., 0]), np.maximum(a[..., 1], b[..., 1])
    bottom, right = np.minimum(a[..., 2], b[..., 2]), np.minimum(a[..., 3], b[..., 3])
    inter = np.maximum(bottom - top, np.float32(0)) * np.maximum(right - left, np.float32(0))
    return inter / np.maximum(area(a) + area(b) - inter, np.float32(1e-9))


def iou_matrix(a, b):
    return iou(np.asarray(a)[:, None], np.asarray(b)[None, :])


def exact_boxes(rng, shape, size=64.0):
    """Random boxes on a grid of 1/16 pixel: their areas are exact in float32.

    IoUs then round in the division alone, so that no compiler can move one across a threshold.
    """
    first = rng.integers(0, int(size * 16), (*shape, 2)) / 16
    side = rng.integers(0, int(size * 8), (*shape, 2)) / 16
    return np.concatenate([first, first + side], axis=-1).astype(np.float32)
