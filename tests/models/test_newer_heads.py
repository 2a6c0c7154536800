"""Pyramid and heads with batch norm, layer by layer in NumPy: the stage formulas of torchvision's v2."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.models.batch_norm import BatchNorm
from rcnn_jax.models.builder import Builder
from rcnn_jax.models.fpn import FeaturePyramid
from rcnn_jax.models.heads import BoxHead, MaskHead, RpnHead, RpnNames
from rcnn_jax.settings.network import TORCHVISION
from tests.reference import layers as slow

BUILD = Builder(convention=TORCHVISION)
SAME = ((1, 1), (1, 1))
NONE = ((0, 0), (0, 0))


def filled(module, *inputs):
    """Random variables of a module, statistics of batch norm included."""
    shapes = jax.eval_shape(lambda key: module.init(key, *inputs), jax.random.key(0))
    rng = np.random.default_rng(0)

    def leaf(path, shape):
        if path[-1].key == "moving_variance":
            return rng.uniform(0.5, 2.0, shape.shape).astype(np.float32)
        return (0.3 * rng.standard_normal(shape.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def norm(x, variables, name):
    params, statistics = variables["params"][name], variables["batch_stats"][name]
    scale = params["gamma"] / np.sqrt(statistics["moving_variance"] + 1e-5)
    return (x - statistics["moving_mean"]) * scale + params["beta"]


def conv_norm(x, variables, name, pads):
    return norm(slow.conv(x, variables["params"][name]["kernel"], 1, pads), variables, f"{name}_bn")


def relu(x):
    return np.maximum(x, 0)


def dense(x, variables, name):
    return x @ variables["params"][name]["kernel"] + variables["params"][name]["bias"]


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(1).normal(size=(3, 3, 3, 4)).astype(np.float32)


def test_the_box_head_is_four_convolutions_with_norm_and_a_dense_layer(crops):
    head = BoxHead(BUILD, 5, convs=4, norm="bn", conv_features=6)
    variables = filled(head, crops, False)
    assert "bias" not in variables["params"]["box-conv-l0"] and "fc7" not in variables["params"]
    x = crops
    for index in range(4):
        x = relu(conv_norm(x, variables, f"box-conv-l{index}", SAME))
    expected = relu(dense(x.reshape(3, -1), variables, "fc6"))
    np.testing.assert_allclose(head.apply(variables, crops, False), expected, atol=1e-4)


def test_the_mask_head_has_norm_behind_its_convolutions(crops):
    head = MaskHead(BUILD, num_classes=2, features=6, norm="bn")
    variables = filled(head, crops, False)
    x = crops
    for index in range(4):
        x = relu(conv_norm(x, variables, f"mask-conv-l{index}", SAME))
    up = variables["params"]["conv5-mask"]
    x = relu(slow.transposed_conv(x, up["kernel"]) + up["bias"])
    expected = dense(
        x,
        {
            "params": {
                "l": {k: np.squeeze(v) for k, v in variables["params"]["mask_fcn_logits"].items()}
            }
        },
        "l",
    )
    np.testing.assert_allclose(head.apply(variables, crops, False), expected[..., :2], atol=1e-4)


def test_the_pyramid_has_norm_without_relu_behind_laterals_and_smoothing():
    rng = np.random.default_rng(2)
    levels = {
        i: rng.normal(size=(1, 2 ** (5 - i), 2 ** (5 - i), 3)).astype(np.float32)
        for i in range(2, 6)
    }
    pyramid = FeaturePyramid(BUILD, 2, 6, features=4, norm="bn")
    variables = filled(pyramid, levels, False)
    outputs = pyramid.apply(variables, levels, False)
    merged = conv_norm(levels[5], variables, "l5", NONE)
    for level in (5, 4, 3, 2):
        if level < 5:
            up = merged.repeat(2, axis=1).repeat(2, axis=2)
            merged = conv_norm(levels[level], variables, f"l{level}", NONE) + up
        expected = conv_norm(merged, variables, f"post_hoc_d{level}", SAME)
        np.testing.assert_allclose(outputs[level], expected, atol=1e-4)
        assert np.asarray(outputs[level]).min() < 0


def test_the_rpn_has_as_many_convolutions_as_it_is_told():
    names = RpnNames(conv="rpn", objectness="c", deltas="b", further="rpn-conv-l{}")
    head = RpnHead(BUILD, names, features=4, anchors_per_cell=2, depth=2)
    x = np.random.default_rng(3).normal(size=(1, 4, 5, 4)).astype(np.float32)
    variables = filled(head, {3: x})
    outputs = head.apply(variables, {3: x})
    for name in ("rpn", "rpn-conv-l1"):
        layer = variables["params"][name]
        x = relu(slow.conv(x, layer["kernel"], 1, SAME) + layer["bias"])
    layer = variables["params"]["c"]
    expected = slow.conv(x, layer["kernel"], 1, NONE) + layer["bias"]
    np.testing.assert_allclose(outputs.objectness[3], expected, atol=1e-4)


def test_rows_of_padding_do_not_count_in_statistics():
    x = np.random.default_rng(4).normal(size=(6, 2, 2, 3)).astype(np.float32)
    rows = jnp.asarray([1.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    layer = BatchNorm(momentum=0.9)
    variables = layer.init(jax.random.key(0), x, False)
    outputs, kept = layer.apply(variables, x, True, rows, mutable=["batch_stats"])
    own, alone = layer.apply(variables, x[[0, 2, 3]], True, mutable=["batch_stats"])
    np.testing.assert_allclose(np.asarray(outputs)[[0, 2, 3]], own, atol=1e-5)
    for leaf, value in alone["batch_stats"].items():
        np.testing.assert_allclose(kept["batch_stats"][leaf], value, atol=1e-6)


def test_a_batch_without_rows_changes_no_statistics():
    x = np.ones((2, 2, 2, 3), np.float32)
    layer = BatchNorm(momentum=0.9)
    variables = layer.init(jax.random.key(0), x, False)
    outputs, kept = layer.apply(variables, x, True, jnp.zeros(2), mutable=["batch_stats"])
    assert np.isfinite(outputs).all()
    jax.tree.map(np.testing.assert_array_equal, kept["batch_stats"], variables["batch_stats"])
