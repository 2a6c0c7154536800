"""Group norm against its definition in NumPy, and as an exported graph."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.models.builder import Builder
from rcnn_jax.models.fpn import FeaturePyramid
from rcnn_jax.models.group_norm import GroupNorm, groups_of, size_of
from rcnn_jax.models.heads import BoxHead, MaskHead
from tests.export.run import assert_same, ops_of


def reference(x, gamma, beta, groups, epsilon=1e-5):
    """Slices of channels, one image and group after the other."""
    result = np.empty_like(x)
    size = x.shape[-1] // groups
    for image in range(len(x)):
        for group in range(groups):
            own = np.s_[image, :, :, group * size : (group + 1) * size]
            part = x[own].astype(np.float64)
            result[own] = (part - part.mean()) / np.sqrt(part.var() + epsilon)
    return result * gamma + beta


def values(shape, seed=0):
    rng = np.random.default_rng(seed)
    return [
        rng.normal(3, 2, shape).astype(np.float32),
        rng.normal(1, 0.3, shape[-1]).astype(np.float32),
        rng.normal(0, 1, shape[-1]).astype(np.float32),
    ]


@pytest.mark.parametrize(
    ("features", "channels", "groups"),
    [
        (256, 256, 32),
        (1024, 1024, 32),
        (256, 248, 31),  # pruned by one group
        (256, 16, 2),
        (64, 64, 32),
        (48, 48, 24),
        (30, 30, 15),
        (7, 7, 1),
        (256, 12, 6),  # no multiple of 8
        (256, 1, 1),
    ],
)
def test_there_are_32_groups_or_the_largest_divisor(features, channels, groups):
    assert groups_of(channels, features) == groups
    assert channels % groups == 0


def test_pruning_keeps_the_size_of_groups():
    for kept in range(1, 33):
        assert groups_of(8 * kept, 256) == kept
    assert size_of(256) == 8


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (12, 6), (7, 1)])
def test_it_is_that_of_the_numpy_reference(channels, groups):
    x, gamma, beta = values((2, 3, 5, channels))
    made = GroupNorm(channels).apply({"params": {"gamma": gamma, "beta": beta}}, x)
    np.testing.assert_allclose(made, reference(x, gamma, beta, groups), rtol=1e-4, atol=1e-4)


def test_an_image_does_not_see_the_others_and_training_is_prediction():
    x, gamma, beta = values((3, 4, 4, 16))
    layer, variables = GroupNorm(16), {"params": {"gamma": gamma, "beta": beta}}
    whole = layer.apply(variables, x, True, jnp.array([1.0, 0.0, 1.0]))
    alone = jnp.concatenate([layer.apply(variables, x[i : i + 1], False) for i in range(3)])
    np.testing.assert_allclose(whole, alone, rtol=1e-6, atol=1e-6)


def test_a_constant_map_and_a_map_of_one_cell_have_finite_gradients():
    layer = GroupNorm(8)
    variables = {"params": {"gamma": jnp.ones(8), "beta": jnp.zeros(8)}}
    for x in (jnp.full((1, 4, 4, 8), 5.0), jnp.arange(8.0).reshape(1, 1, 1, 8)):
        gradient = jax.grad(lambda x: (layer.apply(variables, x) ** 2).sum())(x)
        assert np.isfinite(gradient).all()


def test_bfloat16_is_normalised_in_float32():
    x, gamma, beta = values((1, 8, 8, 32))
    layer = GroupNorm(32, dtype=jnp.bfloat16)
    made = layer.apply({"params": {"gamma": gamma, "beta": beta}}, jnp.asarray(x, jnp.bfloat16))
    assert made.dtype == jnp.bfloat16
    rounded = np.asarray(jnp.asarray(x, jnp.bfloat16), np.float32)
    wanted = reference(rounded, gamma, beta, 16)
    np.testing.assert_allclose(np.asarray(made, np.float32), wanted, rtol=1e-2, atol=2e-2)


@pytest.mark.parametrize("free_batch", [True, False])
def test_the_exported_graph_agrees_without_a_transpose(free_batch):
    x, gamma, beta = values((2, 6, 5, 32))
    layer, variables = GroupNorm(32), {"params": {"gamma": gamma, "beta": beta}}
    graph = assert_same(
        lambda x: layer.apply(variables, x).transpose(0, 3, 1, 2),
        x,
        perm=(0, 3, 1, 2),
        free_batch=free_batch,
        atol=1e-5,
    )
    assert ops_of(graph) == ["Reshape", "InstanceNormalization", "Reshape", "Mul", "Add"]


def layers_of(module, *args):
    shapes = jax.eval_shape(lambda key: module.init(key, *args), jax.random.key(0))
    return {name: set(leaves) for name, leaves in shapes["params"].items()}, set(shapes)


def test_pyramid_and_heads_have_group_norm_instead_of_biases():
    maps = {level: jnp.zeros((1, 2 ** (6 - level), 2 ** (6 - level), 4)) for level in range(2, 6)}
    pyramid, groups = layers_of(FeaturePyramid(Builder(), 2, 6, norm="group"), maps, False)
    assert groups == {"params"}  # no statistics
    assert pyramid["l3"] == {"kernel"} and pyramid["post_hoc_d4_gn"] == {"gamma", "beta"}
    box, _ = layers_of(BoxHead(Builder(), 16, 4, "group"), jnp.zeros((2, 7, 7, 8)), False)
    assert box["box-conv-l3"] == {"kernel"} and box["box-conv-l3_gn"] == {"gamma", "beta"}
    assert "bias" in box["fc6"]
    mask, _ = layers_of(MaskHead(Builder(), 3, norm="group"), jnp.zeros((2, 7, 7, 8)), False)
    assert "mask-conv-l0_gn" in mask and not any(name.endswith("_bn") for name in mask)
