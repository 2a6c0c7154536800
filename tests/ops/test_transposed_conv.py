import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rcnn_jax.ops.transposed_conv import transposed_conv


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


def test_one_cell_paints_the_kernel_by_hand():
    kernel = jnp.arange(4.0).reshape(2, 2, 1, 1)
    found = transposed_conv(jnp.full((1, 1, 1, 1), 10.0), kernel)
    np.testing.assert_array_equal(found[0, :, :, 0], [[0.0, 10.0], [20.0, 30.0]])


def test_values_and_gradients_are_those_of_the_dilated_convolution():
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (2, 3, 4, 5))
    kernel = jax.random.normal(keys[1], (3, 3, 5, 2))
    ours, theirs = (
        jax.grad(lambda *a, f=f: jnp.sum(jnp.sin(f(*a))), argnums=(0, 1))(x, kernel)
        for f in (transposed_conv, dilated)
    )
    for found, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
