import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.ops.marker import marked, read_mark


def weighted_sum(x, y, *, factor):
    return jnp.sum(x * y) * factor


def test_a_marked_function_is_one_equation_that_carries_its_attributes():
    jaxpr = jax.make_jaxpr(marked("sum", weighted_sum, factor=3.0))(jnp.ones(2), jnp.ones(2))
    (equation,) = jaxpr.eqns
    assert read_mark(equation.params["name"]) == ("sum", {"factor": 3.0})


def test_a_marked_function_computes_what_it_did():
    x, y = jnp.arange(3.0), jnp.ones(3)
    assert marked("sum", weighted_sum, factor=2.0)(x, y) == 6.0


def test_gradients_flow_through_a_marker():
    gradient = jax.grad(marked("sum", weighted_sum, factor=2.0))(jnp.ones(3), jnp.arange(3.0))
    np.testing.assert_array_equal(gradient, [0.0, 2.0, 4.0])


def test_mapping_keeps_the_marker_and_adds_an_axis_in_front_of_mapped_operands():
    op = marked("sum", weighted_sum, factor=1.0)
    jaxpr = jax.make_jaxpr(jax.vmap(op, in_axes=(0, None)))(jnp.ones((5, 3)), jnp.ones(3))
    (equation,) = jaxpr.eqns
    assert read_mark(equation.params["name"]) == ("sum", {"factor": 1.0})
    assert [v.aval.shape for v in equation.invars] == [(5, 3), (3,)]


def test_equal_marks_are_the_same_function():
    assert marked("sum", weighted_sum, factor=1.0) is marked("sum", weighted_sum, factor=1.0)
    assert marked("sum", weighted_sum, factor=1.0) is not marked("sum", weighted_sum, factor=2.0)


def test_other_names_are_no_marks():
    assert read_mark("relu") is None
    assert read_mark("_where") is None
