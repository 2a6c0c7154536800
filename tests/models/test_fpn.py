"""The pyramid against its definition in NumPy, one level after the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.models.builder import Builder
from rcnn_jax.models.fpn import FeaturePyramid

CHANNELS = {2: 3, 3: 4, 4: 5, 5: 6}
FEATURES = 2


@pytest.fixture(scope="module")
def backbone():
    rng = np.random.default_rng(0)
    sides = {2: 16, 3: 8, 4: 4, 5: 2}
    return {
        level: jnp.asarray(rng.normal(0, 1, (1, side, side, CHANNELS[level])), jnp.float32)
        for level, side in sides.items()
    }


def applied(backbone, min_level, max_level):
    """Returns (levels of the pyramid, its parameters) of random weights."""
    pyramid = FeaturePyramid(Builder(), min_level, max_level, FEATURES)
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(
        lambda key, levels: pyramid.init(key, levels, False), jax.random.key(0), backbone
    )
    variables = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(0, 0.3, leaf.shape), jnp.float32), shapes
    )
    return pyramid.apply(variables, backbone, False), jax.tree.map(np.asarray, variables["params"])


def conv3(x, layer, strides=1):
    """A 3x3 convolution whose border is zeros, [h w c] -> [h' w' f]."""
    h, w, _ = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    rows = [
        [
            np.einsum("ijc,ijcf->f", padded[y : y + 3, x : x + 3], layer["kernel"])
            for x in range(0, w, strides)
        ]
        for y in range(0, h, strides)
    ]
    return np.asarray(rows) + layer["bias"]


def lateral(backbone, level, params):
    layer = params[f"l{level}"]
    return np.asarray(backbone[level][0]) @ layer["kernel"][0, 0] + layer["bias"]


def test_a_level_is_its_lateral_plus_the_level_above_repeated(backbone):
    levels, params = applied(backbone, 4, 5)
    top = lateral(backbone, 5, params)
    merged = lateral(backbone, 4, params) + top.repeat(2, 0).repeat(2, 1)
    np.testing.assert_allclose(levels[5][0], conv3(top, params["post_hoc_d5"]), atol=1e-5)
    np.testing.assert_allclose(levels[4][0], conv3(merged, params["post_hoc_d4"]), atol=1e-5)


def test_the_sums_go_down_before_they_are_smoothed(backbone):
    levels, params = applied(backbone, 3, 5)
    d4 = lateral(backbone, 4, params) + lateral(backbone, 5, params).repeat(2, 0).repeat(2, 1)
    d3 = lateral(backbone, 3, params) + d4.repeat(2, 0).repeat(2, 1)
    np.testing.assert_allclose(levels[3][0], conv3(d3, params["post_hoc_d3"]), atol=1e-5)


def test_level_6_alone_is_every_second_cell_of_level_5(backbone):
    levels, params = applied(backbone, 2, 6)
    np.testing.assert_array_equal(levels[6], levels[5][:, ::2, ::2])
    assert "p6" not in params


def test_more_levels_are_strided_convolutions_each_on_the_one_before(backbone):
    levels, params = applied(backbone, 2, 7)
    p6 = conv3(np.asarray(levels[5][0]), params["p6"], strides=2)
    np.testing.assert_allclose(levels[6][0], p6, atol=1e-5)
    np.testing.assert_allclose(levels[7][0], conv3(p6, params["p7"], strides=2), atol=1e-5)


@pytest.mark.parametrize(("min_level", "max_level"), [(2, 5), (2, 6), (3, 7)])
def test_all_levels_have_one_width(backbone, min_level, max_level):
    levels, _ = applied(backbone, min_level, max_level)
    assert sorted(levels) == [*range(min_level, max_level + 1)]
    assert {level.shape[-1] for level in levels.values()} == {FEATURES}
