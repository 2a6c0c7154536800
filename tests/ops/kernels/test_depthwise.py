import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rcnn_jax.ops.kernels import depthwise as module
from rcnn_jax.ops.kernels.depthwise import depthwise_conv


def grouped(x, kernel, strides, pads):
    return lax.conv_general_dilated(
        x,
        kernel,
        (strides, strides),
        pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def test_channels_do_not_mix_by_hand():
    x = jnp.asarray([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]).reshape(1, 1, 3, 2)
    kernel = jnp.asarray([[1.0, 0.0], [1.0, 0.0], [0.0, 5.0]]).reshape(1, 3, 1, 2)
    kernel = jnp.pad(kernel, ((1, 1), (0, 0), (0, 0), (0, 0)))
    values = depthwise_conv(x, kernel, 1, ((1, 1), (1, 1)))
    np.testing.assert_array_equal(values[0, 0], [[1.0, 100.0], [3.0, 150.0], [5.0, 0.0]])


@pytest.mark.parametrize(
    ("side", "strides", "pads"),
    [(3, 1, ((1, 1), (1, 1))), (3, 2, ((0, 1), (1, 0))), (5, 2, ((2, 2), (1, 2)))],
)
def test_values_and_gradients_are_those_of_the_grouped_convolution(side, strides, pads):
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (2, 8, 11, 6))
    kernel = jax.random.normal(keys[1], (side, side, 1, 6))
    values = depthwise_conv(x, kernel, strides, pads)
    np.testing.assert_allclose(values, grouped(x, kernel, strides, pads), rtol=1e-5, atol=1e-5)
    ours, theirs = (
        jax.grad(lambda *a, f=f: jnp.sum(jnp.sin(f(*a, strides, pads))), argnums=(0, 1))(x, kernel)
        for f in (depthwise_conv, grouped)
    )
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_the_form_of_other_devices_agrees():
    keys = jax.random.split(jax.random.key(0), 3)
    x, gradient = (
        jax.random.normal(key, (2, *size, 6))
        for key, size in ((keys[0], (8, 11)), (keys[1], (4, 6)))
    )
    kernel = jax.random.normal(keys[2], (5, 5, 1, 6))
    pads = ((2, 2), (1, 3))
    of_offsets = module._by_offsets(2, pads, x, kernel, gradient)
    of_jax = module._by_jax(2, pads, x, kernel, gradient)
    for one, other in zip(of_offsets, of_jax, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_half_precision_is_added_up_in_single():
    x = jnp.ones((1, 1, 300, 1), jnp.bfloat16)
    kernel = jnp.full((17, 17, 1, 1), 1.0, jnp.bfloat16)
    values = depthwise_conv(x, kernel, 1, ((8, 8), (0, 0)))
    assert values.dtype == jnp.bfloat16
    assert values[0, 0, 0, 0] == 17.0
