"""Evidence of edges: whether boxes lie on what is in the pictures, without a model.

The outline of an object is where a picture changes. So the sides of good boxes run along larger gradients
than those of the same boxes moved away. Over some hundred boxes the place with the largest gradients is
where the labels belong; where that is elsewhere, they are shifted, swapped or mirrored.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

MOST_BOXES = 800
_POINTS = 12  # of a side
_REACH = 8  # steps of the search to each side; a step is an eighth of the typical box
_SURE = 6.0  # standard errors
_SURE_OF_MANY = 7.0  # the best of a hundred places is far from the mean by chance
_GAIN = 0.04  # of the mean rank of the gradient under the boxes
_LEAST_SHIFT = 2  # steps
_LEAST_BOXES = 20


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Position of the labels, by the edges of the pictures.

    Attributes:
      cause: what is wrong with them; empty where they are in their place.
      gain: by how much the gradient under the sides grows when it is undone, as a fraction.
      boxes: number of boxes that were looked at.
    """

    cause: str
    gain: float
    boxes: int


def placement(images: Sequence[np.ndarray], boxes: Sequence[np.ndarray]) -> Placement | None:
    """Returns where labels belong; None for too few boxes to tell.

    Args:
      images: u8[h w 3] each.
      boxes: f32[m 4] (y1, x1, y2, x2) of every image, in its pixels.
    """
    kept, total = [], 0
    for image, own in zip(images, boxes, strict=True):
        sound = _usable(own, image.shape[:2])
        if len(sound) and total < MOST_BOXES:
            kept.append((_gradient(image), sound))
            total += len(sound)
    maps, usable = [pair[0] for pair in kept], [pair[1] for pair in kept]
    count = sum(map(len, usable))
    if count < _LEAST_BOXES:
        return None
    sides = np.concatenate([np.sqrt((b[:, 2:] - b[:, :2]).prod(axis=1)) for b in usable])
    step = max(float(np.median(sides)) / 8, 1.0)
    here = _strength(maps, usable, lambda b, shape: b)
    best: tuple[float, str] = (0.0, "")
    for name, change in _MOVES.items():
        there = _strength(maps, usable, change)
        gain = _clear_gain(here, there)
        if gain > best[0]:
            best = (gain, f"{name} the boxes fit the pictures better")
    dy, dx = _best_step(maps, usable, step)
    # Steps to the next place: an object that is sharp on one side alone pulls all boxes a little.
    if max(abs(dy), abs(dx)) >= _LEAST_SHIFT:
        there = _strength(maps, usable, _moved(dy * step, dx * step))
        gain = _clear_gain(here, there, _SURE_OF_MANY)
        if gain > best[0]:
            shift = f"{dx * step:+.0f} pixels in x and {dy * step:+.0f} in y"
            best = (gain, f"moved by {shift} the boxes fit the pictures better")
    return Placement(cause=best[1], gain=best[0], boxes=count)


def _best_step(
    maps: Sequence[np.ndarray], boxes: Sequence[np.ndarray], step: float
) -> tuple[int, int]:
    """Returns the (y, x) steps after which the boxes lie on the largest gradients."""

    def strength(dy: int, dx: int) -> float:
        return float(np.nanmean(_strength(maps, boxes, _moved(dy * step, dx * step))))

    # Every second place first: the profile is as wide as an edge is blurred, and a quarter as many places
    # take a quarter of the time.
    coarse = range(-_REACH, _REACH + 1, 2)
    dy, dx = max(((y, x) for y in coarse for x in coarse), key=lambda move: strength(*move))
    near = [(dy + y, dx + x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return max(near, key=lambda move: strength(*move))


def _moved(dy: float, dx: float) -> "Move":
    return lambda b, shape: b + np.array([dy, dx, dy, dx])


def _swapped(b: np.ndarray, _: tuple[int, ...]) -> np.ndarray:
    return b[:, [1, 0, 3, 2]]


def _mirrored(b: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.stack([b[:, 0], shape[1] - b[:, 3], b[:, 2], shape[1] - b[:, 1]], axis=1)


def _upside_down(b: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.stack([shape[0] - b[:, 2], b[:, 1], shape[0] - b[:, 0], b[:, 3]], axis=1)


Move = Callable[[np.ndarray, tuple[int, ...]], np.ndarray]
_MOVES: dict[str, Move] = {
    "with x and y swapped": _swapped,
    "mirrored left to right": _mirrored,
    "mirrored top to bottom": _upside_down,
}


def _clear_gain(here: np.ndarray, there: np.ndarray, sure: float = _SURE) -> float:
    """Returns the gain as a fraction where it is beyond chance, else 0."""
    both = np.isfinite(here) & np.isfinite(there)
    if both.sum() < _LEAST_BOXES:
        return 0.0
    change = there[both] - here[both]
    error = float(change.std()) / np.sqrt(len(change)) + 1e-9
    gain = float(change.mean() / max(here[both].mean(), 1e-9))
    return gain if change.mean() / error > sure and gain > _GAIN else 0.0


def _strength(maps: Sequence[np.ndarray], boxes: Sequence[np.ndarray], move: Move) -> np.ndarray:
    """Returns f64[n]: mean gradient under the sides of every box; NaN where it leaves the picture."""
    strengths = []
    # The middle of each side: round objects touch their box there, and nowhere near its corners.
    part = 0.3 + 0.4 * (np.arange(_POINTS) + 0.5) / _POINTS
    for gradient, own in zip(maps, boxes, strict=True):
        if not len(own):
            continue
        y1, x1, y2, x2 = move(own, gradient.shape).T[:, :, None]
        ys, xs = y1 + (y2 - y1) * part, x1 + (x2 - x1) * part
        flat = np.zeros_like(part)
        rows = np.concatenate([y1 + flat, y2 - 1 + flat, ys, ys], axis=1)
        columns = np.concatenate([xs, xs, x1 + flat, x2 - 1 + flat], axis=1)
        rows, columns = np.rint(rows).astype(int), np.rint(columns).astype(int)
        height, width = gradient.shape
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        values = gradient[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)]
        mean = np.where(inside, values, 0).sum(axis=1) / np.maximum(inside.sum(axis=1), 1)
        strengths.append(np.where(inside.mean(axis=1) > 0.75, mean, np.nan))
    return np.concatenate(strengths)


def _gradient(image: np.ndarray) -> np.ndarray:
    """Returns f32[h w]: rank of the gradient in its picture, in [0, 1]."""
    gray = image if image.ndim == 2 else image.mean(axis=2)
    gray = cv2.GaussianBlur(gray.astype(np.float32), (0, 0), 1.2)
    strength = np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))
    # Ranks: the sharpest edges of a picture, often inside its objects, would outvote all others.
    limits = np.quantile(strength[::3, ::3], np.linspace(0, 1, 65)[1:-1])
    return (np.searchsorted(limits, strength) / len(limits)).astype(np.float32)


def _usable(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    inside = (boxes[:, :2] >= -1).all(axis=1) & (boxes[:, 2:] <= np.array(shape) + 1).all(axis=1)
    return boxes[(sides >= 4).all(axis=1) & inside]
