"""Activation ranges: growing histograms, and the largest value that int8 represents.

Three methods choose that value; larger ones are clipped to it:

    max         the largest value seen: nothing is clipped, one outlier makes all steps coarse
    percentile  covers 99.99 % of the values
    entropy     the clipped and rounded distribution is nearest to the real one (KL divergence)

Exact zeros are not counted: every scale represents them exactly, and after a ReLU they are most of
the values. Entropy follows TensorRT's calibrator (Migacz, "8-bit inference with
TensorRT", GTC 2017): for thresholds of 128 bins and more, clip, merge the bins into 128 levels,
compare.
"""

from typing import Literal

import numpy as np

from rcnn_jax.errors import ExportError

Method = Literal["max", "percentile", "entropy"]
METHODS: tuple[Method, ...] = ("max", "percentile", "entropy")
# 2048 bins and 128 levels are those of TensorRT's calibrator.
BINS = 2048
LEVEL_COUNT = 128
PERCENTILE = 0.9999
# Every eighth candidate takes an eighth of the time and is off by 0.4 % of the range at most.
CANDIDATE_STEP = 8
"""Bins between the candidate thresholds of entropy."""


class Histogram:
    """Counts of |x| over [0, BINS * width); the width doubles for larger values.

    Attributes:
      counts: i64[BINS].
      width: of a bin; 0 before the first value other than zero.
      largest: the largest |x|.
    """

    def __init__(self):
        self.counts = np.zeros(BINS, np.int64)
        self.width = 0.0
        self.largest = 0.0

    def add(self, values: np.ndarray, name: str) -> None:
        """Counts the values of a tensor.

        Raises:
          ExportError: a value is not finite.
        """
        # int8 is symmetric with zero point 0, so the sign does not matter.
        sizes = np.abs(values).ravel()
        largest = float(sizes.max(initial=0.0))
        if not np.isfinite(largest):
            raise ExportError(
                f"tensor '{name}' holds a number that is not finite: the model cannot be calibrated"
            )
        if largest == 0.0:
            return
        self.largest = max(self.largest, largest)
        if self.width == 0.0:
            self.width = largest / BINS
        # Doubling merges pairs of bins exactly: one pass over the images is enough, whatever comes.
        while largest > self.width * BINS:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([merged, np.zeros(BINS // 2, np.int64)])
            self.width *= 2
        bins = np.minimum((sizes[sizes > 0] / self.width).astype(np.int64), BINS - 1)
        self.counts += np.bincount(bins, minlength=BINS)

    def threshold(self, method: Method) -> float:
        """Returns the largest value that int8 represents; 0 if there were zeros only."""
        if self.largest == 0.0 or method == "max":
            return self.largest
        bins = _percentile(self.counts) if method == "percentile" else _entropy(self.counts)
        return min(bins * self.width, self.largest)


def _percentile(counts: np.ndarray) -> int:
    """Returns the number of bins that cover the fraction PERCENTILE of all counts."""
    covered = np.cumsum(counts)
    return int(np.searchsorted(covered, PERCENTILE * covered[-1])) + 1


def _entropy(counts: np.ndarray) -> int:
    """Returns the number of bins whose 128 levels are nearest to the whole distribution."""
    used = int(np.flatnonzero(counts)[-1]) + 1
    if used <= LEVEL_COUNT:
        return used
    counts = counts.astype(np.float64)
    candidates = [*range(LEVEL_COUNT, used, CANDIDATE_STEP), used]
    divergences = [_divergence(counts, number) for number in candidates]
    return candidates[int(np.argmin(divergences))]


def _divergence(counts: np.ndarray, number: int) -> float:
    """Returns KL(clipped || rounded) of the first bins; larger values count in the last one."""
    inside = counts[:number]
    clipped = inside.copy()
    clipped[-1] += counts[number:].sum()
    level = np.arange(number) * LEVEL_COUNT // number
    occupied = inside > 0
    totals = np.bincount(level, weights=inside, minlength=LEVEL_COUNT)
    occupants = np.bincount(level, weights=occupied, minlength=LEVEL_COUNT)
    mean = np.divide(totals, occupants, out=np.zeros(LEVEL_COUNT), where=occupants > 0)
    # Empty bins stay empty, as in TensorRT's calibrator.
    rounded = np.where(occupied, mean[level], 0.0)
    if not rounded.any():
        return np.inf
    p, q = clipped / clipped.sum(), rounded / rounded.sum()
    # KL divergence counts where p is; 1e-12 stands for a q of zero, which would make it infinite.
    seen = p > 0
    return float(np.sum(p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-12))))
