import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rcnn_jax.ops import pointwise_conv as module
from rcnn_jax.ops.pointwise_conv import pointwise_conv

SHAPES = [(1, (3, 4)), (2, (4, 6)), (2, (5, 7)), (3, (7, 5))]


def arrays(size, seed=0, channels=(3, 4)):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, *size, channels[0])).astype(np.float32)
    kernel = rng.standard_normal((1, 1, *channels)).astype(np.float32)
    return x, kernel


@pytest.mark.parametrize(("strides", "size"), SHAPES)
def test_cell_is_the_product_of_its_channels_with_the_kernel(strides, size):
    x, kernel = arrays(size)
    expected = x[:, ::strides, ::strides] @ kernel[0, 0]
    np.testing.assert_allclose(pointwise_conv(x, kernel, strides), expected, atol=1e-5)


@pytest.mark.parametrize(("strides", "size"), SHAPES)
def test_gradients_are_those_of_the_convolution(strides, size):
    x, kernel = arrays(size)
    wanted, back = jax.vjp(
        lambda x, kernel: lax.conv_general_dilated(
            x, kernel, (strides, strides), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        ),
        x,
        kernel,
    )
    gradient = np.random.default_rng(1).standard_normal(wanted.shape).astype(np.float32)
    _, ours = jax.vjp(lambda x, kernel: pointwise_conv(x, kernel, strides), x, kernel)
    for found, expected in zip(ours(gradient), back(gradient), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_both_forms_of_the_backward_pass_agree():
    x, kernel = arrays((5, 4))
    gradient = np.random.default_rng(1).standard_normal((2, 3, 2, 4)).astype(np.float32)
    of_product = module._by_product(2, jnp.asarray(x), jnp.asarray(kernel), gradient)
    of_convolution = module._by_convolution(2, jnp.asarray(x), jnp.asarray(kernel), gradient)
    for one, other in zip(of_product, of_convolution, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_gradient_of_a_bfloat16_kernel_is_summed_in_float32():
    # 4096 ones: a bfloat16 sum would stop growing at 256.
    x = jnp.ones((1, 64, 64, 1), jnp.bfloat16)
    kernel = jnp.ones((1, 1, 1, 1), jnp.bfloat16)
    _, back = jax.vjp(lambda kernel: pointwise_conv(x, kernel, 1), kernel)
    (gradient,) = back(jnp.ones((1, 64, 64, 1), jnp.bfloat16))
    assert gradient.dtype == jnp.bfloat16
    assert gradient.item() == 4096


def test_cpu_computes_no_convolution_in_the_backward_pass():
    x, kernel = arrays((4, 4))

    def back(x, kernel, gradient):
        return jax.vjp(lambda x, kernel: pointwise_conv(x, kernel, 2), x, kernel)[1](gradient)

    text = jax.jit(back).lower(x, kernel, np.ones((2, 2, 2, 4), np.float32)).compile().as_text()
    assert "convolution(" not in text
