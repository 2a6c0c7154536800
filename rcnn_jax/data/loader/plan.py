"""Batch plan: which images form batch t, a pure function of sizes, seed and global batch.

    canvases of all records + seed --TrainingPlan[t]--> PlannedBatch(canvas, records, epochs)

Training is an endless stream. Every epoch shuffles all records; each record joins the queue of its
canvas, and a queue that has grown to a whole batch leaves as one. What is left in the queues stays
for the next epoch, so batches are always full, each record is drawn once per epoch, and with one
canvas batch t is simply the positions [t B, (t + 1) B) of the concatenated epochs. Batch t is located
without replaying the others: the position in the data is the one integer t.

The number of steps called an epoch is constant, ceil(records / global batch).

Source: docs/architecture.md, "Randomness and resuming".
"""

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rcnn_jax.data.loader import images
from rcnn_jax.errors import DataError
from rcnn_jax.settings.data import GeometrySettings

Size = tuple[int, int]

SHUFFLE, AUGMENT = 0, 1
"""Purposes of a generator; streams of different purposes are independent."""


def generator(seed: int, purpose: int, epoch: int, record: int = 0) -> np.random.Generator:
    """Returns the generator of one purpose, epoch and record, independent of all draws before.

    Philox has a 256-bit counter; epoch and record are its upper words, so streams are 2^128 apart.
    """
    # Philox takes unsigned 64-bit words; any Python integer is a seed.
    key = np.array([seed % 2**64, purpose], np.uint64)
    counter = np.array([0, 0, record, epoch], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


@dataclass(frozen=True, kw_only=True)
class PlannedBatch:
    """One global batch; all images share a canvas.

    Attributes:
      canvas: (height, width).
      records: i64[b], indices into the source.
      epochs: i64[b], how often the record was drawn before: its augmentation epoch.
      valid: bool[b], False for empty slots (evaluation only; they hold record 0).
    """

    canvas: Size
    records: np.ndarray
    epochs: np.ndarray
    valid: np.ndarray


def choose_buckets(
    sizes: Sequence[Size], geometry: GeometrySettings, limit: int = 4
) -> tuple[Size, ...]:
    """Chooses the few canvases that hold all images, smallest area first.

    Every canvas costs a compilation. Starting from all that occur, the two whose union wastes the
    fewest pixels over the dataset are joined until `limit` remain. Modes other than `short_side`
    have one canvas.

    Args:
      sizes: (height, width) of every image.
      geometry: how images are scaled.
      limit: largest number of canvases.
    """
    if geometry.mode != "short_side":
        return ((geometry.height, geometry.width),)
    counts = Counter(images.canvas_size(size, geometry) for size in sizes)
    # Greedy and cubic, but over distinct canvases, which `geometry.multiple` keeps few.
    while len(counts) > limit:
        candidates = sorted(counts)
        waste, first, second = min(
            (_waste(a, b, counts), a, b) for i, a in enumerate(candidates) for b in candidates[:i]
        )
        joined = counts.pop(first) + counts.pop(second)
        counts[_union(first, second)] += joined
    return tuple(sorted(counts, key=lambda size: (size[0] * size[1], size)))


def _union(a: Size, b: Size) -> Size:
    return max(a[0], b[0]), max(a[1], b[1])


def _waste(a: Size, b: Size, counts: Counter) -> int:
    """Pixels that padding grows by when canvases a and b become one."""
    h, w = _union(a, b)
    return sum((h * w - size[0] * size[1]) * counts[size] for size in (a, b))


def assign_canvases(
    sizes: Sequence[Size], geometry: GeometrySettings, buckets: tuple[Size, ...]
) -> list[Size]:
    """Returns the canvas of every image."""
    return [images.canvas_size(size, geometry, buckets) for size in sizes]


def batches_per_epoch(records: int, global_batch: int) -> int:
    """Returns the constant number of steps called an epoch, ceil(records / global_batch).

    Because batches are always full, an epoch of steps reads up to a batch more than the records
    once.

    Source: docs/reference/faster_rcnn.md, "Samples per epoch".
    """
    return -(-records // global_batch)


class TrainingPlan:
    """The endless shuffled sequence of full batches; `plan[t]` for any t >= 0.

    Args:
      canvases: canvas of every record.
      seed: of the shuffling.
      global_batch: records in a batch.

    Raises:
      DataError: there is no record.
    """

    def __init__(self, canvases: Sequence[Size], seed: int, global_batch: int):
        if not canvases:
            raise DataError("the training data holds no image: check the paths in the spec")
        self._buckets = sorted(set(canvases))
        index = {canvas: k for k, canvas in enumerate(self._buckets)}
        self._bucket_of = np.array([index[canvas] for canvas in canvases])
        self._counts = np.bincount(self._bucket_of).tolist()
        self._seed = seed
        self._batch = global_batch
        # Loader threads work on neighbouring batches and a batch may span two epochs: four
        # permutations are enough, and a run of any length keeps no more.
        self._epoch = functools.lru_cache(maxsize=4)(self._shuffle)

    def __getitem__(self, step: int) -> PlannedBatch:
        # A batch belongs to the epoch in which its last record arrives; its first records may
        # have waited in the queue since an earlier epoch.
        epoch = self._epoch_of(step)
        _, completed = self._epoch(epoch)
        bucket, last = completed[step - self._batches_before(epoch)]
        positions = np.arange(last + 1 - self._batch, last + 1)
        epochs, indices = np.divmod(positions, self._counts[bucket])
        # Two epochs at most in a batch, unless its canvas has fewer records than a batch.
        parts = [self._epoch(int(e))[0][bucket][indices[epochs == e]] for e in np.unique(epochs)]
        return PlannedBatch(
            canvas=self._buckets[bucket],
            records=np.concatenate(parts),
            epochs=epochs,
            valid=np.ones(self._batch, bool),
        )

    def _batches_before(self, epoch: int) -> int:
        """Batches completed before an epoch begins."""
        # Each bucket by itself: its stream is the concatenation of its epochs, so its batches are
        # counted by a division, and no epoch is replayed.
        return sum(epoch * count // self._batch for count in self._counts)

    def _epoch_of(self, step: int) -> int:
        """The epoch in which batch `step` is completed."""
        records = sum(self._counts)
        # Exact for one canvas. With several, each holds back less than a batch, so the guess is
        # never too late and a few steps forward reach the epoch.
        epoch = max(-(-(step + 1) * self._batch // records) - 1, 0)
        while self._batches_before(epoch + 1) <= step:
            epoch += 1
        return epoch

    def _shuffle(self, epoch: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Returns per canvas the order of its records, and the batches completed in this epoch.

        The latter is i64[number 2]: the bucket, and the position in its stream of the last record.
        """
        order = generator(self._seed, SHUFFLE, epoch).permutation(len(self._bucket_of))
        bucket_of = self._bucket_of[order]
        orders, completed = [], []
        for bucket, count in enumerate(self._counts):
            times = np.flatnonzero(bucket_of == bucket)
            orders.append(order[times])
            positions = epoch * count + np.arange(count)
            ends = (positions + 1) % self._batch == 0
            done, lasts = times[ends], positions[ends]
            completed.append(np.stack([done, np.full_like(done, bucket), lasts], axis=-1))
        completed = np.concatenate(completed)
        # In the order in which the shuffled epoch completes them: training alternates between the
        # canvases instead of finishing one after the other.
        return orders, completed[np.argsort(completed[:, 0])][:, 1:]


def evaluation_plan(canvases: Sequence[Size], batch: int) -> list[PlannedBatch]:
    """Returns every record once, in order within its canvas; the last batch of a canvas is padded.

    Args:
      canvases: canvas of every record.
      batch: slots in a batch over all processes.

    Raises:
      DataError: there is no record.
    """
    if not canvases:
        raise DataError("the validation data holds no image: check the paths in the spec")
    plan = []
    for canvas in sorted(set(canvases)):
        members = np.array([i for i, other in enumerate(canvases) if other == canvas])
        for start in range(0, len(members), batch):
            chunk = members[start : start + batch]
            # Padded, not shortened: a shorter last batch would cost a compilation of its own.
            records = np.zeros(batch, np.int64)
            records[: len(chunk)] = chunk
            valid = np.arange(batch) < len(chunk)
            plan.append(
                PlannedBatch(
                    canvas=canvas, records=records, epochs=np.zeros(batch, np.int64), valid=valid
                )
            )
    return plan
