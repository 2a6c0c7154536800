import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.models import layers
from rcnn_jax.models.builder import Builder
from rcnn_jax.ops.marker import read_mark
from tests.reference import layers as slow

KEY = jax.random.key(0)


def normal(*shape, key=1):
    return jax.random.normal(jax.random.key(key), shape)


@pytest.mark.parametrize(
    ("kernel_size", "pad"), [(1, 0), (2, 1), (3, 1), (5, 2), (7, 3)], ids=lambda v: str(v)
)
def test_symmetric_convolution_pads_half_the_kernel_on_every_side(kernel_size, pad):
    pads = layers.conv_pads((10, 11), kernel_size, 2, "symmetric")
    assert pads == ((pad, pad), (pad, pad))


def test_same_padding_puts_the_odd_pixel_at_the_bottom_and_right():
    assert layers.conv_pads((8, 9), 3, 2, "same") == ((0, 1), (1, 1))
    assert layers.conv_pads((8, 8), 7, 2, "same") == ((2, 3), (2, 3))


def test_symmetric_pool_of_two_pads_nothing():
    assert layers.pool_pads((8, 8), 2, 2, "symmetric") == ((0, 0), (0, 0))
    assert layers.pool_pads((8, 8), 3, 2, "symmetric") == ((1, 1), (1, 1))


@pytest.mark.parametrize("padding", ["symmetric", "same", "valid"])
@pytest.mark.parametrize(("kernel_size", "strides"), [(3, 1), (3, 2), (1, 2), (7, 2)])
def test_convolution_agrees_with_the_loops(padding, kernel_size, strides):
    x = normal(2, 8, 9, 3)
    layer = layers.Conv(4, kernel_size, strides, padding)
    variables = layer.init(KEY, x)
    params = {**variables["params"], "bias": jnp.arange(4.0)}
    pads = layers.conv_pads((8, 9), kernel_size, strides, padding)
    expected = slow.conv(np.asarray(x), np.asarray(params["kernel"]), strides, pads) + np.arange(4)
    np.testing.assert_allclose(layer.apply({"params": params}, x), expected, atol=1e-4)


def test_depthwise_convolution_agrees_with_the_loops():
    x = normal(1, 8, 8, 5)
    layer = layers.DepthwiseConv(3, 2, "same", use_bias=False)
    variables = layer.init(KEY, x)
    kernel = np.asarray(variables["params"]["kernel"])
    assert kernel.shape == (3, 3, 1, 5)
    expected = slow.conv(np.asarray(x), kernel, 2, ((0, 1), (0, 1)), groups=5)
    np.testing.assert_allclose(layer.apply(variables, x), expected, atol=1e-5)


def test_transposed_convolution_paints_patches_without_flipping_the_kernel():
    x = normal(2, 3, 4, 5)
    layer = layers.TransposedConv(6)
    variables = layer.init(KEY, x)
    expected = slow.transposed_conv(np.asarray(x), np.asarray(variables["params"]["kernel"]))
    np.testing.assert_allclose(layer.apply(variables, x), expected, atol=1e-5)


@pytest.mark.parametrize(("padding", "window"), [("symmetric", 3), ("same", 3), ("symmetric", 2)])
def test_max_pool_agrees_with_the_loops(padding, window):
    x = normal(2, 8, 9, 3) - 5.0
    pads = layers.pool_pads((8, 9), window, 2, padding)
    expected = slow.max_pool(np.asarray(x), window, 2, pads)
    np.testing.assert_array_equal(layers.max_pool(x, window, 2, padding), expected)


def test_max_pool_has_a_derivative_in_bfloat16():
    x = normal(1, 4, 4, 1).astype(jnp.bfloat16)
    gradient = jax.grad(lambda v: layers.max_pool(v, 2, 2).astype(jnp.float32).sum())(x)
    assert gradient.dtype == jnp.bfloat16
    assert float(gradient.astype(jnp.float32).sum()) == 4.0


def test_average_pool_is_the_mean_over_the_crop():
    x = jnp.arange(8.0).reshape(1, 2, 2, 2)
    np.testing.assert_array_equal(layers.avg_pool(x), [[3.0, 4.0]])


def test_upsampling_repeats_every_cell():
    x = jnp.asarray([[1.0, 2.0], [3.0, 4.0]])[None, :, :, None]
    expected = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    np.testing.assert_array_equal(layers.upsample_nearest(x)[0, :, :, 0], expected)


def test_upsampling_is_marked_for_the_exporter():
    jaxpr = jax.make_jaxpr(layers.upsample_nearest)(jnp.zeros((1, 2, 2, 1)))
    names = [read_mark(equation.params.get("name", "")) for equation in jaxpr.eqns]
    assert names == [("upsample_nearest", {"factor": 2})]


def test_a_tap_owns_no_variable_and_computes_its_function_alone():
    x = normal(3)
    build = Builder()
    tapped, variables = build.tap("block_1a_add").init_with_output(KEY, x)
    assert tapped is x and variables == {}
    rectified, variables = build.relu("block_1a_relu").init_with_output(KEY, x)
    np.testing.assert_array_equal(rectified, nn.relu(x))
    assert variables == {}


def test_the_name_of_a_tap_is_an_equation_of_the_trace():
    tap = Builder().leaky_relu("b1_conv1_lrelu", 0.1)
    jaxpr = jax.make_jaxpr(lambda x: tap.apply({}, x))(jnp.zeros(3))
    assert jaxpr.eqns[-1].primitive.name == "name"
    assert jaxpr.eqns[-1].params["name"] == "b1_conv1_lrelu"


def test_a_tap_may_be_called_like_the_layer_before_it():
    class Shortcut(nn.Module):
        @nn.compact
        def __call__(self, x):
            build = Builder()
            return build.tap("shortcut")(build.batch_norm("shortcut")(x, False))

    assert set(Shortcut().init(KEY, normal(1, 2, 2, 3))["params"]) == {"shortcut"}


def test_leaves_are_named_as_in_keras():
    x = normal(1, 4, 4, 3)
    assert set(layers.Conv(2).init(KEY, x)["params"]) == {"kernel", "bias"}
    assert set(layers.Dense(2).init(KEY, x[:, 0, 0])["params"]) == {"kernel", "bias"}


def test_parameters_stay_float32_when_the_computation_is_bfloat16():
    x = normal(1, 4, 4, 3)
    layer = layers.Conv(2, dtype=jnp.bfloat16)
    variables = layer.init(KEY, x)
    assert variables["params"]["kernel"].dtype == jnp.float32
    assert layer.apply(variables, x).dtype == jnp.bfloat16
