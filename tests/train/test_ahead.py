"""Programs that are compiled on a thread are the ones that training calls."""

import time

import jax.numpy as jnp
import numpy as np

from rcnn_jax.structures import Batch
from rcnn_jax.train import parallel
from rcnn_jax.train.ahead import compiled_ahead


def batch_of(height, width):
    small = np.ones((2, 2), np.float32)
    count = np.arange(2, dtype=np.int32)
    return Batch(
        images=np.ones((2, height, width, 3), np.uint8),
        image_size=small,
        scale=small,
        source_size=small,
        image_id=count,
        image_valid=np.ones(2, bool),
        example_index=count,
    )


def test_other_canvases_are_traced_and_compiled_before_their_first_batch():
    traced = []

    def step(state, batch):
        traced.append(batch.images.shape)
        return state + batch.images.astype(jnp.float32).sum(), jnp.mean(batch.scale)

    devices = parallel.choose_devices(2)
    mapped = parallel.map_step(step, devices)
    state = parallel.replicate(jnp.zeros(3), devices)
    first, second = (parallel.shard(batch_of(4, width), devices) for width in (6, 8))
    with compiled_ahead(mapped, state, first, [(4, 6), (4, 8)]):
        while not traced:  # leaving waits for what has begun
            time.sleep(0.01)
    state, _ = mapped(state, first)
    seen = list(traced)
    state, _ = mapped(state, second)
    assert traced == seen
    assert sorted(traced) == [(1, 4, 6, 3), (1, 4, 8, 3)]
    np.testing.assert_allclose(state, 4 * 6 * 3 + 4 * 8 * 3)


def test_compilation_that_fails_is_left_to_the_step():
    def step(state, batch):
        if batch.images.shape[2] == 8:
            raise MemoryError
        return state, jnp.mean(batch.scale)

    devices = parallel.choose_devices(1)
    mapped = parallel.map_step(step, devices)
    state = parallel.replicate(jnp.zeros(3), devices)
    first = parallel.shard(batch_of(4, 6), devices)
    with compiled_ahead(mapped, state, first, [(4, 8)]):
        state, _ = mapped(state, first)
    np.testing.assert_allclose(state[0], 0.0)
