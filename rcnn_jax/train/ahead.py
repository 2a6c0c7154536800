"""Compilation ahead of use: the step for further canvases, while the first one trains.

A run with several canvases (`size_min`) needs a compilation for each. Without this every canvas would
stop the training when its first batch comes.
"""

import contextlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from rcnn_jax.structures import Batch, TrainState

Canvas = tuple[int, int]


@contextlib.contextmanager
def compiled_ahead(
    mapped: Any, state: TrainState, batch: Batch, canvases: Iterable[Canvas], *rest: Any
) -> Iterator[None]:
    """Compiles `mapped(state, batch, *rest)` on a thread for batches of other canvases, smallest first.

    JAX finds these programs when the step is called. A compilation that fails fails again there, and
    is reported there.

    Args:
      mapped: from `parallel.map_step`.
      state: replicated; only shapes are read.
      batch: sharded; only shapes are read.
      canvases: (height, width); that of `batch` is skipped.
      *rest: replicated; only shapes are read.
    """
    # Shapes, before the loop begins: its first step gives up the memory of the state.
    state, batch, rest = jax.tree.map(_shape_of, (state, batch, rest))
    own = batch.images.shape[-3:-1]
    # One at a time: XLA uses several threads for one program, and the steps need the cores too.
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compile")
    for canvas in canvases:
        if canvas != own:
            pool.submit(
                lambda other: mapped.lower(state, other, *rest).compile(), _on(batch, canvas)
            )
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)  # a run that ends waits for no compilation
        raise
    pool.shutdown(cancel_futures=True)


def _shape_of(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    # With the sharding: a program for another layout is not the one that the step asks for.
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def _on(batch: Batch, canvas: Canvas) -> Batch:
    """Returns the shapes of a batch of another canvas."""
    images = batch.images
    shape = (*images.shape[:-3], *canvas, images.shape[-1])
    return batch.replace(images=jax.ShapeDtypeStruct(shape, images.dtype, sharding=images.sharding))
