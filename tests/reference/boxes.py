"""Slow readings of box arithmetic, in float32 and with the expression that the library documents."""

import numpy as np


def area(box):
    y1, x1, y2, x2 = np.float32(box)
    return (y2 - y1) * (x2 - x1)


def iou(a, b):
    a, b = np.float32(a), np.float32(b)
    height = max(min(a[2], b[2]) - max(a[0], b[0]), np.float32(0))
    width = max(min(a[3], b[3]) - max(a[1], b[1]), np.float32(0))
    inter = height * width
    return inter / max(area(a) + area(b) - inter, np.float32(1e-9))


def iou_matrix(a, b):
    return np.array([[iou(p, q) for q in b] for p in a], np.float32).reshape(len(a), len(b))


def exact_boxes(rng, shape, size=64.0):
    """Random boxes on a grid of 1/16 pixel: their areas are exact in float32.

    IoUs then round in the division alone, so that no compiler can move one across a threshold.
    """
    first = rng.integers(0, int(size * 16), (*shape, 2)) / 16
    side = rng.integers(0, int(size * 8), (*shape, 2)) / 16
    return np.concatenate([first, first + side], axis=-1).astype(np.float32)
