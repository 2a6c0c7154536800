"""Which filters are kept: their norms, made comparable, equalised over a group, cut at a threshold.

    kernels -> norms of filters -> normalised by layer -> one score per decision of a group -> kept

Source: docs/reference/faster_rcnn.md, "Pruning".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rcnn_jax.compress.groups import Group, Network

Normalizer = Literal["max", "L2"]
Criterion = Literal["union", "intersection", "arithmetic_mean", "geometric_mean"]
Rank = Literal["layer", "isomorphic"]


@dataclass(frozen=True, kw_only=True)
class PruneSettings:
    """Settings of the choice of filters, without the threshold.

    Attributes:
      normalizer: `max` divides the norms of a layer by the largest; `L2` by the norm of all of them, and
        multiplies by their number.
      criterion: how the layers of a group agree: `union` takes the largest of their norms, `intersection`
        the smallest.
      granularity: filters are removed in multiples of it.
      min_filters: least number of filters of a layer, where it has as many.
      rank: `layer` compares the filters of a layer; `isomorphic` those of all groups whose kernels have
        the same shapes.
    """

    normalizer: Normalizer = "max"
    criterion: Criterion = "union"
    # Tensor cores take channels in multiples of 8: a width between would run as slowly as the next.
    granularity: int = 8
    min_filters: int = 16
    rank: Rank = "layer"


@dataclass(frozen=True, kw_only=True)
class Filters:
    """The filters of a layer as they were trained.

    A file that was pruned and not trained since keeps this of the layer before it was cut: scores do not
    change because inputs and neighbours are gone, so pruning twice is pruning once.

    Attributes:
      norms: f32[n] of all filters that were trained.
      kept: i32[m], which of them the layer still has.
      shape: of the trained kernel.
    """

    norms: np.ndarray
    kept: np.ndarray
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of the decisions of a group.

    Attributes:
      group: whose they are.
      values: f64[n], what the threshold is compared with.
      decided_by: i32[n], the member of `group.layers` whose norm the score is; -1 for a mean.
    """

    group: Group
    values: np.ndarray
    decided_by: np.ndarray


def filters_of(kernel: np.ndarray) -> Filters:
    """Returns norms of a kernel [... out]: L2 over all but the last axis; biases do not count."""
    # In double: sums over thousands of weights decide ties that another order must not change.
    squares = np.square(kernel.astype(np.float64)).reshape(-1, kernel.shape[-1])
    norms = np.sqrt(squares.sum(0)).astype(np.float32)
    return Filters(norms=norms, kept=np.arange(len(norms), dtype=np.int32), shape=kernel.shape)


def score_groups(
    network: Network, filters: Mapping[str, Filters], settings: PruneSettings
) -> tuple[Scores, ...]:
    """Returns the scores of every group that may lose filters.

    Args:
      network: its groups.
      filters: of every layer.
      settings: how norms are compared.
    """
    free = [group for group in network.groups if group.pin is None]
    pools: dict[tuple, list[str]] = {}
    for group in free:
        for layer in group.layers:
            pools.setdefault(_pool(group, layer, filters, settings.rank), []).append(layer)
    scores = []
    for group in free:
        rows = []
        for layer in group.layers:
            pool = pools[_pool(group, layer, filters, settings.rank)]
            # A layer once, though a shared one is in its pool as often as in groups.
            everyone = np.concatenate([filters[name].norms for name in dict.fromkeys(pool)])
            own = filters[layer]
            present = _normalised(own.norms, everyone, settings.normalizer)[own.kept]
            # of a decision on several filters of one layer the strongest speaks
            rows.append(present[group.filters[layer]].max(1))
        table = np.stack(rows)
        scores.append(
            Scores(
                group=group,
                values=_equalised(table, settings.criterion),
                decided_by=_decisive(table, settings.criterion),
            )
        )
    return tuple(scores)


def keep(scores: Scores, threshold: float, settings: PruneSettings) -> np.ndarray:
    """Returns which decisions of a group are kept, bool[n].

    The filters above the threshold, at least `min_filters`, rounded up to the granularity: the strongest,
    earlier ones first among equals. A threshold of 0 removes nothing, dead filters neither.
    """
    values = scores.values
    if threshold <= 0:
        return np.ones(len(values), bool)
    count = _kept_count(scores, int((values > threshold).sum()), settings)
    kept = np.zeros(len(values), bool)
    # Stable, so equal scores keep the earlier filter on every machine.
    kept[np.argsort(-values, kind="stable")[:count]] = True
    return kept


def held_by_floor(scores: Scores, threshold: float, settings: PruneSettings) -> bool:
    """Says whether a group keeps filters below the threshold because of `min_filters` alone."""
    above, least = int((scores.values > threshold).sum()), _least(scores, settings)
    return threshold > 0 and above < least


def lowest_threshold(scores: Sequence[Scores], settings: PruneSettings) -> float | None:
    """Returns the lowest threshold that removes a filter, None where none does."""
    lowest = None
    for group in scores:
        step = _step(group, settings.granularity)
        most = (len(group.values) - 1) // step * step  # decisions left after the first cut
        if most < _round_up(_least(group, settings), step) or most < 1:
            continue
        value = float(np.sort(group.values)[::-1][most])
        # 0 means "prune nothing" to `keep`, so the least number above it stands for "all dead
        # filters".
        value = math.nextafter(0.0, 1.0) if value == 0.0 else value
        lowest = value if lowest is None else min(lowest, value)
    return lowest


def kept_classes(
    network: Network, scores: Sequence[Scores], threshold: float, settings: PruneSettings
) -> np.ndarray:
    """Returns which classes of channels are kept, bool by class."""
    kept = np.ones(network.count, bool)
    for group in scores:
        kept[group.group.classes] = keep(group, threshold, settings)
    return kept


def _pool(group: Group, layer: str, filters: Mapping[str, Filters], rank: Rank) -> tuple:
    """Returns the name of the pool whose norms a layer's are compared with."""
    if rank == "layer":
        return (layer,)
    shapes = sorted(filters[name].shape for name in group.layers)
    return (tuple(shapes), filters[layer].shape)


def _normalised(norms: np.ndarray, pool: np.ndarray, normalizer: Normalizer) -> np.ndarray:
    wide = pool.astype(np.float64)
    # L2 as in the original: the norm of the norms over their number, not their mean.
    unit = wide.max() if normalizer == "max" else np.sqrt(np.square(wide).sum()) / len(wide)
    return norms / unit if unit > 0 else np.zeros(len(norms))


def _equalised(table: np.ndarray, criterion: Criterion) -> np.ndarray:
    match criterion:
        case "union":
            return table.max(0)
        case "intersection":
            return table.min(0)
        case "arithmetic_mean":
            return table.mean(0)
        case "geometric_mean":
            # the mean of logarithms, because a product of a hundred small norms is 0
            with np.errstate(divide="ignore"):
                return np.exp(np.log(table).mean(0))


def _decisive(table: np.ndarray, criterion: Criterion) -> np.ndarray:
    if len(table) > 1 and criterion.endswith("mean"):
        return np.full(table.shape[1], -1)
    return table.argmin(0) if criterion == "intersection" else table.argmax(0)


def _least(scores: Scores, settings: PruneSettings) -> int:
    return min(-(-settings.min_filters // scores.group.unit), len(scores.values))


def _step(scores: Scores, granularity: int) -> int:
    """Returns the decisions that are granularity filters of the layer that loses most by one."""
    return granularity // math.gcd(granularity, scores.group.unit)


def _kept_count(scores: Scores, above: int, settings: PruneSettings) -> int:
    count = max(_least(scores, settings), above, 1)
    return min(_round_up(count, _step(scores, settings.granularity)), len(scores.values))


def _round_up(count: int, step: int) -> int:
    return -(-count // step) * step
