"""Batch plan: which images form batch t, a pure function of sizes, seed and global batch.

    canvases of all records + seed --TrainingPlan[t]--> PlannedBatch(canvas, records, epochs)

Training is an endless stream. Every epoch shuffles all records; each record joins the queue of its
canvas, and a queue that has grown to a whole batch leaves as one. What is left in the queues stays
for the next epoch, so batches are always full, each record is drawn once per epoch, and with one
canvas batch t is simply the positions [t B, (t + 1) B) of the concatenated epochs. Batch t is located
without replaying the others: the position in the data is the one integer t.

With repeat factors a record of factor r has been drawn floor(e r + u) times before epoch e, with u in
[0, 1) of its own. Drawing the rounding anew in every epoch, as the paper has it, would give the same mean
and cost the closed form: batch t would need all epochs before it. The total is also never off by more
than one.

The number of steps called an epoch is constant, ceil(records / global batch), of the mean epoch where
records repeat.

Source: docs/architecture.md, "Randomness and resuming".
"""

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rcnn_jax.data.loader import images
from rcnn_jax.data.loader.repeats import ONE
from rcnn_jax.errors import DataError
from rcnn_jax.settings.data import GeometrySettings

Size = tuple[int, int]

SHUFFLE, AUGMENT, REPEAT, MOSAIC, COPY_PASTE = range(5)
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
      epochs: i64[b], how often the record was drawn before: its augmentation epoch. Without repeats the
        epoch of the plan.
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
      factors: i64[records], how often a record is drawn in an epoch, in units of 1 / repeats.ONE; None
        for once.

    Raises:
      DataError: there is no record.
    """

    def __init__(
        self,
        canvases: Sequence[Size],
        seed: int,
        global_batch: int,
        factors: np.ndarray | None = None,
    ):
        if not canvases:
            raise DataError("the training data holds no image: check the paths in the spec")
        self._buckets = sorted(set(canvases))
        index = {canvas: k for k, canvas in enumerate(self._buckets)}
        self._bucket_of = np.array([index[canvas] for canvas in canvases])
        self._seed = seed
        self._batch = global_batch
        self._factors = np.full(len(canvases), ONE, np.int64) if factors is None else factors
        # Where the fraction of a factor falls in the epochs: all at once otherwise.
        self._phases = generator(seed, REPEAT, 0).integers(ONE, size=len(canvases))
        # Loader threads work on neighbouring batches and a batch may span two epochs: four
        # permutations are enough, and a run of any length keeps no more.
        self._epoch = functools.lru_cache(maxsize=4)(self._shuffle)
        self._starts = functools.lru_cache(maxsize=16)(self._count_before)

    def __getitem__(self, step: int) -> PlannedBatch:
        # A batch belongs to the epoch in which its last record arrives; its first records may
        # have waited in the queue since an earlier epoch.
        epoch = self._epoch_of(step)
        bucket, last = self._epoch(epoch).completed[step - self._batches_before(epoch)]
        begin, end = last + 1 - self._batch, last + 1
        records, epochs = [], []
        # Two epochs at most in a batch, unless its canvas has fewer records than a batch.
        while end > begin:
            start = self._starts(epoch)[bucket]
            rows = slice(max(begin - start, 0), end - start)
            records.append(self._epoch(epoch).records[bucket][rows])
            epochs.append(self._epoch(epoch).draws[bucket][rows])
            end, epoch = min(start, end), epoch - 1
        return PlannedBatch(
            canvas=self._buckets[bucket],
            records=np.concatenate(records[::-1]),
            epochs=np.concatenate(epochs[::-1]),
            valid=np.ones(self._batch, bool),
        )

    def _drawn_before(self, epoch: int) -> np.ndarray:
        """Returns i64[records], how often every record has been drawn before an epoch."""
        return (epoch * self._factors + self._phases) // ONE

    def _count_before(self, epoch: int) -> list[int]:
        """Returns the draws of every bucket before an epoch: the position at which it begins."""
        # Exact in the float64 of bincount up to 2^53 draws.
        return np.bincount(self._bucket_of, self._drawn_before(epoch)).astype(np.int64).tolist()

    def _batches_before(self, epoch: int) -> int:
        """Batches completed before an epoch begins."""
        # Each bucket by itself: its stream is the concatenation of its epochs, so its batches are
        # counted by a division, and no epoch is replayed.
        return sum(count // self._batch for count in self._starts(epoch))

    def _epoch_of(self, step: int) -> int:
        """The epoch in which batch `step` is completed."""
        # Exact for one canvas without repeats. With several canvases each holds back less than a
        # batch, and a repeated record is off by less than one draw: a few steps reach the epoch.
        epoch = max(-(-(step + 1) * self._batch * ONE // int(self._factors.sum())) - 1, 0)
        while epoch and self._batches_before(epoch) > step:
            epoch -= 1
        while self._batches_before(epoch + 1) <= step:
            epoch += 1
        return epoch

    def _shuffle(self, epoch: int) -> "_Epoch":
        before, after = self._drawn_before(epoch), self._drawn_before(epoch + 1)
        counts = after - before
        records = np.repeat(np.arange(len(counts)), counts)
        # The first copy of a record is draw `before`, the next one follows: their augmentation differs.
        draws = np.arange(len(records)) - np.repeat(np.cumsum(counts) - after, counts)
        order = generator(self._seed, SHUFFLE, epoch).permutation(len(records))
        records, draws = records[order], draws[order]
        bucket_of = self._bucket_of[records]
        rows = [np.flatnonzero(bucket_of == bucket) for bucket in range(len(self._buckets))]
        completed = []
        for bucket, (times, start) in enumerate(zip(rows, self._starts(epoch), strict=True)):
            positions = start + np.arange(len(times))
            ends = (positions + 1) % self._batch == 0
            done, lasts = times[ends], positions[ends]
            completed.append(np.stack([done, np.full_like(done, bucket), lasts], axis=-1))
        joined = np.concatenate(completed)
        return _Epoch(
            records=[records[times] for times in rows],
            draws=[draws[times] for times in rows],
            # In the order in which the shuffled epoch completes them: training alternates between the
            # canvases instead of finishing one after the other.
            completed=joined[np.argsort(joined[:, 0])][:, 1:],
        )


@dataclass(frozen=True, kw_only=True)
class _Epoch:
    """One shuffled epoch.

    Attributes:
      records: i64[draws] per canvas, in order.
      draws: i64[draws] per canvas, how often the record was drawn before.
      completed: i64[batches 2], the batches completed in this epoch: the bucket, and the position in its
        stream of the last record.
    """

    records: list[np.ndarray]
    draws: list[np.ndarray]
    completed: np.ndarray


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
