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
    variables = layers.BatchNorm().init(KEY, x, False)
    assert set(variables["params"]) == {"gamma", "beta"}
    assert set(variables["batch_stats"]) == {"moving_mean", "moving_variance"}


def test_parameters_stay_float32_when_the_computation_is_bfloat16():
    x = normal(1, 4, 4, 3)
    layer = layers.Conv(2, dtype=jnp.bfloat16)
    variables = layer.init(KEY, x)
    assert variables["params"]["kernel"].dtype == jnp.float32
    assert layer.apply(variables, x).dtype == jnp.bfloat16


def test_batch_norm_in_training_makes_mean_zero_and_variance_one():
    x = 3.0 + 2.0 * normal(4, 5, 6, 2)
    layer = layers.BatchNorm(epsilon=0.0)
    variables = layer.init(KEY, x, True)
    y, updated = layer.apply(variables, x, True, mutable=["batch_stats"])
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0.0, atol=1e-5)
    np.testing.assert_allclose(y.var((0, 1, 2)), 1.0, atol=1e-4)
    stats = updated["batch_stats"]
    np.testing.assert_allclose(stats["moving_mean"], 0.01 * x.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(stats["moving_variance"], 0.99 + 0.01 * x.var((0, 1, 2)), rtol=1e-4)


def test_batch_norm_in_evaluation_uses_the_moving_averages():
    layer = layers.BatchNorm(epsilon=1.0)
    variables = {
        "params": {"gamma": jnp.asarray([2.0]), "beta": jnp.asarray([0.5])},
        "batch_stats": {
            "moving_mean": jnp.asarray([1.0]),
            "moving_variance": jnp.asarray([3.0]),
        },
    }
    # 2 * (5 - 1) / sqrt(3 + 1) + 0.5 = 4.5
    assert float(layer.apply(variables, jnp.full((1, 1, 1, 1), 5.0), False)[0, 0, 0, 0]) == 4.5


def test_frozen_batch_norm_in_training_is_batch_norm_in_evaluation():
    x = normal(2, 3, 3, 4)
    layer = layers.BatchNorm(frozen=True)
    variables = layer.init(KEY, x, True)
    y = layer.apply(variables, x, True)  # batch_stats is not mutable: nothing is written
    np.testing.assert_array_equal(y, layer.apply(variables, x, False))
    gradient = jax.grad(
        lambda p: layer.apply({**variables, "params": p}, x, True).sum(),
    )(variables["params"])
    assert float(jnp.abs(gradient["gamma"]).min()) > 0 and float(gradient["beta"].min()) > 0


def test_synchronised_batch_norm_on_parts_equals_batch_norm_on_the_whole():
    x = normal(4, 3, 3, 2)
    whole, parted = layers.BatchNorm(), layers.BatchNorm(axis_name="data")
    variables = parted.init(KEY, x, True)
    expected, expected_stats = whole.apply(variables, x, True, mutable=["batch_stats"])

    def shard(part):
        return parted.apply(variables, part, True, mutable=["batch_stats"])

    y, stats = jax.vmap(shard, axis_name="data")(x.reshape(2, 2, 3, 3, 2))
    np.testing.assert_allclose(y.reshape(x.shape), expected, atol=1e-5)
    for leaf, value in stats["batch_stats"].items():
        np.testing.assert_allclose(value[0], expected_stats["batch_stats"][leaf], atol=1e-6)
        np.testing.assert_array_equal(value[0], value[1])


def test_batch_norm_of_bfloat16_counts_in_float32():
    x = (1000.0 + normal(8, 16, 16, 1)).astype(jnp.bfloat16)
    layer = layers.BatchNorm(dtype=jnp.bfloat16)
    variables = layer.init(KEY, x, True)
    y, updated = layer.apply(variables, x, True, mutable=["batch_stats"])
    assert y.dtype == jnp.bfloat16
    assert updated["batch_stats"]["moving_mean"].dtype == jnp.float32
    exact = np.asarray(x, np.float64).mean()
    np.testing.assert_allclose(updated["batch_stats"]["moving_mean"], [0.01 * exact], rtol=1e-5)


class ConvNorm(nn.Module):
    """A convolution and its batch norm, folded or one after the other."""

    folded: bool
    depthwise: bool
    use_bias: bool

    @nn.compact
    def __call__(self, x, train):
        conv = (
            layers.DepthwiseConv(3, 2, use_bias=self.use_bias, name="conv")
            if self.depthwise
            else layers.Conv(6, 3, 2, use_bias=self.use_bias, name="conv")
        )
        norm = layers.BatchNorm(frozen=True, name="norm")
        if self.folded:
            return layers.normalised(conv, norm, x, train)
        return norm(conv(x), train)


@pytest.mark.parametrize("use_bias", [False, True], ids=["bare", "bias"])
@pytest.mark.parametrize("depthwise", [False, True], ids=["conv", "depthwise"])
def test_frozen_batch_norm_folds_into_the_kernel_with_the_same_values_and_gradients(
    depthwise, use_bias
):
    x = normal(2, 9, 8, 4)
    variables = jax.tree.map(
        lambda leaf: leaf + jnp.abs(normal(*leaf.shape, key=3)),
        ConvNorm(True, depthwise, use_bias).init(KEY, x, True),
    )

    def loss(params, x, folded):
        both = {**variables, "params": params}
        return jnp.sum(jnp.sin(ConvNorm(folded, depthwise, use_bias).apply(both, x, True)))

    folded, unfolded = (
        jax.value_and_grad(loss, (0, 1))(variables["params"], x, way) for way in (True, False)
    )
    for one, other in zip(jax.tree.leaves(folded), jax.tree.leaves(unfolded), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * float(jnp.abs(other).max()))
    # The result of the bare convolution is not there: one convolution, and no product of its size.
    size = ConvNorm(True, depthwise, use_bias).apply(variables, x, True).shape
    products = [
        [e for e in jax.make_jaxpr(lambda p, w=way: loss(p, x, w))(variables["params"]).eqns]
        for way in (True, False)
    ]
    counts = [
        sum(e.primitive.name == "mul" and e.outvars[0].aval.shape == size for e in equations)
        for equations in products
    ]
    assert counts == [0, 1]
