"""Depthwise convolution as a sum of shifted products: one filter per channel, no matrix in it.

XLA runs a convolution with as many groups as channels element by element on a CPU. Written as the
sum over the k x k taps it is one fused loop, 5 to 20 times faster, and so is its derivative.
"""

import jax
import jax.numpy as jnp
from jax import lax

from rcnn_jax.ops.conv import Pads
from rcnn_jax.ops.marker import marked


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
    return marked("depthwise_conv", _sum_of_taps, strides=strides, pads=pads)(x, kernel)


def _sum_of_taps(x, kernel, *, strides, pads):
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    batch, height, width, channels = padded.shape
    side = kernel.shape[0]
    rows, columns = ((length - side) // strides * strides for length in (height, width))
    total = jnp.zeros((), jnp.float32)
    for p in range(side):
        for q in range(side):
            stop = (batch, p + rows + 1, q + columns + 1, channels)
            tap = lax.slice(padded, (0, p, q, 0), stop, (1, strides, strides, 1))
            weight = kernel[p, q].reshape(1, 1, 1, channels)
            total = total + tap.astype(jnp.float32) * weight.astype(jnp.float32)
    return total.astype(x.dtype)
