import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.ops.gather import gather_rows
from rcnn_jax.ops.marker import read_mark


def test_rows_come_in_the_order_of_the_index():
    table = np.arange(12.0, dtype=np.float32).reshape(4, 3)
    np.testing.assert_array_equal(gather_rows(table, np.int32([3, 0, 3])), table[[3, 0, 3]])


def test_rows_of_higher_rank_and_scalars_are_rows_too():
    table = np.arange(24.0, dtype=np.float32).reshape(4, 3, 2)
    np.testing.assert_array_equal(gather_rows(table, np.int32([2])), table[[2]])
    np.testing.assert_array_equal(gather_rows(np.int32([5, 6, 7]), np.int32([1, 1])), [6, 6])


def test_the_gradient_of_a_row_read_twice_is_the_sum():
    gradient = jax.grad(lambda t: jnp.sum(gather_rows(t, jnp.array([1, 1, 0]))))(jnp.ones((3, 1)))
    np.testing.assert_array_equal(gradient, [[1.0], [2.0], [0.0]])


def test_the_exporter_can_tell_mapped_axes_from_the_row_rank():
    table, index = jnp.ones((6, 4)), jnp.zeros((2, 3), jnp.int32)
    jaxpr = jax.make_jaxpr(jax.vmap(gather_rows, in_axes=(None, 0)))(table, index)
    (equation,) = jaxpr.eqns
    assert read_mark(equation.params["name"]) == ("gather_rows", {"row_rank": 1})
    assert [v.aval.ndim for v in equation.invars] == [2, 2]
