"""Depthwise convolution as a sum of shifted products: one filter per channel, no matrix in it.

XLA runs a convolution with as many groups as channels element by element on a CPU. Written as the
sum over the k x k kernel offsets it is one fused loop, 5 to 20 times faster. Its derivative is
written out for a CPU, where the one of JAX, k x k sums over the image at once, takes up to four times as
long to run and to compile. Other devices keep that one.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from rcnn_jax.ops.kernels.by_platform import by_platform
from rcnn_jax.ops.kernels.conv import Pads, map_offsets
from rcnn_jax.ops.marker import marked


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise_conv(x: jax.Array, kernel: jax.Array, strides: int, pads: Pads) -> jax.Array:
    """Returns out[i, j, c] = sum over (p, q) of x[s i + p, s j + q, c] * kernel[p, q, 0, c].

    Products are added up in float32.

    Args:
      x: [b h w c].
      kernel: [k k 1 c], of the type of x.
      strides: s, the step in both directions.
      pads: cells of zeros around x.

    Returns:
      [b h' w' c] of the type of x, h' = (h + top + bottom - k) // s + 1.
    """
    return marked("depthwise_conv", _sum_over_offsets, strides=strides, pads=pads)(x, kernel)


def _sum_over_offsets(x, kernel, *, strides, pads):
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    batch, height, width, channels = padded.shape
    side = kernel.shape[0]
    rows, columns = ((length - side) // strides * strides for length in (height, width))
    weights = kernel.astype(jnp.float32).reshape(side * side, 1, 1, channels)
    total = jnp.zeros((), jnp.float32)
    # Split at once rather than indexed: tracing takes less than half as long.
    for offset, weight in enumerate(lax.split(weights, [1] * side**2)):
        p, q = divmod(offset, side)
        stop = (batch, p + rows + 1, q + columns + 1, channels)
        window = lax.slice(padded, (0, p, q, 0), stop, (1, strides, strides, 1))
        total = total + window.astype(jnp.float32) * weight
    return total.astype(x.dtype)


def _forward(x, kernel, strides, pads):
    return depthwise_conv(x, kernel, strides, pads), (x, kernel)


def _backward(strides, pads, saved, gradient):
    return by_platform(_by_offsets, _by_jax, (strides, pads), *saved, gradient)


def _by_offsets(strides, pads, x, kernel, gradient):
    side = kernel.shape[0]
    # The gradient of x is the gradient, dilated by the stride and padded to the size of x, convolved with
    # the flipped kernel.
    dilation = [
        (side - 1 - before, length + before - 1 - strides * (steps - 1), strides - 1)
        for (before, _), length, steps in zip(pads, x.shape[1:3], gradient.shape[1:3], strict=True)
    ]
    dilated = lax.pad(gradient, jnp.zeros((), gradient.dtype), ((0, 0, 0), *dilation, (0, 0, 0)))
    flipped = lax.rev(kernel, (0, 1))
    grad_x = _sum_over_offsets(dilated, flipped, strides=1, pads=((0, 0), (0, 0)))

    def at_offset(window):
        return jnp.sum(window.astype(jnp.float32) * gradient.astype(jnp.float32), (0, 1, 2))

    grad_kernel = map_offsets(at_offset, x, side, strides, pads, gradient.shape[1:3])
    return grad_x, grad_kernel.reshape(kernel.shape).astype(kernel.dtype)


def _by_jax(strides, pads, x, kernel, gradient):
    _, derive = jax.vjp(functools.partial(_sum_over_offsets, strides=strides, pads=pads), x, kernel)
    return derive(gradient)


depthwise_conv.defvjp(_forward, _backward)
