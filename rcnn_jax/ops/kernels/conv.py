"""Convolution with a backward pass that is not slow on a CPU.

XLA derives a convolution as two convolutions. On a CPU the gradient of the kernel is then one with a
window as large as the image, up to seven times slower than the same sum as matrix products, one for
each tap of the kernel. Other devices keep XLA's form: their libraries know better.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from rcnn_jax.ops.kernels.by_platform import by_platform

Pads = tuple[tuple[int, int], tuple[int, int]]
"""((top, bottom), (left, right)) in cells."""

_OVER_ROWS = (((0,), (0,)), ((), ()))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(x: jax.Array, kernel: jax.Array, strides: int, pads: Pads) -> jax.Array:
    """Returns out[i, j] = sum over (p, q) of x[s i + p, s j + q] @ kernel[p, q], x in zeros.

    Args:
      x: [b h w in].
      kernel: [k k in out], of the type of x.
      strides: s, step in both directions.
      pads: cells of zeros around x.

    Returns:
      [b h' w' out], h' = (h + top + bottom - k) // s + 1.
    """
    return _conv(x, kernel, strides, pads)


def _conv(x, kernel, strides, pads):
    return lax.conv_general_dilated(
        x, kernel, (strides, strides), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _forward(x, kernel, strides, pads):
    return _conv(x, kernel, strides, pads), (x, kernel)


def _backward(strides, pads, saved, gradient):
    return by_platform(_by_taps, _by_convolution, (strides, pads), *saved, gradient)


def _by_taps(strides, pads, x, kernel, gradient):
    """Returns the gradients of x, as a convolution, and of the kernel, tap by tap."""

    def of_tap(read):
        # rows are one axis: of a sum over several XLA would first turn copies of x and gradient
        return lax.dot_general(
            _rows(read), _rows(gradient), _OVER_ROWS, preferred_element_type=jnp.float32
        )

    taps = map_taps(of_tap, x, kernel.shape[0], strides, pads, gradient.shape[1:3])
    of_kernel = taps.reshape(kernel.shape)
    of_x = _input_by_turned_kernel if strides == 1 else _input_by_xla
    return of_x(strides, pads, x, kernel, gradient), of_kernel.astype(kernel.dtype)


def map_taps(
    function: Callable[[jax.Array], jax.Array],
    x: jax.Array,
    side: int,
    strides: int,
    pads: Pads,
    size: Sequence[int],
) -> jax.Array:
    """Returns the results [side * side ..] of what every tap of a kernel reads of x.

    A loop, so that there is one copy of x at a time and not one for every tap.

    Args:
      function: of the cells [b h' w' c] that a tap reads.
      x: [b h w c].
      side: of the kernel.
      strides: step in both directions.
      pads: cells of zeros around x.
      size: (h', w') of what the convolution returns.
    """
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    rows, columns = (strides * (length - 1) + 1 for length in size)
    window = (x.shape[0], rows, columns, x.shape[3])

    def of_tap(index):
        begin = (0, index // side, index % side, 0)
        return function(lax.dynamic_slice(padded, begin, window)[:, ::strides, ::strides])

    return lax.map(of_tap, jnp.arange(side * side))


def _by_convolution(strides, pads, x, kernel, gradient):
    """Returns the gradients as XLA derives them."""
    (of_kernel,) = jax.linear_transpose(lambda k: _conv(x, k, strides, pads), kernel)(gradient)
    return _input_by_xla(strides, pads, x, kernel, gradient), of_kernel


def _input_by_xla(strides, pads, x, kernel, gradient):
    (of_x,) = jax.linear_transpose(lambda x: _conv(x, kernel, strides, pads), x)(gradient)
    return of_x


def _input_by_turned_kernel(strides, pads, x, kernel, gradient):
    """Returns what `_input_by_xla` does; XLA turns the kernel well in the outermost program only.

    Inside a condition its form is six times slower.
    """
    del strides, x
    turned = lax.rev(kernel, (0, 1)).swapaxes(2, 3)
    side = kernel.shape[0]
    rest = tuple((side - 1 - before, side - 1 - after) for before, after in pads)
    return _conv(gradient, turned, 1, rest)


def _rows(x):
    return x.reshape(-1, x.shape[-1])


conv.defvjp(_forward, _backward)
