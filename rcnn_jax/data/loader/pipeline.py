"""Data loader: batches of a plan, made ahead by Grain's threads.

    TrainingPlan[t] --make_batch on a thread--> Batch --in order--> training loop

Threads suffice because OpenCV releases the interpreter lock; every thread makes whole batches. The
iterators keep no state worth saving: training resumes from the number of batches already consumed,
on any number of processes.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from rcnn_jax.batches import Batch
from rcnn_jax.data.loader import plan
from rcnn_jax.data.loader.batching import (
    BatchSettings,
    check_object_counts,
    local_batch,
    make_batch,
)
from rcnn_jax.data.loader.image_cache import CachedImages
from rcnn_jax.data.loader.repeats import expected_draws, repeat_factors
from rcnn_jax.data.sources.boxes import Source
from rcnn_jax.errors import RcnnError
from rcnn_jax.settings.data import (
    AugmentSettings,
    GeometrySettings,
    GroundTruthSettings,
    LoaderSettings,
)

ENDLESS = 2**62
"""Length of a training stream; Grain asks every source for one."""


class _BatchSource:
    """Random access to batches: the interface of a Grain source."""

    def __init__(self, make: Callable[[int], Batch | RcnnError], length: int):
        self._make = make
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Batch | RcnnError:
        return self._make(index)


def batches_per_epoch(source: Source, global_batch: int, factors: np.ndarray | None = None) -> int:
    """Returns the constant number of steps called an epoch, see `plan.batches_per_epoch`.

    Args:
      source: the training images.
      global_batch: images per step over all devices and processes.
      factors: of `repeat_factors`, which make an epoch longer; None for none.
    """
    return plan.batches_per_epoch(expected_draws(factors, len(source)), global_batch)


def training_canvases(source: Source, geometry: GeometrySettings) -> tuple[tuple[int, int], ...]:
    """Returns the canvases (height, width) of the training batches, smallest first.

    Every one of them costs a compilation.
    """
    canvases = set(_canvases(source, geometry, ()))
    return tuple(sorted(canvases, key=lambda size: (size[0] * size[1], size)))


def training_batches(
    source: Source,
    geometry: GeometrySettings,
    augment: AugmentSettings | None,
    gt: GroundTruthSettings | None,
    channel_order: str,
    loader: LoaderSettings,
    *,
    start: int = 0,
    total_steps: int | None = None,
    process_index: int = 0,
    process_count: int = 1,
    buckets: tuple[tuple[int, int], ...] = (),
) -> Iterator[Batch]:
    """Returns the endless shuffled batches of this process, from batch `start` on.

    Args:
      source: images and annotation.
      geometry: from file to canvas.
      augment: random changes, or None.
      gt: how ground truth is padded; None leaves it out.
      channel_order: `rgb`, `bgr` or `l`.
      loader: batch, seed, threads.
      start: batches already consumed since the very beginning of the run.
      total_steps: length of the run, which says when mosaics end; None for a run without an end.
      process_index: which slice of every global batch to make.
      process_count: number of slices.
      buckets: canvases of mode `short_side`; chosen from the image sizes when empty.

    Returns:
      An iterator; `close()` stops its threads, as does dropping it.

    Raises:
      DataError: there is no image, or one has too many objects; while iterating: an image is
        missing or damaged.
      ValueError: the global batch cannot be divided among the processes.
    """
    local_batch(loader.global_batch, process_count)
    check_object_counts(source, gt)
    steps = plan.TrainingPlan(
        _canvases(source, geometry, buckets),
        loader.seed,
        loader.global_batch,
        repeat_factors(source, loader.repeat_threshold),
    )
    if augment is not None and augment.composes:
        source = CachedImages(source)
    settings = BatchSettings(
        geometry=geometry,
        gt=gt,
        channel_order=channel_order,
        augment=augment,
        seed=loader.seed,
        process_index=process_index,
        process_count=process_count,
    )
    # By the number of the step, as all else: a resumed run ends its mosaics where the first one would.
    late, mosaic_end = settings, ENDLESS
    if augment is not None and total_steps is not None:
        late = replace(settings, augment=replace(augment, mosaic_probability=0.0))
        mosaic_end = augment.mosaic_steps(total_steps)

    def make(index: int) -> Batch:
        step = start + index
        return make_batch(source, steps[step], settings if step < mosaic_end else late)

    return _prefetched(make, ENDLESS, loader.threads, loader.prefetch)


def evaluation_batches(
    source: Source,
    geometry: GeometrySettings,
    gt: GroundTruthSettings | None,
    channel_order: str,
    *,
    batch: int,
    threads: int = 2,
    prefetch: int = 4,
    process_index: int = 0,
    process_count: int = 1,
    buckets: tuple[tuple[int, int], ...] = (),
) -> Iterator[Batch]:
    """Returns batches with every image once, in order, canvas by canvas; the last one is padded.

    Crowd objects are kept whatever `gt.skip_crowd` says: evaluation needs them. The arguments are
    those of `training_batches`; `batch` counts the images of all processes. With gt None the
    batches hold no ground truth and no annotation is read.

    Raises:
      DataError: as `training_batches`.
      ValueError: as `training_batches`.
    """
    local_batch(batch, process_count)
    settings = BatchSettings(
        geometry=geometry,
        gt=None if gt is None else replace(gt, skip_crowd=False),
        channel_order=channel_order,
        process_index=process_index,
        process_count=process_count,
    )
    check_object_counts(source, settings.gt)
    steps = plan.evaluation_plan(_canvases(source, geometry, buckets), batch)
    return _prefetched(
        lambda index: make_batch(source, steps[index], settings), len(steps), threads, prefetch
    )


def evaluation_order(source: Source, geometry: GeometrySettings) -> list[int]:
    """Returns the records in the order in which `evaluation_batches` has them."""
    canvases = _canvases(source, geometry, ())
    return sorted(range(len(canvases)), key=lambda record: (canvases[record], record))


def _canvases(
    source: Source, geometry: GeometrySettings, buckets: tuple[tuple[int, int], ...]
) -> list[tuple[int, int]]:
    """Returns the canvas of every record."""
    # One canvas for all: sizes are not read, which a TFDS source would have to decode headers for.
    if geometry.mode != "short_side":
        return [(geometry.height, geometry.width)] * len(source)
    sizes = [source.size(record) for record in range(len(source))]
    buckets = buckets or plan.choose_buckets(sizes, geometry)
    return plan.assign_canvases(sizes, geometry, buckets)


def _prefetched(
    make: Callable[[int], Batch], length: int, threads: int, prefetch: int
) -> Iterator[Batch]:
    import grain  # imported here: machines that only predict need no grain

    cv2.setNumThreads(0)  # every thread works on an image; OpenCV's own threads would compete
    # A buffer smaller than the number of threads would leave threads idle.
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(prefetch, threads))
    dataset = grain.MapDataset.source(_BatchSource(_errors_as_values(make), length))
    return _raised(iter(dataset.to_iter_dataset(options)))


def _errors_as_values(make: Callable[[int], Batch]) -> Callable[[int], Batch | RcnnError]:
    """Returns `make` with the user's errors as return values.

    Grain adds text of its own to an exception of its threads, and the message is for the user.
    """

    def made(index: int) -> Batch | RcnnError:
        try:
            return make(index)
        except RcnnError as error:
            return error

    return made


def _raised(batches: Any) -> Iterator[Batch]:
    """Yields batches and raises the first error among them, at the position of its batch."""
    try:
        for batch in batches:
            if isinstance(batch, RcnnError):
                raise batch
            yield batch
    finally:
        batches.close()  # otherwise the threads outlive a loop that stopped early
