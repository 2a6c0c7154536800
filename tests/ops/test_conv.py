import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rcnn_jax.ops import conv as module
from rcnn_jax.ops.conv import conv

NONE = ((0, 0), (0, 0))
# side of the kernel, strides, pads, (height, width)
CASES = [
    (1, 1, NONE, (3, 4)),
    (1, 2, NONE, (4, 6)),
    (1, 2, NONE, (5, 7)),
    (1, 3, NONE, (7, 5)),
    (3, 1, ((1, 1), (1, 1)), (4, 5)),
    (3, 2, ((1, 1), (1, 1)), (5, 6)),
    (3, 2, ((0, 1), (1, 0)), (6, 5)),
    (2, 2, NONE, (5, 4)),
    (5, 3, ((2, 2), (2, 2)), (7, 8)),
]
CHANNELS = [(3, 4), (128, 130)]


def arrays(side, size, channels=(3, 4)):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, *size, channels[0])).astype(np.float32)
    kernel = rng.standard_normal((side, side, *channels)).astype(np.float32)
    return x, kernel


def plain(x, kernel, strides, pads):
    return lax.conv_general_dilated(
        x, kernel, (strides, strides), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def test_a_cell_is_the_sum_over_taps():
    x, kernel = arrays(3, (5, 4))
    y = np.asarray(conv(x, kernel, 2, ((1, 1), (1, 1))))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.einsum("bpqi,pqio->bo", padded[:, 2:5, 0:3], kernel)
    np.testing.assert_allclose(y[:, 1, 0], expected, atol=1e-4)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize(("side", "strides", "pads", "size"), CASES)
def test_value_and_gradients_are_those_of_the_convolution(side, strides, pads, size, channels):
    x, kernel = arrays(side, size, channels)
    wanted, back = jax.vjp(lambda x, kernel: plain(x, kernel, strides, pads), x, kernel)
    gradient = np.random.default_rng(1).standard_normal(wanted.shape).astype(np.float32)
    ours, our_back = jax.vjp(lambda x, kernel: conv(x, kernel, strides, pads), x, kernel)
    np.testing.assert_allclose(ours, wanted, atol=1e-4)
    for found, expected in zip(our_back(gradient), back(gradient), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("side", [1, 3])
def test_gradient_of_a_bfloat16_kernel_is_summed_in_float32(side):
    # 4096 ones: a bfloat16 sum would stop growing at 256.
    channels = 128 if side == 3 else 1
    x = jnp.ones((1, 64, 64, channels), jnp.bfloat16)
    kernel = jnp.ones((side, side, channels, channels), jnp.bfloat16)
    pads = ((side // 2, side // 2),) * 2
    _, back = jax.vjp(lambda kernel: conv(x, kernel, 1, pads), kernel)
    (gradient,) = back(jnp.ones((1, 64, 64, channels), jnp.bfloat16))
    assert gradient.dtype == jnp.bfloat16
    assert gradient[side // 2, side // 2, 0, 0] == 4096


@pytest.mark.parametrize(("side", "channels", "left"), [(1, 4, 0), (3, 128, 1), (3, 64, 2)])
def test_convolutions_a_cpu_still_computes_in_the_backward_pass(side, channels, left):
    x, kernel = arrays(side, (4, 4), (channels, channels))
    pads = ((side // 2, side // 2),) * 2

    def back(x, kernel, gradient):
        return jax.vjp(lambda x, kernel: conv(x, kernel, 2, pads), x, kernel)[1](gradient)

    gradient = np.ones((2, 2, 2, channels), np.float32)
    text = jax.jit(back).lower(x, kernel, gradient).compile().as_text()
    assert text.count("convolution(") == left


def test_the_form_of_other_devices_agrees():
    x, kernel = (jnp.asarray(array) for array in arrays(1, (5, 4)))
    gradient = np.random.default_rng(1).standard_normal((2, 3, 2, 4)).astype(np.float32)
    of_product = module._by_product(2, x, kernel, gradient)
    of_convolution = module._by_convolution(2, NONE, x, kernel, gradient)
    for one, other in zip(of_product, of_convolution, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
