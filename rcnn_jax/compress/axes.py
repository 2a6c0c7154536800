"""Axes of a traced value: which channels their indices are, and how a reshape moves them."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

Axis = np.ndarray | str
"""Channels i32[n] by index; or UNIFORM: the same value at every index, as after broadcasting; or FIXED:
other values at every index, of which none is a channel."""
Axes = tuple[Axis, ...]

UNIFORM = "uniform"
FIXED = "fixed"


def channels_of(axis: Axis) -> np.ndarray | None:
    """Returns the channels of an axis, or None where it has none."""
    return axis if isinstance(axis, np.ndarray) else None


def reshaped(axes: Axes, old: Sequence[int], new: Sequence[int]) -> tuple[Axes, list[Axis]]:
    """Returns the axes of a value after a reshape, and those whose channels it tears apart.

    Channels merged with other axes are repeated, in the order of the elements; an axis that is split
    keeps its channels on the one new axis along which they change.

    Args:
      axes: of the value.
      old: its shape.
      new: its shape afterwards, of as many elements.
    """
    result: list[Axis] = []
    stuck: list[Axis] = []
    for before, after in _blocks(old, new):
        inner = [axes[i] for i in before]
        sizes = [new[i] for i in after]
        # Nothing is split or merged here, also where the axis holds no channels.
        if len(before) == len(after) == 1:
            result.append(inner[0])
            continue
        labelled = [i for i, axis in enumerate(inner) if channels_of(axis) is not None]
        whole = [old[i] for i in before]
        # With two axes of channels in one no index of the merged axis belongs to one channel alone.
        if len(labelled) != 1:
            stuck += [inner[i] for i in labelled]
            uniform = all(axis == UNIFORM for axis in inner if channels_of(axis) is None)
            plain = UNIFORM if uniform and not labelled else FIXED
            result += [UNIFORM if size == 1 else plain for size in sizes]
            continue
        (position,) = labelled
        channels = channels_of(inner[position])
        assert channels is not None
        # Laid out as the values are: what numpy's reshape does to the numbers, XLA's does to the
        # channels.
        lined = channels.reshape([-1 if i == position else 1 for i in range(len(whole))])
        grid = np.broadcast_to(lined, whole).reshape(sizes)
        # An only channel whose axis is dropped, as the plane of an only class: nothing is left to cut.
        split = _along_one_axis(grid) if sizes else None
        if split is None:
            stuck.append(inner[position])
            result += [UNIFORM if size == 1 else FIXED for size in sizes]
            continue
        along, kept = split
        for i, size in enumerate(sizes):
            result.append(kept if i == along else UNIFORM if size == 1 else FIXED)
    return tuple(result), stuck


def _along_one_axis(grid: np.ndarray) -> tuple[int, np.ndarray] | None:
    """Returns the only axis along which an array changes, and its values; None where there are two."""
    changing = [i for i in range(grid.ndim) if not (grid == grid.take([0], axis=i)).all()]
    if len(changing) > 1:
        return None
    # A single channel changes nowhere; the longest axis keeps it, for the others are of size 1
    # mostly.
    along = changing[0] if changing else int(np.argmax(grid.shape))
    first = tuple(slice(None) if i == along else 0 for i in range(grid.ndim))
    return along, np.ascontiguousarray(grid[first])


def _blocks(old: Sequence[int], new: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Yields (old axes, new axes) of equal product, as small as they can be, in order."""
    i = j = 0
    while i < len(old) or j < len(new):
        before, after = [i] if i < len(old) else [], [j] if j < len(new) else []
        i, j = i + len(before), j + len(after)
        while True:
            left = math.prod(old[k] for k in before)
            right = math.prod(new[k] for k in after)
            if left == right:
                break
            if left < right:
                before.append(i)
                i += 1
            else:
                after.append(j)
                j += 1
        yield before, after
