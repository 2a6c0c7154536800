"""Convolution with a backward pass that is not slow on a CPU.

XLA derives a convolution as two convolutions. On a CPU the gradient of the kernel is then one with a
window as large as the image, up to seven times slower than the same sum as matrix products, one for
each tap of the kernel. So is, for a 1x1 kernel, the gradient of the input. Other devices keep XLA's
form: their libraries know better.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

Pads = tuple[tuple[int, int], tuple[int, int]]
"""((top, bottom), (left, right)) in cells."""

LEAST_CHANNELS = 128
"""In and out, from which on the product of a tap of a k x k kernel is faster than XLA's form."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(x: jax.Array, kernel: jax.Array, strides: int, pads: Pads) -> jax.Array:
    """Returns out[i, j] = sum over (p, q) of x[s i + p, s j + q] @ kernel[p, q], x in zeros.

    Args:
      x: [b h w in].
      kernel: [k k in out], of the type of x.
      strides: s, step in both directions.
      pads: cells of zeros around x; none for a 1x1 kernel.

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
    by_xla = functools.partial(_by_convolution, strides, pads)
    x, kernel = saved
    side, _, *channels = kernel.shape
    if side == 1:
        on_cpu = functools.partial(_by_product, strides)
    elif min(channels) >= LEAST_CHANNELS:
        on_cpu = functools.partial(_by_taps, strides, pads)
    else:
        return by_xla(x, kernel, gradient)
    return lax.platform_dependent(x, kernel, gradient, cpu=on_cpu, default=by_xla)


def _by_product(strides, x, kernel, gradient):
    """Returns the gradients of x and a 1x1 kernel as two matrix products."""
    read = lax.slice(x, (0, 0, 0, 0), x.shape, (1, strides, strides, 1))
    of_read = jnp.einsum("bhwo,io->bhwi", gradient, kernel[0, 0])
    of_kernel = _product(_channels_first(read), _flat(gradient))
    zero = jnp.zeros((), of_read.dtype)
    edges = [
        (0, whole - strides * (part - 1) - 1, strides - 1)
        for whole, part in zip(x.shape[1:3], read.shape[1:3], strict=True)
    ]
    of_x = lax.pad(of_read, zero, ((0, 0, 0), *edges, (0, 0, 0)))
    return of_x, of_kernel.astype(kernel.dtype)[None, None]


def _by_taps(strides, pads, x, kernel, gradient):
    """Returns the gradients of x, as a convolution, and of the kernel, tap by tap."""
    rows, columns = (strides * (side - 1) + 1 for side in gradient.shape[1:3])
    size = (x.shape[0], rows, columns, x.shape[3])
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    across = _channels_first(gradient)
    side = kernel.shape[0]

    def of_tap(index):
        begin = (0, index // side, index % side, 0)
        read = lax.dynamic_slice(padded, begin, size)[:, ::strides, ::strides]
        return _product(across, _flat(read))

    # a loop, so that there is one copy of x at a time and not one for every tap
    taps = lax.map(of_tap, jnp.arange(side * side))
    of_kernel = taps.swapaxes(1, 2).reshape(kernel.shape)
    of_x = _input_by_turned_kernel if strides == 1 else _input_by_xla
    return of_x(strides, pads, x, kernel, gradient), of_kernel.astype(kernel.dtype)


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


def _flat(x):
    return x.reshape(-1, x.shape[-1])


def _channels_first(x):
    """Returns x [.. c] as [c ..], really turned: a product that reads across rows is slower."""
    return lax.optimization_barrier(_flat(x).T)


def _product(a, b):
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)


conv.defvjp(_forward, _backward)
