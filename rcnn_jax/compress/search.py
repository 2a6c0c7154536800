"""The threshold that leaves a wanted fraction of a network."""

from collections.abc import Callable, Sequence

import numpy as np

from rcnn_jax.compress.criteria import Scores


def threshold_for(
    scores: Sequence[Scores], cost_at: Callable[[float], float], wanted: float
) -> float | None:
    """Returns the lowest threshold at which at most a cost is left, None where none goes so far.

    Args:
      scores: of the groups; a threshold only matters where it is one of them.
      cost_at: threshold -> parameters or FLOP left; falls as the threshold rises.
      wanted: the cost.
    """
    # Between two scores nothing changes, so a bisection of numbers would find the same and never
    # end exactly.
    values = np.unique(np.concatenate([group.values for group in scores])) if scores else []
    low, high = 0, len(values)  # the answer, if any, is values[low:high]
    while low < high:
        middle = (low + high) // 2
        if cost_at(float(values[middle])) <= wanted:
            high = middle
        else:
            low = middle + 1
    return float(values[low]) if low < len(values) else None
