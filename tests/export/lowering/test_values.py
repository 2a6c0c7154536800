"""Operands of the exporter: constants that repeat themselves, and layouts."""

import numpy as np
import pytest

from rcnn_jax.export.lowering.values import (
    Const,
    Value,
    collapse,
    identity,
    is_static,
    number,
    whole,
)


def test_a_constant_of_one_number_is_uniform():
    assert Const(np.full((1, 1), 2.0), (3, 4)).uniform() == 2.0
    assert whole(np.array([1.0, 2.0])).uniform() is None
    assert whole(np.zeros((0, 4))).uniform() is None
    assert whole(np.array([np.nan, np.nan])).uniform() is None, "NaN equals nothing"


def test_a_constant_is_whole_where_nothing_is_left_to_repeat():
    assert whole(np.zeros((2, 3))).is_whole
    assert not Const(np.zeros((1, 3)), (2, 3)).is_whole
    assert number(3, np.int32).dtype == np.int32 and number(3).shape == ()


def test_operands_are_compared_by_identity():
    one = whole(np.zeros(3))
    assert one == one and one != whole(np.zeros(3))
    value = Value("x", (2,), np.dtype(np.float32), (0,), (2,))
    assert value != Value("x", (2,), np.dtype(np.float32), (0,), (2,))


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (np.ones((4, 5)), (1, 1)),
        (np.arange(5.0) * np.ones((4, 1)), (1, 5)),
        (np.arange(4.0)[:, None] * np.ones((4, 5)), (4, 1)),
        (np.arange(20.0).reshape(4, 5), (4, 5)),
        (np.float32(3.0), ()),
        (np.zeros((0, 2)), (0, 1)),
    ],
)
def test_what_repeats_itself_is_kept_once(array, shape):
    array = np.asarray(array)
    small = collapse(array)
    assert small.shape == shape
    np.testing.assert_array_equal(np.broadcast_to(small, array.shape), array)


def test_a_length_is_static_where_it_is_a_number():
    assert identity(3) == (0, 1, 2)
    assert is_static((1, np.int64(2))) and not is_static((1, "b")) and is_static(())
