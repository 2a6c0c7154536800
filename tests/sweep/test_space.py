"""Distributions and what is drawn from them."""

import math

import pytest

from rcnn_jax.errors import UsageError
from rcnn_jax.sweep import Choice, Float, Int
from rcnn_jax.sweep.space import grid, grid_size, random


def test_values_lie_in_their_ranges_and_reach_both_ends():
    assert (Float(1e-4, 1e-1, log=True).at(0), Float(1e-4, 1e-1, log=True).at(1)) == (1e-4, 1e-1)
    assert 0.3 + (0.9 - 0.3) > 0.9
    assert Float(0.3, 0.9).grid()[-1] == 0.9
    assert [Int(2, 4).at(f) for f in (0, 0.34, 0.99, 1)] == [2, 3, 4, 4]
    assert [Choice("a", (1, 2)).at(f) for f in (0, 0.5, 1)] == ["a", (1, 2), (1, 2)]


def test_a_logarithmic_range_has_equal_ratios():
    values = Float(1e-4, 1e-1, log=True, points=4).grid()
    assert values == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1])


def test_a_grid_has_every_combination_once():
    space = {"a": Int(1, 3, points=9), "b": Choice(True, False), "c": Float(0, 1, points=2)}
    combinations = [tuple(each.values()) for each in grid(space)]
    assert len(combinations) == len(set(combinations)) == grid_size(space) == 3 * 2 * 2
    assert combinations[0] == (1, True, 0.0)


def test_random_values_follow_from_seed_and_number_alone():
    space = {"a": Float(0, 1), "b": Int(0, 100)}
    assert random(space, 1, 7) == random(space, 1, 7)
    assert random(space, 1, 7) != random(space, 1, 8)
    assert random(space, 1, 7) != random(space, 2, 7)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Float(1, 0),
        lambda: Float(0, 1, log=True),
        lambda: Float(0, math.inf),
        lambda: Int(3, 2),
        lambda: Choice(),
    ],
)
def test_a_range_without_a_value_is_refused(make):
    with pytest.raises(UsageError):
        make()
