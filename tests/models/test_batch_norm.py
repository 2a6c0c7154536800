"""Batch norm in training, in evaluation, frozen, over devices, and folded into its convolution."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.models import layers
from rcnn_jax.models.batch_norm import BatchNorm, normalised

KEY = jax.random.key(0)


def normal(*shape, key=1):
    return jax.random.normal(jax.random.key(key), shape)


def test_leaves_are_named_as_in_keras():
    variables = BatchNorm().init(KEY, normal(1, 4, 4, 3), False)
    assert set(variables["params"]) == {"gamma", "beta"}
    assert set(variables["batch_stats"]) == {"moving_mean", "moving_variance"}


def test_batch_norm_in_training_makes_mean_zero_and_variance_one():
    x = 3.0 + 2.0 * normal(4, 5, 6, 2)
    layer = BatchNorm(epsilon=0.0)
    variables = layer.init(KEY, x, True)
    y, updated = layer.apply(variables, x, True, mutable=["batch_stats"])
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0.0, atol=1e-5)
    np.testing.assert_allclose(y.var((0, 1, 2)), 1.0, atol=1e-4)
    stats = updated["batch_stats"]
    np.testing.assert_allclose(stats["moving_mean"], 0.01 * x.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(stats["moving_variance"], 0.99 + 0.01 * x.var((0, 1, 2)), rtol=1e-4)


def test_batch_norm_in_evaluation_uses_the_moving_averages():
    layer = BatchNorm(epsilon=1.0)
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
    layer = BatchNorm(frozen=True)
    variables = layer.init(KEY, x, True)
    y = layer.apply(variables, x, True)  # batch_stats is not mutable: nothing is written
    np.testing.assert_array_equal(y, layer.apply(variables, x, False))
    gradient = jax.grad(
        lambda p: layer.apply({**variables, "params": p}, x, True).sum(),
    )(variables["params"])
    assert float(jnp.abs(gradient["gamma"]).min()) > 0 and float(gradient["beta"].min()) > 0


def test_synchronised_batch_norm_on_parts_equals_batch_norm_on_the_whole():
    x = normal(4, 3, 3, 2)
    whole, parted = BatchNorm(), BatchNorm(axis_name="data")
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
    layer = BatchNorm(dtype=jnp.bfloat16)
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
        norm = BatchNorm(frozen=True, name="norm")
        if self.folded:
            return normalised(conv, norm, x, train)
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
