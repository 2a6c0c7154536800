"""Anchor search: the fewest anchors that reach the objects of a data set, and what they reach.

    sides on the canvas -> one map | pyramid -> anchors -> coverage by size and shape

`anchor_fit` says how well given anchors fit; this chooses them for a new spec.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rcnn_jax.data.anchor_fit import (
    REACHED,
    CellSizes,
    best_overlaps,
    fit_ratios,
    fit_scales,
    octave_cells,
    unreached,
)

WANTED = 0.95
"""Fraction of objects that should have an anchor of IoU 0.5."""

STRETCHED = 8.0
"""Ratio of the sides from which an object is a wire or a row, which few anchors follow."""

BINS = (16.0, 32.0, 96.0)
"""Limits of size bins: square roots of areas on the canvas, in pixels."""

_MOST_SEARCHED = 300  # of a group; more change the second digit of a scale
_BALANCE = 4
_FEW = 0.01
# An anchor more per cell must reach so many more objects: each costs time, and negatives to learn.
_PRICE = 0.008
# In strides from the middle of a cell towards its corner, and their weights.
_PLACES = ((0.0, 0.4), (3 / 16, 0.2), (5 / 16, 0.2), (7 / 16, 0.2))
# Side of an anchor in cells of its level. Below two a cell sees no more than its neighbours do, and
# above eight the coarsest level alone would serve most objects.
_OCTAVE_SCALES = (2, 3, 4, 5, 6, 8)


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """Anchors of a detector.

    Attributes:
      scales: one map: sides of squares of their area, in pixels; pyramid: one base side, in cells.
      ratios: width / height.
      octaves: sizes per level; 1 on one map.
      cells: stride -> (height, width) of the anchors of a cell, in pixels.
    """

    scales: tuple[float, ...]
    ratios: tuple[float, ...]
    octaves: int = 1
    cells: Mapping[int, CellSizes]

    @property
    def per_cell(self) -> int:
        """Anchors of one cell."""
        return len(next(iter(self.cells.values())))


@dataclass(frozen=True)
class Coverage:
    """Coverage of one group of objects by anchors.

    Attributes:
      group: in words.
      objects: how many there are.
      fitted: fraction whose best anchor, in the same place, has an IoU of 0.5.
      reached: the same where they lie, averaged over positions in a cell.
    """

    group: str
    objects: int
    fitted: float
    reached: float


def on_one_map(sides: np.ndarray, stride: int, canvas: tuple[int, int]) -> Anchors:
    """Returns anchors of a single feature map.

    Args:
      sides: f[n 2], (height, width) of objects on the canvas; at least one.
      stride: of the map in pixels.
      canvas: (height, width).
    """
    searched = balanced(sides)
    # Smaller than a cell, neighbours of an object in one cell would share their anchor; larger than the
    # canvas, no object is.
    low, high = float(stride), float(max(canvas))

    def made(scale_count: int, ratio_count: int) -> Anchors:
        scales = tuple(
            sorted({min(max(scale, low), high) for scale in fit_scales(searched, scale_count)})
        )
        ratios = _ratios(searched, ratio_count)
        cells = [(scale / ratio**0.5, scale * ratio**0.5) for scale in scales for ratio in ratios]
        return Anchors(scales=scales, ratios=ratios, cells={stride: cells})

    return _best(sides, searched, (made(*counts) for counts in _counts(6, 4)))


def on_pyramid(sides: np.ndarray, strides: Sequence[int]) -> Anchors:
    """Returns anchors of a pyramid: one base side in cells, octaves and ratios for all levels.

    Args:
      sides: f[n 2], (height, width) of objects on the canvas; at least one.
      strides: of the levels.
    """
    searched = balanced(sides)

    def made(octaves: int, ratio_count: int) -> Anchors:
        ratios = _ratios(searched, ratio_count)
        cells = {scale: octave_cells(scale, strides, octaves, ratios) for scale in _OCTAVE_SCALES}
        best = min(cells, key=lambda scale: _missed(searched, cells[scale]))
        return Anchors(scales=(float(best),), ratios=ratios, octaves=octaves, cells=cells[best])

    return _best(sides, searched, (made(*counts) for counts in _counts(3, 5)))


def coverage(sides: np.ndarray, cells: Mapping[int, CellSizes]) -> list[Coverage]:
    """Returns the coverage of all objects, of every size bin and of stretched objects.

    Args:
      sides: f[n 2], (height, width) of objects on the canvas.
      cells: stride -> anchors of its cells.
    """
    size = np.sqrt(sides.prod(axis=1))
    edges = (0.0, *BINS, np.inf)
    groups = [("all", np.ones(len(sides), bool))]
    for low, high in itertools.pairwise(edges):
        text = f"{low:.0f} to {high:.0f} pixels" if np.isfinite(high) else f"from {low:.0f} pixels"
        groups.append((text, (size >= low) & (size < high)))
    groups.append((f"longer than 1:{STRETCHED:.0f}", _stretch(sides) > STRETCHED))
    rows = []
    for text, chosen in groups:
        if chosen.any():
            own = _thin(sides[chosen])
            fitted = float((best_overlaps(own, cells) >= REACHED).mean())
            rows.append(Coverage(text, int(chosen.sum()), fitted, 1 - unreached(own, cells)))
    return rows


def _ratios(sides: np.ndarray, count: int) -> tuple[float, ...]:
    """Returns ratios of objects; a single one that is nearly 1 is 1."""
    ratios = fit_ratios(sides, count)
    return (1.0,) if len(ratios) == 1 and 0.85 < ratios[0] < 1.18 else ratios


def balanced(sides: np.ndarray) -> np.ndarray:
    """Returns f64[m 2], a sample in which no group is outnumbered more than four times.

    Thousands of tiny objects would have all anchors, and the few large ones none, or the other way
    round. Groups are the size bins and what is longer than 1:8; those with less than a hundredth of the
    objects are left to chance: they may be mistakes.
    """
    size, stretched = np.sqrt(sides.prod(axis=1)), _stretch(sides) > STRETCHED
    groups = [
        ~stretched & (size >= low) & (size < high)
        for low, high in itertools.pairwise((0.0, *BINS, np.inf))
    ]
    groups.append(stretched)
    counts = [int(group.sum()) for group in groups]
    heard = [count for count in counts if count > max(_FEW * len(sides), 1)]
    most = min(min(heard, default=1) * _BALANCE, _MOST_SEARCHED)
    fraction = most / max(counts)
    return np.concatenate(
        [
            _thin(sides[group], most if count in heard else max(round(fraction * count), 1))
            for group, count in zip(groups, counts, strict=True)
        ]
    )


def _stretch(sides: np.ndarray) -> np.ndarray:
    return sides.max(axis=1) / np.maximum(sides.min(axis=1), 1e-6)


def _thin(sides: np.ndarray, most: int = 4 * _MOST_SEARCHED) -> np.ndarray:
    """Returns at most so many of the sides, evenly taken and always the same."""
    return sides[:: max(-(-len(sides) // max(most, 1)), 1)].astype(np.float64)


def _counts(most: int, most_ratios: int) -> list[tuple[int, int]]:
    """Returns (sizes, ratios) to try, fewest anchors first, and of equally many the more sizes."""
    pairs = itertools.product(range(1, most + 1), range(1, most_ratios + 1))
    return sorted(pairs, key=lambda pair: (pair[0] * pair[1], pair[1]))


def _best(sides: np.ndarray, searched: np.ndarray, candidates: Iterable[Anchors]) -> Anchors:
    """Returns the candidate that misses least, where every anchor of a cell has its price.

    Those that reach the wanted fraction of all objects come first.

    Args:
      sides: of all objects.
      searched: the balanced sample of them, which the price is weighed against.
      candidates: at least one.
    """
    every = _thin(sides, _MOST_SEARCHED)

    def cost(anchors: Anchors) -> tuple[bool, float]:
        enough = (best_overlaps(every, anchors.cells) >= REACHED).mean() >= WANTED
        return not enough, _missed(searched, anchors.cells) + _PRICE * anchors.per_cell

    return min(candidates, key=cost)


def _missed(sides: np.ndarray, cells: Mapping[int, CellSizes]) -> float:
    """Returns the fraction without an anchor of IoU 0.5, mostly of objects in the middle of a cell.

    Away from the middle small objects are missed whatever the anchors are: that alone would ask for ever
    more of them.
    """
    return sum(
        weight * float((best_overlaps(sides, cells, (position, position)) < REACHED).mean())
        for position, weight in _PLACES
    )
