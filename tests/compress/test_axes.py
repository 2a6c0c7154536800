"""Reshapes, by example: what repeats, what stays, what is torn apart."""

import numpy as np
import pytest

from rcnn_jax.compress.axes import FIXED, UNIFORM, reshaped

C = np.arange(6)


def same(actual, expected):
    return len(actual) == len(expected) and all(
        np.array_equal(a, b) if isinstance(b, np.ndarray) else isinstance(a, str) and a == b
        for a, b in zip(actual, expected, strict=True)
    )


@pytest.mark.parametrize(
    ("axes", "old", "new", "expected"),
    [
        ((FIXED, C), (4, 6), (2, 2, 6), (FIXED, FIXED, C)),
        ((UNIFORM, FIXED, C), (1, 4, 6), (4, 6), (FIXED, C)),
        ((C,), (6,), (1, 1, 1, 6), (UNIFORM, UNIFORM, UNIFORM, C)),
        ((FIXED, C), (4, 6), (24,), (np.tile(C, 4),)),
        ((C, FIXED), (6, 4), (24,), (np.repeat(C, 4),)),
        ((np.tile(C, 4),), (24,), (4, 6), (FIXED, C)),
        ((np.repeat(C, 4),), (24,), (6, 4), (C, FIXED)),
        ((C, UNIFORM), (6, 1), (6,), (C,)),
        ((FIXED, FIXED), (4, 6), (24,), (FIXED,)),
        ((UNIFORM, UNIFORM), (4, 6), (24,), (UNIFORM,)),
    ],
)
def test_channels_follow_the_elements(axes, old, new, expected):
    axes_after, stuck = reshaped(axes, old, new)
    assert same(axes_after, expected) and not stuck


def test_channels_that_change_along_two_new_axes_are_stuck():
    axes_after, stuck = reshaped((FIXED, C), (5, 6), (5, 2, 3))
    assert same(axes_after, (FIXED, FIXED, FIXED)) and same(stuck, [C])


def test_two_axes_of_channels_in_one_are_stuck():
    axes_after, stuck = reshaped((C, C + 6), (6, 6), (36,))
    assert same(axes_after, (FIXED,)) and same(stuck, [C, C + 6])


def test_an_only_channel_whose_axis_is_dropped_is_stuck():
    only = np.array([3])
    axes_after, stuck = reshaped((FIXED, only), (5, 1), (5,))
    assert same(axes_after, (FIXED,)) and same(stuck, [only])
    axes_after, stuck = reshaped((only,), (1,), ())
    assert axes_after == () and same(stuck, [only])
