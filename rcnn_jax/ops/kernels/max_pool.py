"""Max pooling with a backward pass that is not slow on a CPU.

The derivative of `lax.reduce_window` is a select-and-scatter, which XLA runs element by element on
a CPU. Here every window remembers the index of its largest cell, and the gradient is put together by
sums of shifted arrays: the same gradient, five times faster (a 3 x 3 window of stride 2).
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from rcnn_jax.ops.kernels.conv import Pads
from rcnn_jax.ops.marker import marked


def max_pool(x: jax.Array, window: int, strides: int, pads: Pads) -> jax.Array:
    """Returns the largest value of every window; padding never wins.

    The gradient of a window goes to its largest value, the first of equals in row-major order.

    Args:
      x: [b h w c].
      window: side of the window.
      strides: step in both directions.
      pads: cells around x.

    Returns:
      [b h' w' c], h' = (h + top + bottom - window) // strides + 1.
    """
    return marked("max_pool", _max_pool, window=window, strides=strides, pads=pads)(x)


def _max_pool(x, *, window, strides, pads):
    return _pool(x, window, strides, pads)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _pool(x, window, strides, pads):
    shape, steps = (1, window, window, 1), (1, strides, strides, 1)
    # A Python number: JAX knows a maximum by the literal it starts from; of a traced array it makes
    # a general reduction.
    return lax.reduce_window(x, -float("inf"), lax.max, shape, steps, ((0, 0), *pads, (0, 0)))


def _pool_forward(x, window, strides, pads):
    # The input alone is kept, which the layer before holds anyway; an index for each window would
    # be one more array from here to the backward pass.
    return _pool(x, window, strides, pads), x


def _pool_backward(window, strides, pads, x, gradient):
    winner = _winners(x, gradient.shape, window, strides, pads)
    # The padded input is split into strides x strides phases: rows i, i + strides, ... each.
    # Offset (i, j) of the windows feeds phase (i % strides, j % strides), shifted by i // strides.
    # So every addition is dense; a scatter to the winners runs element by element on a CPU.
    reach = -(-window // strides)
    zero = jnp.zeros((), gradient.dtype)
    batch, rows, columns, channels = gradient.shape
    empty = jnp.zeros((batch, rows + reach - 1, columns + reach - 1, channels), gradient.dtype)
    phases = [[empty] * strides for _ in range(strides)]
    for i in range(window):
        for j in range(window):
            routed = jnp.where(winner == i * window + j, gradient, zero)
            down, right = i // strides, j // strides
            edges = ((down, reach - 1 - down, 0), (right, reach - 1 - right, 0))
            routed = lax.pad(routed, zero, ((0, 0, 0), *edges, (0, 0, 0)))
            phases[i % strides][j % strides] += routed
    interleaved = jnp.stack([jnp.stack(row, axis=3) for row in phases], axis=2)  # [b h s w s c]
    height, width = empty.shape[1] * strides, empty.shape[2] * strides
    padded = interleaved.reshape(batch, height, width, channels)
    (top, _), (left, _) = pads
    below, beside = top + x.shape[1] - height, left + x.shape[2] - width
    cut = ((-top, below, 0), (-left, beside, 0))  # negative padding cuts off
    return (lax.pad(padded, zero, ((0, 0, 0), *cut, (0, 0, 0))),)


_pool.defvjp(_pool_forward, _pool_backward)


def _winners(x, shape, window, strides, pads):
    """Returns i32[b h' w' c], the index of the largest cell of every window.

    It is computed again: a comparison with the result fails where the compiler computes x a second time
    and rounds differently.
    """
    lowest = jnp.full((), -jnp.inf, x.dtype)
    padded = lax.pad(x, lowest, ((0, 0, 0), (*pads[0], 0), (*pads[1], 0), (0, 0, 0)))
    batch, rows, columns, channels = shape
    winner, best = jnp.zeros(shape, jnp.int32), jnp.full(shape, lowest)
    for index in range(window * window):
        i, j = divmod(index, window)
        stop = (batch, i + (rows - 1) * strides + 1, j + (columns - 1) * strides + 1, channels)
        value = lax.slice(padded, (0, i, j, 0), stop, (1, strides, strides, 1))
        better = value > best  # the first of equals stays
        winner, best = jnp.where(better, index, winner), jnp.where(better, value, best)
    return winner
