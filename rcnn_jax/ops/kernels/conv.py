"""Convolution that is not slow on a CPU, backward least of all.

XLA derives a convolution as two convolutions. On a CPU the gradient of the kernel is then one with a
window as large as the image, up to seven times slower than the same sum as matrix products, one for
each offset in the kernel. 3x3 kernels of stride 1 save half of the arithmetic there (winograd.py).
Other devices keep XLA's form: their libraries have kernels for it.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from rcnn_jax.ops.kernels.by_platform import by_platform
from rcnn_jax.ops.kernels.winograd import pays, winograd_conv, winograd_kernel_gradient
from rcnn_jax.ops.marker import marked

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
    if pays(x, kernel, strides, pads):
        return marked("conv", _on_platform, strides=strides, pads=pads)(x, kernel)
    # One primitive, which the exporter knows without a marker.
    return _conv(x, kernel, strides, pads)


def _on_platform(x, kernel, *, strides, pads):
    return by_platform(_by_winograd, _by_xla, (strides, pads), x, kernel)


def _by_winograd(strides, pads, x, kernel):
    del strides
    return winograd_conv(x, kernel, pads)


def _by_xla(strides, pads, x, kernel):
    return _conv(x, kernel, strides, pads)


def _conv(x, kernel, strides, pads):
    return lax.conv_general_dilated(
        x, kernel, (strides, strides), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _forward(x, kernel, strides, pads):
    return conv(x, kernel, strides, pads), (x, kernel)


def _backward(strides, pads, saved, gradient):
    return by_platform(_by_offsets, _by_convolution, (strides, pads), *saved, gradient)


def _by_offsets(strides, pads, x, kernel, gradient):
    """Returns the gradients of x, as a convolution, and of the kernel, offset by offset or by tiles."""
    # The flipped form is for stride 1: with a stride the gradient would have to be dilated before.
    grad_x = _grad_x_by_flipped_kernel if strides == 1 else _grad_x_by_xla
    grad_x = grad_x(strides, pads, x, kernel, gradient)
    if pays(x, kernel, strides, pads):
        return grad_x, winograd_kernel_gradient(x, kernel, pads, gradient)

    def at_offset(window):
        # One flat axis of cells: XLA first transposes copies of both for a sum over several axes.
        return lax.dot_general(
            _rows(window), _rows(gradient), _OVER_ROWS, preferred_element_type=jnp.float32
        )

    # 170 GFLOP/s for 256 channels on the finest level of a pyramid, where XLA's form reaches 35.
    sums = map_offsets(at_offset, x, kernel.shape[0], strides, pads, gradient.shape[1:3])
    return grad_x, sums.reshape(kernel.shape).astype(kernel.dtype)


def map_offsets(
    function: Callable[[jax.Array], jax.Array],
    x: jax.Array,
    side: int,
    strides: int,
    pads: Pads,
    size: Sequence[int],
) -> jax.Array:
    """Maps a function over the kernel offsets, row by row: over the cells of x that each one reads.

    A loop, so that there is one copy of x at a time and not one for every offset.

    Args:
      function: of the cells [b h' w' c] at an offset.
      x: [b h w c].
      side: of the kernel.
      strides: step in both directions.
      pads: cells of zeros around x.
      size: (h', w') of what the convolution returns.

    Returns:
      [side * side ..].
    """
    # Padded once: a window then starts within the array at every offset, and `dynamic_slice`, which
    # moves starts that are out of range, moves none.
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    rows, columns = (strides * (length - 1) + 1 for length in size)
    window = (x.shape[0], rows, columns, x.shape[3])

    def at(index):
        begin = (0, index // side, index % side, 0)
        return function(lax.dynamic_slice(padded, begin, window)[:, ::strides, ::strides])

    # All copies at once took 2 GB more in a step of 832 x 1344, and 16.6 s instead of 10.5.
    return lax.map(at, jnp.arange(side * side))


def _by_convolution(strides, pads, x, kernel, gradient):
    """Returns the gradients as XLA derives them."""
    # Transposed, not `vjp`: a convolution is linear in either operand, so nothing runs forward.
    (grad_kernel,) = jax.linear_transpose(lambda k: _conv(x, k, strides, pads), kernel)(gradient)
    return _grad_x_by_xla(strides, pads, x, kernel, gradient), grad_kernel


def _grad_x_by_xla(strides, pads, x, kernel, gradient):
    (grad_x,) = jax.linear_transpose(lambda x: _conv(x, kernel, strides, pads), x)(gradient)
    return grad_x


def _grad_x_by_flipped_kernel(strides, pads, x, kernel, gradient):
    """Returns the same as `_grad_x_by_xla`: the gradient, convolved with the flipped kernel.

    XLA flips the kernel well in the outermost program only: inside a `cond` its form is six times slower
    on a CPU.
    """
    del strides, x
    flipped = lax.rev(kernel, (0, 1)).swapaxes(2, 3)
    side = kernel.shape[0]
    # May be negative where x was padded by more than the kernel reaches: then it cuts off.
    complement = tuple((side - 1 - before, side - 1 - after) for before, after in pads)
    if pays(gradient, flipped, 1, complement):
        return winograd_conv(gradient, flipped, complement)
    return _conv(gradient, flipped, 1, complement)


def _rows(x):
    return x.reshape(-1, x.shape[-1])


conv.defvjp(_forward, _backward)
