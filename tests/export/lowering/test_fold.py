"""Folding: an equation whose inputs are known is run, with the bits of JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.export.lowering.fold import fold
from rcnn_jax.export.lowering.values import Const, Value, whole

ROW = np.array([0.1, 0.2, 0.7], np.float32)


def equation(function, *arguments):
    """The last equation of a function."""
    return jax.make_jaxpr(function)(*arguments).jaxpr.eqns[-1]


@pytest.mark.parametrize(
    "function",
    [lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a - b, lambda a, b: jnp.maximum(a, b)],
)
def test_the_numbers_are_those_of_jax(function):
    (result,) = fold(equation(function, ROW, ROW[::-1]), [whole(ROW), whole(ROW[::-1])])
    np.testing.assert_array_equal(result.array, jax.jit(function)(ROW, ROW[::-1]))
    assert result.is_whole and result.array.dtype == np.float32


def test_an_equation_with_a_tensor_is_left_to_the_graph():
    tensor = Value("x", (3,), np.dtype(np.float32), (0,), (3,))
    assert fold(equation(lambda a, b: a + b, ROW, ROW), [tensor, whole(ROW)]) is None


def test_what_repeats_over_the_batch_is_computed_once():
    made = equation(lambda a, b: a + b, np.ones((4, 3), np.float32), np.ones((4, 3), np.float32))
    repeated = Const(ROW[None], (4, 3))
    (result,) = fold(made, [repeated, repeated])
    np.testing.assert_array_equal(result.array, 2 * ROW[None])
    assert result.shape == (4, 3)


def test_a_reduction_of_what_repeats_is_not_folded():
    made = equation(lambda a: a.sum(axis=0), np.ones((4, 3), np.float32))
    assert fold(made, [Const(ROW[None], (4, 3))]) is None, "one of four would be counted"


def test_integers_wrap_as_in_jax():
    large = np.array([2**31 - 1], np.int32)
    (result,) = fold(equation(lambda a, b: a + b, large, large), [whole(large), whole(large)])
    assert result.array.dtype == np.int32 and result.array.tolist() == [-2]


def test_broadcasts_and_reshapes_move_numbers_only():
    made = equation(lambda a: jnp.broadcast_to(a, (2, 3)), ROW)
    (result,) = fold(made, [whole(ROW)])
    np.testing.assert_array_equal(result.array, np.stack([ROW, ROW]))
    (result,) = fold(equation(lambda a: a.reshape(3, 1), ROW), [whole(ROW)])
    np.testing.assert_array_equal(result.array, ROW[:, None])
