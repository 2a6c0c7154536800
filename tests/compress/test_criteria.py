"""Which filters are kept, worked out by hand and by laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcnn_jax.compress.channels import ChannelMap
from rcnn_jax.compress.criteria import (
    Filters,
    PruneSettings,
    Scores,
    filters_of,
    held_by_floor,
    keep,
    lowest_threshold,
    score_groups,
)
from rcnn_jax.compress.groups import Group, Network

EXACT = PruneSettings(granularity=1, min_filters=1)


def group(layers, size, first=0, per_decision=1):
    rows = np.arange(size * per_decision).reshape(size, per_decision)
    return Group(
        layers=tuple(layers),
        classes=np.arange(first, first + size),
        filters={layer: rows for layer in layers},
        pin=None,
    )


def scores_of(norms, settings, groups=None, shapes=None):
    """Scores of one group of layers with some norms, or of given groups."""
    filters = {
        layer: Filters(
            norms=np.asarray(row, np.float32),
            kept=np.arange(len(row)),
            shape=(shapes or {}).get(layer, (3, 3, 4, len(row))),
        )
        for layer, row in norms.items()
    }
    groups = groups or [group(norms, len(next(iter(norms.values()))))]
    channels = ChannelMap(leaves={}, pins={}, costs=(), constants=0)
    network = Network(channels=channels, groups=tuple(groups), widths={}, shapes={})
    return score_groups(network, filters, settings)


def plain(values):
    """Scores of one layer, as given."""
    values = np.asarray(values, float)
    return Scores(
        group=group(["a"], len(values)), values=values, decided_by=np.zeros(len(values), int)
    )


def test_the_norm_of_a_filter_runs_over_all_axes_but_the_last():
    kernel = np.zeros((3, 3, 2, 2), np.float32)
    kernel[0, 1, 0, 0], kernel[2, 2, 1, 0], kernel[1, 1, 1, 1] = 3.0, 4.0, -2.0
    np.testing.assert_array_equal(filters_of(kernel).norms, [5.0, 2.0])


@pytest.mark.parametrize(
    ("normalizer", "expected"),
    [
        ("max", [0.75, 1.0]),
        ("L2", [3 * 2 / 5, 4 * 2 / 5]),  # over the norm of all, times their number
    ],
)
def test_norms_are_divided_by_the_largest_or_by_the_norm_of_all(normalizer, expected):
    settings = PruneSettings(normalizer=normalizer)
    (scores,) = scores_of({"a": [3.0, 4.0]}, settings)
    np.testing.assert_allclose(scores.values, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("criterion", "expected", "decided_by"),
    [
        ("union", [1.0, 1.0, 0.5], [0, 1, 0]),
        ("intersection", [0.25, 0.5, 0.25], [1, 0, 1]),
        ("arithmetic_mean", [0.625, 0.75, 0.375], [-1] * 3),
        ("geometric_mean", [0.5, 0.5**0.5, 0.125**0.5], [-1] * 3),
    ],
)
def test_layers_of_a_group_agree_by_the_criterion(criterion, expected, decided_by):
    norms = {"a": [4.0, 2.0, 2.0], "b": [2.0, 8.0, 2.0]}
    (scores,) = scores_of(norms, PruneSettings(criterion=criterion))
    np.testing.assert_allclose(scores.values, expected, rtol=1e-6)
    np.testing.assert_array_equal(scores.decided_by, decided_by)


def test_a_mean_of_many_small_norms_is_not_zero():
    norms = {f"layer{i}": [1e-30, 1.0] for i in range(40)}
    (scores,) = scores_of(norms, PruneSettings(criterion="geometric_mean"))
    np.testing.assert_allclose(scores.values[0], 1e-30, rtol=1e-5)


def test_isomorphic_ranking_compares_groups_of_one_shape_and_no_others():
    groups = [group(["a"], 2), group(["b"], 2, 2), group(["c"], 2, 4)]
    norms = {"a": [1.0, 2.0], "b": [4.0, 8.0], "c": [1.0, 1.0]}
    shapes = {"c": (1, 1, 4, 2)}
    settings = PruneSettings(rank="isomorphic")
    values = [s.values for s in scores_of(norms, settings, groups, shapes)]
    np.testing.assert_allclose(values, [[0.125, 0.25], [0.5, 1.0], [1.0, 1.0]])


@pytest.mark.parametrize(
    ("above", "granularity", "least", "expected"),
    [
        (3, 1, 1, 3),
        (3, 8, 1, 8),  # rounded up
        (3, 8, 16, 16),  # the floor
        (9, 8, 1, 16),
        (19, 8, 1, 20),  # capped at what there is
        (0, 8, 1, 8),
        (1, 1, 64, 20),  # a layer narrower than the floor keeps all
    ],
)
def test_the_count_is_floored_then_rounded_up_then_capped(above, granularity, least, expected):
    values = np.where(np.arange(20) < above, 0.9, 0.1)
    settings = PruneSettings(granularity=granularity, min_filters=least)
    assert keep(plain(values), 0.5, settings).sum() == expected


def test_the_strongest_are_kept_and_the_first_among_equals():
    kept = keep(plain([0.2, 0.9, 0.2, 0.1, 0.2]), 0.5, PruneSettings(granularity=3, min_filters=1))
    np.testing.assert_array_equal(kept, [True, True, True, False, False])


def test_a_norm_equal_to_the_threshold_is_removed():
    np.testing.assert_array_equal(keep(plain([0.5, 0.6]), 0.5, EXACT), [False, True])


def test_a_threshold_of_zero_removes_nothing_not_even_dead_filters():
    assert keep(plain([0.0, 1.0]), 0.0, EXACT).all()
    assert not keep(plain([0.0, 1.0]), 1e-300, EXACT).all()


def test_a_layer_of_dead_filters_keeps_its_floor():
    (scores,) = scores_of({"a": [0.0] * 32}, PruneSettings())
    assert keep(scores, 0.1, PruneSettings()).sum() == 16
    assert held_by_floor(scores, 0.1, PruneSettings())


def test_decisions_on_two_filters_each_round_to_filters_of_the_layer():
    rows = group(["a"], 16, per_decision=2)
    norms = {"a": np.repeat(np.linspace(1.0, 0.01, 16), 2)}
    (scores,) = scores_of(norms, PruneSettings(), [rows])
    assert keep(scores, 0.9, PruneSettings(min_filters=8)).sum() == 4  # 8 filters


@given(
    values=st.lists(st.floats(0, 1, width=16), min_size=1, max_size=40),
    first=st.floats(0.01, 1),
    second=st.floats(0.01, 1),
    granularity=st.sampled_from([1, 3, 8]),
    least=st.sampled_from([1, 5, 16]),
)
def test_pruning_in_two_steps_is_pruning_at_the_higher_threshold(
    values, first, second, granularity, least
):
    low, high = sorted((first, second))
    settings = PruneSettings(granularity=granularity, min_filters=least)
    values = np.asarray(values)
    once = keep(plain(values), high, settings)
    step = np.flatnonzero(keep(plain(values), low, settings))
    twice = step[keep(plain(values[step]), high, settings)]
    np.testing.assert_array_equal(np.flatnonzero(once), twice)


@given(
    values=st.lists(st.floats(0, 1, width=16), min_size=1, max_size=40),
    granularity=st.sampled_from([1, 8]),
    least=st.sampled_from([1, 16]),
)
def test_the_lowest_threshold_removes_something_and_less_removes_nothing(
    values, granularity, least
):
    settings = PruneSettings(granularity=granularity, min_filters=least)
    scores = plain(values)
    lowest = lowest_threshold([scores], settings)
    if lowest is None:
        assert keep(scores, 1e9, settings).all()
    else:
        assert not keep(scores, lowest, settings).all()
        assert keep(scores, np.nextafter(lowest, 0), settings).all()
