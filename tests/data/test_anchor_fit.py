import numpy as np
import pytest

from rcnn_jax.data.anchor_fit import (
    best_overlaps,
    fit_octaves,
    fit_ratios,
    fit_scales,
    octave_cells,
    thinned,
    unreached,
)


def test_an_anchor_of_the_same_size_may_be_off_centre():
    # 32 x 32 moved by 4 in both directions: 28 * 28 in common.
    common = 28 * 28
    (overlap,) = best_overlaps(np.array([[32.0, 32.0]]), {16: [(32.0, 32.0)]}, (0.25, 0.25))
    assert overlap == pytest.approx(common / (2 * 32 * 32 - common))


def test_objects_far_from_every_anchor_overlap_little():
    sides = np.array([[4.0, 4.0], [64.0, 64.0]])
    assert unreached(sides, {16: [(64.0, 64.0)]}) == 0.5
    # a flat object of half the stride is reached where a row of cells is near it
    assert 0.3 < unreached(np.array([[8.0, 64.0]]), {16: [(8.0, 64.0)]}) < 0.8
    assert unreached(np.zeros((0, 2)), {16: [(64.0, 64.0)]}) == 0.0


def test_an_object_inside_a_larger_anchor_overlaps_as_a_whole():
    (overlap,) = best_overlaps(np.array([[10.0, 10.0]]), {16: [(40.0, 40.0)]})
    assert overlap == pytest.approx(100 / 1600)


def plates():
    """Plates 3.6 times as wide as high, side 26 pixels, some nearer."""
    rng = np.random.Generator(np.random.Philox(0))
    size = 26 * np.exp(rng.normal(0, 0.4, 500))
    ratio = 3.6 * np.exp(rng.normal(0, 0.1, 500))
    return np.stack([size / ratio**0.5, size * ratio**0.5], axis=1)


def test_scales_and_ratios_follow_the_objects():
    ratios = fit_ratios(plates(), 2)
    assert all(2.8 < ratio < 4.5 for ratio in ratios) and len(ratios) == 2
    small, middle, large = fit_scales(plates(), 3)
    assert 12 < small < 22 < middle < 31 < large < 60


def test_equal_objects_need_one_scale():
    assert fit_scales(np.full((9, 2), 20.0), 3) == (20.0,)
    assert fit_ratios(np.array([[10.0, 20.0]]), 3) == (2.0,)


def test_the_base_side_of_a_pyramid_follows_the_objects():
    strides = [4, 8, 16, 32, 64]
    small = np.full((10, 2), 8.0)
    assert fit_octaves(small, strides, 1, [1.0]) < 4
    assert fit_octaves(np.full((10, 2), 1100.0), strides, 1, [1.0]) > 10
    assert octave_cells(8, [4], 2, [4.0])[4][0] == (16.0, 64.0)


def test_large_data_sets_are_thinned():
    assert thinned(np.zeros((50_001, 2), np.float32)).shape == (16_667, 2)
    assert len(thinned(np.zeros((3, 2), np.float32))) == 3
