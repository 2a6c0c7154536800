"""Anchor fit: best IoU of objects with anchors, and sizes that would fit better.

    sides of objects on the canvas x sizes of anchors -> best IoU of every object
    sides of objects -> k-means of their size and of their ratio -> scales and ratios

Training matches an object with anchors that overlap it; an object that no anchor reaches is hardly
learnt.
"""

from collections.abc import Mapping, Sequence

import numpy as np

REACHED = 0.5
"""IoU from which an anchor reaches an object."""

_MOST_OBJECTS = 20_000  # more do not change a fraction
# Means on a line settle long before; a fixed number needs no test for it.
_ROUNDS = 30
# In strides: the centres of four equal parts of the half stride between a cell and its border.
_OFFSETS = (1 / 16, 3 / 16, 5 / 16, 7 / 16)
_OCTAVE_SCALES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16)

CellSizes = Sequence[tuple[float, float]]
"""(height, width) in pixels of the anchors of a cell."""


def thinned(sides: np.ndarray) -> np.ndarray:
    """Returns at most 20,000 of the sides f32[n 2], evenly taken and always the same."""
    step = -(-len(sides) // _MOST_OBJECTS)
    # Every n-th, not a random sample: the advice for a data set must not change between starts.
    return sides[:: max(step, 1)].astype(np.float64)


def best_overlaps(
    sides: np.ndarray, cells: Mapping[int, CellSizes], offset: tuple[float, float] = (0.0, 0.0)
) -> np.ndarray:
    """Returns f64[n], the IoU of every object with the anchor that fits it best.

    Args:
      sides: [n 2], (height, width) of objects on the canvas.
      cells: stride in pixels -> anchors of its cells.
      offset: (y, x) from the centre of a cell to the centre of the object, in strides.
    """
    best = np.zeros(len(sides))
    for stride, sizes in cells.items():
        for size in sizes:
            # Overlap of two intervals whose centres are an offset apart, unless one holds the other.
            reach = (sides + size) / 2.0 - stride * np.asarray(offset)
            common = np.clip(np.minimum(np.minimum(sides, size), reach), 0.0, None).prod(axis=1)
            union = sides.prod(axis=1) + size[0] * size[1] - common
            best = np.maximum(best, common / union)
    return best


def unreached(sides: np.ndarray, cells: Mapping[int, CellSizes]) -> float:
    """Returns the fraction of objects that no anchor reaches, averaged over positions in a cell.

    An object is up to half a stride away from the nearest centre of a cell, in both directions: the
    fraction is the mean over sixteen such positions.
    """
    if not len(sides):
        return 0.0
    # Sixteen positions, not the centre of a cell alone: there anchors fit small objects that in
    # most images lie between two cells.
    missed = [
        (best_overlaps(sides, cells, (y, x)) < REACHED).mean() for y in _OFFSETS for x in _OFFSETS
    ]
    return float(np.mean(missed))


def fit_scales(sides: np.ndarray, count: int) -> tuple[float, ...]:
    """Returns side lengths of squares with the areas of objects, whole pixels, smallest first."""
    # Logarithms: twice as large and half as large are equally far for an IoU.
    scales = np.exp(_means(np.log(np.sqrt(sides.prod(axis=1))), count))
    # A set: objects of one size leave fewer means than asked for.
    return tuple(sorted({float(max(round(value), 1)) for value in scales}))


def fit_ratios(sides: np.ndarray, count: int) -> tuple[float, ...]:
    """Returns typical ratios width / height of objects, two digits, smallest first."""
    ratios = np.exp(_means(np.log(sides[:, 1] / sides[:, 0]), count))
    return tuple(sorted({float(f"{value:.2g}") for value in ratios}))


def fit_octaves(
    sides: np.ndarray, strides: Sequence[int], num_scales: int, ratios: Sequence[float]
) -> int:
    """Returns the base side, in cells, whose anchors on all levels miss the fewest objects.

    Args:
      sides: [n 2], (height, width) of objects.
      strides: of the levels.
      num_scales: octaves per level.
      ratios: width / height.
    """

    def missed(scale: int) -> float:
        return unreached(sides, octave_cells(scale, strides, num_scales, ratios))

    # Tried out, not fitted: one number decides over all levels, and ten candidates are quick.
    return min(_OCTAVE_SCALES, key=missed)


def octave_cells(
    scale: float, strides: Sequence[int], num_scales: int, ratios: Sequence[float]
) -> dict[int, list[tuple[float, float]]]:
    """Returns stride -> anchors of a pyramid whose base side is `scale` cells."""
    return {
        stride: [
            (side / ratio**0.5, side * ratio**0.5)
            for octave in range(num_scales)
            for side in (scale * stride * 2 ** (octave / num_scales),)
            for ratio in ratios
        ]
        for stride in strides
    }


def _means(values: np.ndarray, count: int) -> np.ndarray:
    """k-means of numbers on a line, begun at their quantiles; empty clusters are left out."""
    # Quantiles, not random starts: the same advice every time, and no mean begins in a gap.
    means = np.quantile(values, (np.arange(count) + 0.5) / count)
    for _ in range(_ROUNDS):
        nearest = np.abs(values[:, None] - means).argmin(axis=1)
        means = np.array([values[nearest == i].mean() for i in np.unique(nearest)])
    return means
