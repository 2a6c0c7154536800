import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rcnn_jax.ops.kernels import pointwise as module
from rcnn_jax.ops.kernels.pointwise import pointwise_conv

# strides, (height, width); the last rows and columns of an odd size are not always read
CASES = [(1, (3, 4)), (2, (4, 6)), (2, (5, 7)), (3, (7, 5))]


def arrays(size, channels=(3, 5)):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, *size, channels[0])).astype(np.float32)
    kernel = rng.standard_normal((1, 1, *channels)).astype(np.float32)
    return x, kernel


def plain(x, kernel, strides):
    return lax.conv_general_dilated(
        x, kernel, (strides, strides), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


FORMS = [
    pointwise_conv,
    lambda x, kernel, strides: module._product(strides, x, kernel),
    lambda x, kernel, strides: module._convolution(strides, x, kernel),
]


@pytest.mark.parametrize("form", FORMS, ids=["chosen", "on a CPU", "elsewhere"])
@pytest.mark.parametrize(("strides", "size"), CASES)
def test_value_and_gradients_are_those_of_the_convolution(form, strides, size):
    x, kernel = arrays(size)
    wanted, back = jax.vjp(lambda x, kernel: plain(x, kernel, strides), x, kernel)
    gradient = np.random.default_rng(1).standard_normal(wanted.shape).astype(np.float32)
    ours, our_back = jax.vjp(lambda x, kernel: form(x, kernel, strides), x, kernel)
    np.testing.assert_allclose(ours, wanted, atol=1e-5)
    for actual, expected in zip(our_back(gradient), back(gradient), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_a_cpu_computes_no_convolution():
    x, kernel = arrays((4, 4))

    def both(x, kernel, gradient):
        y, back = jax.vjp(lambda x, kernel: pointwise_conv(x, kernel, 2), x, kernel)
        return y, back(gradient)

    text = jax.jit(both).lower(x, kernel, np.ones((2, 2, 2, 5), np.float32)).compile().as_text()
    assert "convolution(" not in text


def test_gradient_of_a_bfloat16_kernel_is_summed_in_float32():
    # 4096 ones: a bfloat16 sum would stop growing at 256.
    x, kernel = jnp.ones((1, 64, 64, 1), jnp.bfloat16), jnp.ones((1, 1, 1, 1), jnp.bfloat16)
    _, back = jax.vjp(lambda kernel: pointwise_conv(x, kernel, 1), kernel)
    (gradient,) = back(jnp.ones((1, 64, 64, 1), jnp.bfloat16))
    assert gradient.dtype == jnp.bfloat16
    assert gradient[0, 0, 0, 0] == 4096
