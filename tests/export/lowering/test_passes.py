import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.models import layers
from rcnn_jax.models.batch_norm import BatchNorm
from rcnn_jax.models.builder import Builder
from tests.export.run import assert_same, ops_of

NCHW = (0, 3, 1, 2)


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(0, 1, (2, 8, 6, 3)).astype(np.float32)


def applied(module, images):
    """The module over random variables, as a function of images."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(module.init, jax.random.key(0), images)
    variables = jax.tree.map(
        lambda leaf: jnp.asarray(rng.uniform(0.2, 1.0, leaf.shape), jnp.float32), shapes
    )
    return lambda x: module.apply(variables, x)


class ConvNorm(nn.Module):
    bias: bool
    transposed: bool = False
    depthwise: bool = False

    @nn.compact
    def __call__(self, x):
        if self.transposed:
            x = layers.TransposedConv(4, 2, self.bias)(x)
        elif self.depthwise:
            x = layers.DepthwiseConv(3, 2, use_bias=self.bias)(x)
        else:
            x = layers.Conv(4, 3, 2, use_bias=self.bias)(x)
        return BatchNorm()(x, train=False)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", ["plain", "transposed", "depthwise"])
def test_batch_norm_and_bias_go_into_the_convolution(images, kind, bias):
    module = ConvNorm(bias, transposed=kind == "transposed", depthwise=kind == "depthwise")
    graph = assert_same(applied(module, images), images, perm=NCHW, atol=1e-5)
    assert ops_of(graph) == ["ConvTranspose" if kind == "transposed" else "Conv", "Transpose"]


@pytest.mark.parametrize(
    "after",
    [
        lambda y: 2.0 - y,
        lambda y: (y - 1.0) / 4.0,
        lambda y: jnp.asarray([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 4) * y - 0.5,
    ],
)
def test_any_affine_map_per_channel_goes_into_the_convolution(images, after):
    conv = applied(layers.Conv(4, 3), images)
    graph = assert_same(lambda x: after(conv(x)), images, perm=NCHW, atol=1e-5)
    assert ops_of(graph) == ["Conv", "Transpose"]


def test_a_convolution_that_is_read_twice_keeps_its_numbers(images):
    conv = applied(layers.Conv(4, 3), images)

    def function(x):
        y = conv(x)
        return {"a": y * 3.0, "b": y}

    assert "Mul" in ops_of(assert_same(function, images, perm=NCHW, atol=1e-5))


def test_a_sum_that_differs_by_row_stays(images):
    conv = applied(layers.Conv(4, 3), images)
    rows = np.arange(8, dtype=np.float32).reshape(1, 8, 1, 1)
    graph = assert_same(lambda x: conv(x) + rows, images, perm=NCHW, atol=1e-5)
    assert "Add" in ops_of(graph)


def test_leaky_relu_is_one_node(images):
    conv = applied(layers.Conv(4, 3), images)
    graph = assert_same(lambda x: nn.leaky_relu(conv(x) - 2.0, 0.1), images, perm=NCHW, atol=1e-5)
    assert ops_of(graph) == ["Conv", "LeakyRelu", "Transpose"]


def test_softmax_is_one_node(images):
    assert ops_of(assert_same(lambda x: jax.nn.softmax(x, axis=-1), images)) == ["Softmax"]


def test_softmax_along_another_axis_is_left_alone(images):
    assert "Softmax" not in ops_of(assert_same(lambda x: jax.nn.softmax(x, axis=1), images))


def test_global_average_is_one_node(images):
    graph = assert_same(layers.avg_pool, images, perm=NCHW)
    assert ops_of(graph) == ["ReduceMean"]


def test_a_flattened_map_meets_a_dense_layer_without_a_transpose(images):
    """The rows of the kernel are reordered instead."""
    module = layers.Dense(5)
    dense = applied(module, images.reshape(2, -1))
    graph = assert_same(
        lambda x: dense(jax.nn.relu(x).reshape(x.shape[0], -1)), images, perm=NCHW, atol=1e-5
    )
    assert ops_of(graph) == ["Relu", "Reshape", "Gemm"]


def test_max_pool_and_upsampling_keep_the_layout(images):
    def function(x):
        return jnp.mean(layers.upsample_nearest(layers.max_pool(x, 3, 2, "same")), (1, 2))

    graph = assert_same(function, images, perm=NCHW, atol=1e-5)
    assert ops_of(graph) == ["MaxPool", "Resize", "ReduceMean"]


class Residual(nn.Module):
    """A shared head on two branches, a sum of both, and an activation."""

    @nn.compact
    def __call__(self, x):
        build = Builder()
        conv, relu = build.conv("shared", 3, 3), build.relu("shared_relu")
        branches = [relu(conv(x)), relu(conv(-x))]
        norm = build.tap("norm")(
            build.batch_norm("norm")(build.conv("last", 3)(branches[0]), False)
        )
        return build.relu("out")(norm + branches[1])


def test_tensors_are_called_like_the_taps_of_the_network(images):
    """A tap that runs twice names two tensors; the batch norm is in the convolution before its tap."""
    graph = assert_same(applied(Residual(), images), images, perm=NCHW, atol=1e-5)
    made = {node.outputs[0]: node.op for node in graph.nodes}
    assert {name: op for name, op in made.items() if "/" not in name and name != "y"} == {
        "shared_relu": "Relu",
        "shared_relu_1": "Relu",
        "norm": "Conv",
        "out": "Relu",
        "Transpose": "Transpose",
    }


def test_a_tap_of_the_input_or_of_an_output_changes_no_contract(images):
    def function(x):
        y = jnp.exp(Builder().tap("image").apply({}, x))
        return {"y": Builder().tap("y").apply({}, y)}

    graph = assert_same(function, images)
    assert (graph.inputs, graph.outputs) == (["x"], ["y"])
    assert [node.outputs for node in graph.nodes] == [["y_1"], ["y"]]


def test_a_tap_leaves_no_node(images):
    graph = assert_same(lambda x: Builder().tap("a").apply({}, x) + 1.0, images)
    assert ops_of(graph) == ["Add"]
