"""Transposed convolution whose stride is its kernel size: every cell fills a patch of its own.

Patches do not overlap, so it is a matrix product and a reordering, and its derivative two of them.
Derived from the convolution instead, the gradient of the kernel takes XLA 50 times as long on a CPU.
Forward a CPU takes the product too; other devices keep the convolution: their libraries are fast.
"""

import jax
import jax.numpy as jnp
from jax import lax

from rcnn_jax.ops.kernels.by_platform import by_platform
from rcnn_jax.ops.marker import marked


@jax.custom_vjp
def transposed_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns out[k i + di, k j + dj] = x[i, j] @ kernel[di, dj].

    Args:
      x: [b h w in].
      kernel: [k k in out], of the type of x.

    Returns:
      [b k*h k*w out].
    """
    return marked("transposed_conv", _on_platform)(x, kernel)


def _on_platform(x, kernel):
    return by_platform(_product, _convolution, (), x, kernel)


def _product(x, kernel):
    batch, height, width, channels = x.shape
    side, _, _, features = kernel.shape
    flat = kernel.transpose(2, 0, 1, 3).reshape(channels, side * side * features)
    patches = x.reshape(-1, channels) @ flat  # one row for each cell of x
    patches = patches.reshape(batch, height, width, side, side, features)
    return patches.swapaxes(2, 3).reshape(batch, side * height, side * width, features)


def _convolution(x, kernel):
    side = kernel.shape[0]
    return lax.conv_general_dilated(
        x,
        # A convolution over a dilated input meets the kernel backwards: flipped, it is the law of
        # `transposed_conv`.
        jnp.flip(kernel, (0, 1)),
        (1, 1),
        ((side - 1, side - 1),) * 2,
        lhs_dilation=(side, side),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _forward(x, kernel):
    return transposed_conv(x, kernel), (x, kernel)


def _backward(saved, gradient):
    x, kernel = saved
    batch, height, width, channels = x.shape
    side, _, _, features = kernel.shape
    # One row for each cell of x: a product over one axis needs no transposed copy.
    patches = gradient.reshape(batch, height, side, width, side, features).swapaxes(2, 3)
    patches = patches.reshape(-1, side * side * features)
    flat = kernel.swapaxes(2, 3).reshape(-1, channels)
    grad_x = (patches @ flat).reshape(x.shape)
    grad_flat = lax.dot_general(patches, x.reshape(-1, channels), (((0,), (0,)), ((), ())))
    return grad_x, grad_flat.reshape(side, side, features, channels).swapaxes(2, 3)


transposed_conv.defvjp(_forward, _backward)
