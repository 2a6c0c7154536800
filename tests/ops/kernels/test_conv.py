import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rcnn_jax.ops.kernels import conv as module
from rcnn_jax.ops.kernels.conv import conv

# side of the kernel, strides, pads, (height, width)
CASES = [
    (3, 1, ((1, 1), (1, 1)), (4, 5)),
    (3, 2, ((1, 1), (1, 1)), (5, 6)),
    (3, 2, ((0, 1), (1, 0)), (6, 5)),
    (2, 2, ((0, 0), (0, 0)), (5, 4)),
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
    for actual, expected in zip(our_back(gradient), back(gradient), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-3)


def test_gradient_of_a_bfloat16_kernel_is_summed_in_float32():
    # 4096 ones: a bfloat16 sum would stop growing at 256.
    x, gradient = (jnp.ones((1, 64, 64, 1), jnp.bfloat16) for _ in range(2))
    kernel = jnp.ones((3, 3, 1, 1), jnp.bfloat16)
    _, back = jax.vjp(lambda kernel: conv(x, kernel, 1, ((1, 1), (1, 1))), kernel)
    (actual,) = back(gradient)
    assert actual.dtype == jnp.bfloat16
    assert actual[1, 1, 0, 0] == 4096


def test_a_cpu_computes_one_convolution_in_the_backward_pass():
    x, kernel = arrays(3, (4, 4))
    pads = ((1, 1), (1, 1))

    def back(x, kernel, gradient):
        return jax.vjp(lambda x, kernel: conv(x, kernel, 2, pads), x, kernel)[1](gradient)

    gradient = np.ones((2, 2, 2, 4), np.float32)
    text = jax.jit(back).lower(x, kernel, gradient).compile().as_text()
    assert text.count("convolution(") == 1


def test_the_form_of_other_devices_agrees():
    x, kernel = (jnp.asarray(array) for array in arrays(3, (5, 4)))
    gradient = np.random.default_rng(1).standard_normal((2, 3, 2, 4)).astype(np.float32)
    pads = ((1, 1), (1, 1))
    of_offsets = module._by_offsets(2, pads, x, kernel, gradient)
    of_convolution = module._by_convolution(2, pads, x, kernel, gradient)
    for one, other in zip(of_offsets, of_convolution, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
