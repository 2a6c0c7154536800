import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.ops.chunked_loss import chunked_loss

ROWS = 7


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(rng.normal(size=(2, ROWS, 3)), jnp.float32)
    targets = jnp.asarray(rng.normal(size=(2, ROWS)), jnp.float32)
    weights = jnp.asarray([[1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0]], jnp.float32)
    return inputs, targets, weights


def squares(vector, inputs, targets, weights):
    each = jnp.square(inputs.astype(jnp.float32) @ vector - targets)
    return jnp.sum(jnp.where(weights > 0, each, 0.0))


def whole(vector, inputs, targets, weights):
    return 3.0 * squares(vector, inputs, targets, weights) / weights.sum()


def by_chunk(size):
    def loss(vector, inputs, targets, weights):
        total = chunked_loss(
            lambda *chunk: squares(vector, *chunk), size, inputs, (targets,), weights
        )
        return 3.0 * total / weights.sum()

    return loss


VECTOR = jnp.asarray([0.5, -1.0, 2.0])


@pytest.mark.parametrize("size", [1, 2, 3, ROWS, 100])
def test_value_and_gradients_are_those_of_all_rows_at_once(rows, size):
    value, gradients = jax.jit(jax.value_and_grad(whole, (0, 1)))(VECTOR, *rows)
    loss = by_chunk(size)
    np.testing.assert_allclose(jax.jit(loss)(VECTOR, *rows), value, rtol=1e-6)
    own_value, own = jax.jit(jax.value_and_grad(loss, (0, 1)))(VECTOR, *rows)
    np.testing.assert_allclose(own_value, value, rtol=1e-6)
    for one, expected in zip(own, gradients, strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-6)


def test_chunks_behind_the_last_row_that_counts_are_not_run(rows):
    inputs, targets, weights = rows
    # A chunk that ran would bring NaN: `squares` leaves its rows out of the sum, not of the gradient.
    inputs = inputs.at[:, 4:].set(jnp.nan)
    value, (of_vector, of_inputs) = jax.value_and_grad(by_chunk(2), (0, 1))(
        VECTOR, inputs, targets, weights
    )
    assert np.isfinite(value) and np.isfinite(of_vector).all()
    assert (of_inputs[:, 4:] == 0).all() and (np.asarray(of_inputs)[:, :3] != 0).all()
    assert not np.isfinite(jax.grad(by_chunk(5))(VECTOR, inputs, targets, weights)).all()


def test_without_a_row_that_counts_there_is_no_loss_and_no_gradient(rows):
    inputs, targets, weights = rows

    def total(vector, inputs):
        return chunked_loss(
            lambda *chunk: squares(vector, *chunk), 2, inputs, (targets,), 0 * weights
        )

    value, gradients = jax.value_and_grad(total, (0, 1))(VECTOR, inputs)
    assert value == 0.0 and all((gradient == 0).all() for gradient in gradients)


def test_gradients_have_the_types_of_what_they_belong_to(rows):
    inputs, targets, weights = rows
    of_vector, of_inputs = jax.grad(by_chunk(2), (0, 1))(
        VECTOR, inputs.astype(jnp.bfloat16), targets, weights
    )
    assert of_vector.dtype == jnp.float32 and of_inputs.dtype == jnp.bfloat16


def test_a_gradient_reaches_all_that_the_loss_reads(rows):
    scale = {"of": jnp.float32(2.0), "unread": jnp.float32(5.0)}

    def total(scale):
        inputs, targets, weights = rows
        return chunked_loss(
            lambda *chunk: squares(scale["of"] * VECTOR, *chunk), 3, inputs, (targets,), weights
        )

    gradient = jax.grad(total)(scale)
    assert gradient["of"] != 0 and gradient["unread"] == 0
