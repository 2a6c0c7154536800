"""The rules, one small function each: which channels become one, and which are kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rcnn_jax.compress.channels import trace_channels
from rcnn_jax.ops.kernels.depthwise import depthwise_conv


def shapes(**leaves):
    return {f"params/{n}/kernel": jax.ShapeDtypeStruct(s, jnp.float32) for n, s in leaves.items()}


def conv(x, kernel, groups=1):
    return lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def follow(function, x=(1, 4, 4, 3), **leaves):
    """(filters of a layer -> classes, inputs of a layer -> classes, the map)."""
    names = list(leaves)

    def run(weights, x):
        return function(x, *(weights[f"params/{name}/kernel"] for name in names)).sum()

    channels = trace_channels(
        run, shapes(**leaves), jax.ShapeDtypeStruct(x, jnp.float32), excluded={}
    )
    axes = {name: channels.leaves[f"params/{name}/kernel"] for name in names}
    return {n: a[-1] for n, a in axes.items()}, {n: a[-2] for n, a in axes.items()}, channels


def test_a_kernel_reads_the_filters_of_the_one_before():
    out, inputs, _ = follow(lambda x, a, b: conv(conv(x, a), b), a=(3, 3, 3, 5), b=(1, 1, 5, 7))
    np.testing.assert_array_equal(out["a"], inputs["b"])
    assert not set(out["a"]) & set(out["b"])


@pytest.mark.parametrize("join", [jnp.add, jnp.multiply, jnp.maximum, jnp.subtract])
def test_operands_of_an_elementwise_function_share_their_channels(join):
    out, *_ = follow(
        lambda x, a, b: join(conv(x, a), jax.nn.silu(conv(x, b))), a=(1, 1, 3, 4), b=(3, 3, 3, 4)
    )
    np.testing.assert_array_equal(out["a"], out["b"])
    assert len(set(out["a"])) == 4


def test_a_concatenation_is_an_offset():
    out, inputs, _ = follow(
        lambda x, a, b, c: conv(jnp.concatenate([conv(x, a), conv(x, b)], -1), c),
        a=(1, 1, 3, 2),
        b=(1, 1, 3, 3),
        c=(1, 1, 5, 4),
    )
    np.testing.assert_array_equal(inputs["c"], [*out["a"], *out["b"]])


def test_a_flattened_crop_repeats_its_channels():
    out, inputs, _ = follow(
        lambda x, a, d: conv(x, a).reshape(1, -1) @ d, a=(1, 1, 3, 2), d=(4 * 4 * 2, 6)
    )
    np.testing.assert_array_equal(inputs["d"], np.tile(out["a"], 16))


@pytest.mark.parametrize(
    "between",
    [
        lambda x: jnp.mean(x, (1, 2), keepdims=True),
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"),
        lambda x: jnp.pad(x, ((0, 0), (1, 1), (0, 2), (0, 0))),
        lambda x: jax.nn.leaky_relu(x, 0.1),
        lambda x: jnp.repeat(x[:, :, None], 2, 2).reshape(1, -1, x.shape[2], x.shape[3]),
        lambda x: jnp.flip(x, 1).transpose(0, 2, 1, 3),
        lambda x: lax.cond(x.shape[1] > 2, jnp.sin, jnp.cos, x),
        lambda x: jax.checkpoint(jnp.tanh)(x),
        lambda x: x[:, ::2, 1:],
    ],
)
def test_what_works_on_space_alone_passes_channels(between):
    out, inputs, channels = follow(
        lambda x, a, b: conv(between(conv(x, a)), b), a=(1, 1, 3, 4), b=(1, 1, 4, 5)
    )
    np.testing.assert_array_equal(out["a"], inputs["b"])
    assert not set(out["a"].tolist()) & set(channels.pins)


def test_a_flip_of_the_channels_turns_them():
    out, inputs, _ = follow(
        lambda x, a, b: conv(jnp.flip(conv(x, a), -1), b), a=(1, 1, 3, 4), b=(1, 1, 4, 5)
    )
    np.testing.assert_array_equal(out["a"][::-1], inputs["b"])


def test_a_depthwise_kernel_goes_with_the_channels_it_filters_and_its_flop_count():
    out, _, channels = follow(
        lambda x, a, d: depthwise_conv(conv(x, a), d, 1, ((1, 1), (1, 1))),
        a=(1, 1, 3, 4),
        d=(3, 3, 1, 4),
    )
    np.testing.assert_array_equal(out["a"], out["d"])
    assert [cost.flops for cost in channels.costs] == [2 * 16 * 3 * 4, 2 * 16 * 9 * 4]


def test_one_filter_more_for_each_channel_of_a_depthwise_convolution_goes_with_its_channel():
    out, *_ = follow(lambda x, a, d: conv(conv(x, a), d, groups=3), a=(1, 1, 3, 3), d=(3, 3, 1, 6))
    np.testing.assert_array_equal(out["d"], np.repeat(out["a"], 2))


def test_groups_of_a_convolution_lose_the_same_places():
    out, inputs, _ = follow(
        lambda x, a, g: conv(conv(x, a), g, groups=2), a=(1, 1, 3, 6), g=(3, 3, 3, 8)
    )
    np.testing.assert_array_equal(out["a"], np.tile(inputs["g"], 2))
    np.testing.assert_array_equal(out["g"], np.tile(out["g"][:4], 2))
    assert len(set(out["g"])) == 4


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (lambda x: jnp.cumsum(x, -1), "cumsum has no channel rule"),
        (lambda x: jnp.sort(x, axis=1), "sort has no channel rule"),
        (lambda x: x - jnp.mean(x, -1, keepdims=True), "reduced over its channels"),
        (lambda x: x.reshape(1, 4, 4, 2, 2).sum(3).repeat(2, -1), "split or merged by a reshape"),
        (lambda x: jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, 1)))[..., :4], "padded along"),
        (lambda x: x * jnp.arange(4.0).reshape(1, 1, 1, 4), "a fixed width"),
    ],
)
def test_what_cannot_be_followed_keeps_its_producer_and_says_why(between, reason):
    out, _, channels = follow(
        lambda x, a, b: conv(between(conv(x, a)), b), a=(1, 1, 3, 4), b=(1, 1, 4, 5)
    )
    assert all(reason in channels.pins[c].reason for c in out["a"].tolist())


def test_a_scan_over_activations_keeps_them():
    def run(x, a):
        y = conv(x, a)
        return lax.scan(lambda s, row: (s + row, None), y[:, 0], y.swapaxes(0, 1))[0]

    out, _, channels = follow(run, a=(1, 1, 3, 4))
    assert "scan has no channel rule" in channels.pins[int(out["a"][0])].reason


def test_what_leaves_the_network_is_kept():
    channels = trace_channels(
        lambda weights, x: conv(x, weights["params/a/kernel"]),
        shapes(a=(1, 1, 3, 4)),
        jax.ShapeDtypeStruct((1, 4, 4, 3), jnp.float32),
    )
    (classes,) = {tuple(channels.leaves["params/a/kernel"][-1].tolist())}
    assert {channels.pins[c].reason for c in classes} == {"an output of the network"}
