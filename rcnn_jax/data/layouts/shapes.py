"""Outlines of shapes that labelling tools know and COCO does not: turned boxes, ellipses, mask windows.

Polygons are lists [[x, y, x, y, ...]] and masks run lengths of columns, both as COCO writes them.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rcnn_jax.data.formats.tfrecord import MOST_PIXELS
from rcnn_jax.data.layouts.collection import Box

Outline = list[list[float]]

_ELLIPSE_POINTS = 32


def polygon(points: Sequence[tuple[float, float]]) -> Outline:
    """Returns the outline of (x, y) points.

    Raises:
      ValueError: fewer than three enclose nothing.
    """
    if len(points) < 3:
        raise ValueError(f"{len(points)} points")
    return [[float(value) for point in points for value in point]]


def require_finite(box: Box) -> None:
    """Checks a box whose numbers may have overflown on the way.

    Raises:
      ValueError: a side is not finite.
    """
    if not all(map(math.isfinite, box)):
        raise ValueError(box)


def corners(outline: Outline) -> Box:
    """Returns (y1, x1, y2, x2) around an outline."""
    xs = [x for part in outline for x in part[::2]]
    ys = [y for part in outline for y in part[1::2]]
    return min(ys), min(xs), max(ys), max(xs)


def turned_box(box: Box, degrees: float, pivot: tuple[float, float]) -> Outline:
    """Returns the outline of a box that is turned clockwise on the screen.

    Args:
      box: before it is turned.
      degrees: of the turn.
      pivot: (y, x) that stays where it is.
    """
    y1, x1, y2, x2 = box
    return polygon(
        [_rotated(x, y, degrees, pivot) for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))]
    )


def ellipse(cy: float, cx: float, ry: float, rx: float, degrees: float = 0.0) -> Outline:
    """Returns 32 points of an ellipse that is turned clockwise around its centre."""
    angles = [2 * math.pi * n / _ELLIPSE_POINTS for n in range(_ELLIPSE_POINTS)]
    return polygon(
        [_rotated(cx + rx * math.cos(a), cy + ry * math.sin(a), degrees, (cy, cx)) for a in angles]
    )


def run_lengths(
    mask: np.ndarray, window: tuple[int, int, int, int], size: tuple[int, int]
) -> tuple[Box, dict[str, Any]]:
    """Returns box and uncompressed COCO run lengths of a mask that lies in a window of an image.

    Args:
      mask: [h w], not 0 inside the object.
      window: (y1, x1, y2, x2), whole pixels.
      size: (height, width) of the image.

    Raises:
      ValueError: the mask is empty, or the image is larger than any.
    """
    if size[0] * size[1] > MOST_PIXELS:
        raise ValueError(size)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise ValueError("empty mask")
    whole = np.zeros(size, bool)
    whole[window[0] : window[2], window[1] : window[3]] = mask != 0
    flat = whole.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    if flat[0]:  # the first run is background, perhaps of length 0
        counts = [0, *counts]
    box = (
        float(window[0] + rows[0]),
        float(window[1] + columns[0]),
        float(window[0] + rows[-1] + 1),
        float(window[1] + columns[-1] + 1),
    )
    return box, {"size": [int(side) for side in size], "counts": counts}


def _rotated(x: float, y: float, degrees: float, pivot: tuple[float, float]) -> tuple[float, float]:
    angle = math.radians(degrees)
    dy, dx = y - pivot[0], x - pivot[1]
    # y points down: this is clockwise on the screen.
    return (
        pivot[1] + dx * math.cos(angle) - dy * math.sin(angle),
        pivot[0] + dx * math.sin(angle) + dy * math.cos(angle),
    )
