import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rcnn_jax.ops.kernels import max_pool as module
from rcnn_jax.ops.kernels.max_pool import max_pool
from rcnn_jax.ops.marker import read_mark

CASES = (
    (3, 2, ((0, 1), (0, 1))),
    (3, 2, ((1, 1), (1, 1))),
    (2, 2, ((0, 0), (0, 0))),
    (3, 1, ((1, 1), (1, 1))),
    (2, 3, ((0, 1), (1, 0))),
    (5, 2, ((2, 2), (1, 3))),
)


def plain(x, window, strides, pads):
    shape, steps = (1, window, window, 1), (1, strides, strides, 1)
    return lax.reduce_window(x, -float("inf"), lax.max, shape, steps, ((0, 0), *pads, (0, 0)))


def gradient(pool, x, case):
    return jax.grad(lambda v: jnp.sum(jnp.sin(pool(v, *case)) * 3.0))(x)


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_reduce_window(case):
    x = jax.random.normal(jax.random.key(0), (2, 9, 11, 3))
    np.testing.assert_array_equal(max_pool(x, *case), plain(x, *case))
    np.testing.assert_allclose(
        gradient(max_pool, x, case), gradient(plain, x, case), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("case", CASES)
def test_of_equal_values_the_first_gets_the_gradient(case):
    x = jnp.round(jax.random.normal(jax.random.key(1), (1, 8, 8, 2)))
    np.testing.assert_allclose(
        gradient(max_pool, x, case), gradient(plain, x, case), rtol=1e-6, atol=1e-6
    )


def test_gradient_of_a_window_goes_to_its_maximum_by_hand():
    x = jnp.asarray([[1.0, 5.0, 2.0, 0.0], [3.0, 4.0, 6.0, 7.0]]).reshape(1, 2, 4, 1)
    pooled, pull = jax.vjp(lambda v: max_pool(v, 2, 2, ((0, 0), (0, 0))), x)
    np.testing.assert_array_equal(pooled.ravel(), [5.0, 7.0])
    pulled = pull(jnp.asarray([10.0, 20.0]).reshape(pooled.shape))[0]
    np.testing.assert_array_equal(pulled.ravel(), [0, 10, 0, 0, 0, 0, 0, 20])


def test_an_input_computed_again_with_other_last_bits_gives_the_same_gradient():
    case = (3, 2, ((1, 1), (1, 1)))
    x = np.asarray(jax.random.normal(jax.random.key(3), (2, 8, 8, 3)))
    y, saved = module._pool_forward(x, *case)
    again = jax.tree.map(lambda leaf: np.nextafter(leaf, np.float32(np.inf)), saved)
    expected, actual = (module._pool_backward(*case, one, jnp.cos(y)) for one in (saved, again))
    np.testing.assert_array_equal(actual[0], expected[0])


def test_cells_no_window_reaches_get_no_gradient():
    x = jax.random.normal(jax.random.key(2), (1, 5, 5, 1))
    slopes = jax.grad(lambda v: max_pool(v, 2, 2, ((0, 0), (0, 0))).sum())(x)
    assert slopes.shape == x.shape
    np.testing.assert_array_equal(slopes[:, 4], 0.0)
    np.testing.assert_array_equal(slopes[:, :, 4], 0.0)


def test_it_is_one_marked_operation_also_under_vmap_and_in_bfloat16():
    x = jnp.ones((2, 1, 4, 4, 1), jnp.bfloat16)
    pool = jax.vmap(lambda v: max_pool(v, 3, 2, ((0, 1), (0, 1))))
    assert pool(x).dtype == jnp.bfloat16
    names = [e.params.get("name", "") for e in jax.make_jaxpr(pool)(x).eqns]
    marks = [mark for name in names if (mark := read_mark(name))]
    assert marks == [("max_pool", {"window": 3, "strides": 2, "pads": [[0, 1], [0, 1]]})]
