"""Memory of a step from the compiler's figures, and the batch that follows from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.errors import TrainingError
from rcnn_jax.structures import TrainState
from rcnn_jax.train.memory import (
    MemoryPlan,
    advice,
    device_limit,
    largest_batch,
    plan_memory,
)

GIB = 1024**3


def plan(work, limit=8 * GIB):
    return MemoryPlan(weights=GIB, optimizer=GIB // 2, batch=GIB // 8, work=work, limit=limit)


@pytest.mark.parametrize(
    ("fixed", "each", "limit", "expected"),
    [(100, 10, 1000, 90), (100, 10, 119, 1), (100, 10, 120, 2), (0, 1, 10**6, 256)],
)
def test_the_largest_batch_follows_from_two_compilations(fixed, each, limit, expected):
    asked = []

    def peak(size):
        asked.append(size)
        return fixed + each * size

    assert largest_batch(peak, limit) == expected
    assert len(asked) <= 3


def test_a_layout_that_grows_faster_for_large_batches_is_found_out():
    def peak(size):
        return 100 + 10 * size + (500 if size > 50 else 0)

    batch = largest_batch(peak, 1000)
    assert peak(batch) <= 1000
    assert batch >= 36


def test_one_image_that_does_not_fit_is_said():
    with pytest.raises(TrainingError, match="a batch of one image takes 1,024 MiB"):
        largest_batch(lambda size: GIB * size, GIB // 2)


def test_the_advice_names_fields_with_values_the_ones_that_keep_results_first():
    text = advice(plan(16 * GIB), 8, 1, False, ("batch_size_per_gpu", "bf16"))
    assert "memory of a step on each device: 18,048 of 8,192 MiB" in text
    assert "2.2 times what there is" in text
    first, second, third, _ = text.splitlines()[1:]
    assert "batch_size_per_gpu: 2 with accumulate_steps: 4" in first
    assert "remat: True" in second
    assert "bf16: True" in third


def test_advice_leaves_out_what_is_done_already():
    text = advice(plan(16 * GIB), 1, 4, True, ("train_batch_size", "use_amp"))
    assert "accumulate_steps" not in text
    assert "remat" not in text


def test_a_plan_without_a_limit_fits():
    assert plan(GIB, limit=0).fits
    assert not plan(8 * GIB).fits


def test_the_figures_are_those_of_the_compiled_program():
    """A product of a 1 MiB and a 1 MiB matrix needs room for its 1 MiB result at least."""
    side = 512
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params={"w": jnp.zeros((side, side))},
        collections={},
        opt_state={"m": jnp.zeros((side, side))},
        ema=None,
        loss_scale=None,
        epoch_sums={},
        key=jnp.zeros(2, jnp.uint32),
    )
    batch = np.zeros((side, side), np.float32)
    compiled = jax.jit(lambda s, b: (s.params["w"] @ b) @ s.opt_state["m"]).lower(state, batch)
    planned = plan_memory(compiled.compile(), state, batch, 1, 0)
    assert planned.optimizer == side * side * 4
    assert planned.weights == side * side * 4 + 12
    assert planned.batch == side * side * 4
    assert 1 * 1024**2 <= planned.work <= 4 * 1024**2


def test_a_cpu_has_what_its_machine_can_give_shared_by_its_devices():
    limit = device_limit(jax.local_devices()[0])
    assert 0 < limit * len(jax.local_devices()) < 2**50
