"""Division of a dataset into partitions (folds) and shards, and the names of their files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def random_partitions(items: Sequence[Item], val_split: float, seed: int) -> list[list[Item]]:
    """Returns [validation, training], a random division that depends only on items and seed.

    Deviation: the original sorts by name and takes the first for validation, so that a dataset
    named by scene or by class is validated on other scenes or classes than it was trained on.

    Args:
      items: in a fixed order, for example sorted.
      val_split: percentage of the validation partition in [0, 100); its size is rounded down.
      seed: of the permutation.
    """
    # A generator of its own: the division must not depend on what drew random numbers before.
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(items))
    count = int(val_split / 100 * len(items))
    return [[items[i] for i in order[:count]], [items[i] for i in order[count:]]]


def sequence_partitions(sequences: Mapping[str, Sequence[Item]], count: int) -> list[list[Item]]:
    """Returns `count` partitions (at least one) that never divide a sequence.

    The longest sequence first, ties by name, sequences are dealt round-robin; the order of the
    partitions is then reversed, so that the first sequence ends up in the last partition.
    """
    partitions: list[list[Item]] = [[] for _ in range(max(count, 1))]
    ordered = sorted(sequences.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    for number, (_, items) in enumerate(ordered):
        partitions[number % len(partitions)].extend(items)
    # Fold 0, which specs name for validation, so gets the shorter sequences.
    return partitions[::-1]


def shards(items: Sequence[Item], count: int) -> list[Sequence[Item]]:
    """Divides into `count` (0 counts as 1) runs of equal length; the remainder joins the last."""
    count = max(count, 1)
    # With more shards than items all but the last are empty; the files exist nevertheless, as their
    # names promise (`of-%05d`).
    length = len(items) // count
    starts = [i * length for i in range(count)]
    return [items[a:b] for a, b in zip(starts, [*starts[1:], len(items)], strict=True)]


def shard_path(
    output: Path, *, partition: int, num_partitions: int, shard: int, num_shards: int
) -> Path:
    """Returns `<output>-fold-%03d-of-%03d-shard-%05d-of-%05d`; a part with count 0 is left out."""
    name = output.name
    if num_partitions:
        name += f"-fold-{partition:03d}-of-{num_partitions:03d}"
    if num_shards:
        name += f"-shard-{shard:05d}-of-{num_shards:05d}"
    return output.with_name(name)
