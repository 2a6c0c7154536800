"""Changes of boxes and classes, each of which undoes a mistake in how labels or detections are read.

    ImageResult, (height, width) of the image -> ImageResult

`evaluate/hypotheses.py` tries them one by one and names the one that restores average precision.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from rcnn_jax.evaluate.voc import ImageResult

Size = tuple[int, int]
Change = Callable[[ImageResult, Size], ImageResult]


def changed(
    images: Sequence[ImageResult], sizes: Sequence[Size], change: Change
) -> list[ImageResult]:
    """Returns the images with a change applied to each; sizes are (height, width)."""
    return [change(image, size) for image, size in zip(images, sizes, strict=True)]


def move_labels(move: Callable[[np.ndarray, Size], np.ndarray]) -> Change:
    """Returns the change that moves the boxes of the labels, f32[n 4]."""
    return lambda image, size: replace(image, gt_boxes=_sound(move(image.gt_boxes, size)))


def move_detections(move: Callable[[np.ndarray, Size], np.ndarray]) -> Change:
    """Returns the change that moves the boxes of the detections, f32[n 4]."""
    return lambda image, size: replace(image, boxes=_sound(move(image.boxes, size)))


def relabelled(order: Sequence[int]) -> Change:
    """Returns the change that gives label i the class order[i]."""
    table = np.asarray(order)
    return lambda image, _: replace(image, gt_classes=table[np.asarray(image.gt_classes, np.int64)])


def _sound(boxes: np.ndarray) -> np.ndarray:
    return np.nan_to_num(np.asarray(boxes, np.float32), posinf=1e9, neginf=-1e9)


def unsound(boxes: Sequence[np.ndarray], sizes: Sequence[Size]) -> float:
    """Returns the fraction of boxes that have no area or reach more than two pixels out of the image."""
    rows = np.concatenate(boxes)
    limit = np.concatenate(
        [np.tile(np.asarray(size), (len(b), 1)) for b, size in zip(boxes, sizes, strict=True)]
    )
    outside = (rows[:, :2] < -2).any(axis=1) | (rows[:, 2:] > limit + 2).any(axis=1)
    empty = (rows[:, 2:] <= rows[:, :2]).any(axis=1)
    return float(np.mean(outside | empty)) if len(rows) else 0.0


def from_size(boxes: np.ndarray, _: Size) -> np.ndarray:
    """Returns corners of boxes (y, x, height, width)."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def to_size(boxes: np.ndarray, _: Size) -> np.ndarray:
    """Returns (y, x, height, width) of boxes that are corners."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def turn_180(b: np.ndarray, size: Size) -> np.ndarray:
    """Returns boxes of a picture turned upside down."""
    h, w = size
    return np.stack([h - b[:, 2], w - b[:, 3], h - b[:, 0], w - b[:, 1]], axis=1)


def turn_90(b: np.ndarray, size: Size) -> np.ndarray:
    """Returns boxes of a picture turned clockwise."""
    # The labels are those of the picture turned clockwise, of `h` columns: its y runs along our x.
    return np.stack([size[0] - b[:, 3], b[:, 0], size[0] - b[:, 1], b[:, 2]], axis=1)


def turn_270(b: np.ndarray, size: Size) -> np.ndarray:
    """Returns boxes of a picture turned counterclockwise."""
    return np.stack([b[:, 1], size[1] - b[:, 2], b[:, 3], size[1] - b[:, 0]], axis=1)
