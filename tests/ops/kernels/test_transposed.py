import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rcnn_jax.ops.kernels import transposed as module
from rcnn_jax.ops.kernels.transposed import transposed_conv

FORMS = [transposed_conv, module._product, module._convolution]
NAMES = ["chosen", "on a CPU", "elsewhere"]


def dilated(x, kernel):
    side = kernel.shape[0]
    return lax.conv_general_dilated(
        x,
        jnp.flip(kernel, (0, 1)),
        (1, 1),
        ((side - 1, side - 1),) * 2,
        lhs_dilation=(side, side),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@pytest.mark.parametrize("form", FORMS, ids=NAMES)
def test_one_cell_paints_the_kernel_by_hand(form):
    kernel = jnp.arange(4.0).reshape(2, 2, 1, 1)
    actual = form(jnp.full((1, 1, 1, 1), 10.0), kernel)
    np.testing.assert_array_equal(actual[0, :, :, 0], [[0.0, 10.0], [20.0, 30.0]])


@pytest.mark.parametrize("form", FORMS, ids=NAMES)
def test_values_and_gradients_are_those_of_the_dilated_convolution(form):
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (2, 3, 4, 5))
    kernel = jax.random.normal(keys[1], (3, 3, 5, 2))
    np.testing.assert_allclose(form(x, kernel), dilated(x, kernel), atol=1e-5)
    ours, theirs = (
        jax.grad(lambda *a, f=f: jnp.sum(jnp.sin(f(*a))), argnums=(0, 1))(x, kernel)
        for f in (form, dilated)
    )
    for actual, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_a_cpu_computes_no_convolution():
    x, kernel = np.ones((1, 2, 2, 3), np.float32), np.ones((2, 2, 3, 4), np.float32)
    text = jax.jit(transposed_conv).lower(x, kernel).compile().as_text()
    assert "convolution(" not in text
