"""3x3 convolution of stride 1 by Winograd's algorithm, for a CPU in float32.

A tile of 4 x 4 results takes 36 products of a channel pair instead of 144: cells and kernel are mapped to
6 x 6 points, multiplied there, and the products are mapped back. Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks", arXiv:1509.09308; the same holds for the gradient of the kernel. It is
about twice as fast as a direct convolution on a CPU, where arithmetic is the limit; libraries of other
devices choose their algorithms themselves.

The points are 0, 5/8, -5/8, 3/2, -3/2 and infinity: results differ from those of a direct convolution
by 3e-6 of the largest, where the usual 0, 1, -1, 2, -2 lose four times as much (Barabasz et al., "Error
Analysis and Improving the Accuracy of Winograd Convolution", arXiv:1803.10986).
"""

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_POINTS = (0.0, 5 / 8, -5 / 8, 3 / 2, -3 / 2)
_TILE = 4
_MARGIN = 2
_REACH = _TILE + _MARGIN
"""Cells that a tile reads, in each direction; as many points."""

_LEAST_CHANNELS = 64
"""With fewer the maps to points and back cost what the products save."""

_LEAST_PRODUCTS = 0.4e9
"""Of the direct convolution. With fewer, half of 10 ms on one core is not worth a third of a second of
compiling in each pass."""

_CHUNK = 2**15
"""Numbers of one point that are computed at once: more leave the caches between the three steps, fewer
make the products too small. All at once 256 channels on 208 x 336 cells took 0.73 s, in chunks 0.38,
the direct convolution 0.85."""


def pays(x: jax.Array, kernel: jax.Array, strides: int, pads: Sequence[Sequence[int]]) -> bool:
    """Whether this form computes the convolution, and faster."""
    channels, features = kernel.shape[2:]
    cells = math.prod(x.shape[:3])
    return (
        # A batch of any size, in an export, is no number.
        isinstance(cells, int)
        and kernel.shape[:2] == (3, 3)
        and strides == 1
        and x.dtype == kernel.dtype == jnp.float32
        and all(0 <= pad <= 2 for side in pads for pad in side)
        and min(channels, features) >= _LEAST_CHANNELS
        and 9 * cells * channels * features >= _LEAST_PRODUCTS
    )


def winograd_conv(x: jax.Array, kernel: jax.Array, pads: Sequence[Sequence[int]]) -> jax.Array:
    """Returns the convolution of stride 1.

    Args:
      x: f32[b h w in].
      kernel: f32[3 3 in out].
      pads: ((top, bottom), (left, right)), cells of zeros around x.

    Returns:
      f32[b h' w' out], h' = h + top + bottom - 2.
    """
    tiles = _Tiles.of(x, kernel, pads)
    padded = tiles.padded(x, (pads[0][0], pads[1][0]), _MARGIN)
    factors = (_KERNEL_TO_POINTS @ kernel.reshape(9, -1)).reshape(-1, *kernel.shape[2:])

    def chunk(index):
        products = lax.batch_matmul(_to_points(tiles.cut(padded, index, _MARGIN), tiles), factors)
        results = (_POINTS_TO_TILE @ products.reshape(_REACH**2, -1)).reshape(
            _TILE, _TILE, tiles.images, tiles.rows, tiles.columns, -1
        )
        return results.transpose(2, 3, 0, 4, 1, 5)  # [image row 4 column 4 out]

    return tiles.joined(lax.map(chunk, jnp.arange(tiles.chunks)))


def winograd_kernel_gradient(
    x: jax.Array, kernel: jax.Array, pads: Sequence[Sequence[int]], gradient: jax.Array
) -> jax.Array:
    """Returns the gradient of the kernel, f32[3 3 in out], for that of the results."""
    tiles = _Tiles.of(x, kernel, pads)
    padded = tiles.padded(x, (pads[0][0], pads[1][0]), _MARGIN)
    wanted = tiles.padded(gradient, (0, 0), 0)

    def add(total, index):
        parts = tiles.cut(wanted, index, 0).reshape(
            tiles.images, tiles.rows, _TILE, tiles.columns, _TILE, -1
        )
        parts = parts.transpose(2, 4, 0, 1, 3, 5).reshape(_TILE**2, -1)
        spread = (_POINTS_TO_TILE.T @ parts).reshape(_REACH**2, -1, gradient.shape[3])
        cells = _to_points(tiles.cut(padded, index, _MARGIN), tiles)
        over_tiles = (((1,), (1,)), ((0,), (0,)))
        return total + lax.dot_general(cells, spread, over_tiles), None

    zeros = jnp.zeros((_REACH**2, *kernel.shape[2:]), jnp.float32)
    total, _ = lax.scan(add, zeros, jnp.arange(tiles.chunks))
    return (_KERNEL_TO_POINTS.T @ total.reshape(_REACH**2, -1)).reshape(kernel.shape)


class _Tiles(NamedTuple):
    """The tiles of all results, in equal chunks: whole rows of tiles, of one image or of several.

    Attributes:
      images, rows: of a chunk.
      columns: tiles in a row.
      batches, blocks: chunks over the images and over the rows of tiles.
      shape: (b, h', w') of the results.
    """

    images: int
    rows: int
    columns: int
    batches: int
    blocks: int
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, x: jax.Array, kernel: jax.Array, pads: Sequence[Sequence[int]]) -> "_Tiles":
        height, width = (
            length + sum(side) - 2 for length, side in zip(x.shape[1:3], pads, strict=True)
        )
        down, across = -(-height // _TILE), -(-width // _TILE)
        size = max(_CHUNK // max(kernel.shape[2:]), 1)
        # Cut evenly, so that little is computed for nothing in the last chunk.
        blocks = -(-down // max(min(size // across, down), 1))
        batches = -(-len(x) // max(min(size // (across * down), len(x)), 1))
        rows, images = -(-down // blocks), -(-len(x) // batches)
        return cls(images, rows, across, batches, blocks, (len(x), height, width))

    @property
    def chunks(self) -> int:
        return self.batches * self.blocks

    def padded(self, array: jax.Array, before: tuple[int, int], margin: int) -> jax.Array:
        """Returns an array in zeros, `before` above and left of it, in the size of all chunks.

        Args:
          array: f32[b h w c], what all chunks read, or the results.
          before: rows and columns of zeros.
          margin: cells that tiles read beyond their own.
        """
        down, across = self.rows * self.blocks * _TILE, self.columns * _TILE
        whole = (self.images * self.batches, down + margin, across + margin)
        edges = [
            (begin, size - begin - own)
            for begin, size, own in zip((0, *before), whole, array.shape[:3], strict=True)
        ]
        return jnp.pad(array, (*edges, (0, 0)))

    def cut(self, padded: jax.Array, index: jax.Array, margin: int) -> jax.Array:
        """Returns the part of a chunk, f32[image 4 row + margin, 4 column + margin, c]."""
        batch, block = index // self.blocks, index % self.blocks
        begin = (batch * self.images, block * self.rows * _TILE, 0, 0)
        height = self.rows * _TILE + margin
        return lax.dynamic_slice(padded, begin, (self.images, height, *padded.shape[2:]))

    def joined(self, chunks: jax.Array) -> jax.Array:
        """Returns the results [b h' w' c] of all chunks [chunk image row 4 column 4 c]."""
        parts = chunks.reshape(
            self.batches, self.blocks, self.images, self.rows * _TILE, self.columns * _TILE, -1
        )
        whole = parts.swapaxes(1, 2).reshape(
            self.batches * self.images, -1, self.columns * _TILE, parts.shape[-1]
        )
        return lax.slice(whole, (0, 0, 0, 0), (*self.shape, parts.shape[-1]))


def _to_points(block: jax.Array, tiles: _Tiles) -> jax.Array:
    """Returns the cells of all tiles at the points, [36 tile c]: column points first."""
    # One direction after the other. As sums and not as products with the matrix, for which the windows
    # would be copied out first: a tenth slower.
    rows = _mapped(_CELLS_TO_POINTS, lambda i: block[:, i : i + _TILE * tiles.rows - 3 : _TILE])
    last = _TILE * tiles.columns - 3
    points = _mapped(_CELLS_TO_POINTS, lambda j: rows[:, :, :, j : j + last : _TILE])
    return points.reshape(_REACH**2, -1, block.shape[3])


def _mapped(matrix: np.ndarray, window: Callable[[int], jax.Array]) -> jax.Array:
    """Returns the sums of windows that the rows of a matrix say, in front."""
    windows = [window(index) for index in range(matrix.shape[1])]
    sums = (
        [weight * each for weight, each in zip(row, windows, strict=True) if weight]
        for row in matrix
    )
    return jnp.stack([functools.reduce(operator.add, terms) for terms in sums])


def _matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (cells to points [6 6], kernel to points [6 3], points to results [4 6]).

    The results of a tile are the coefficients of a product of polynomials, transposed: values at the
    points determine them (Toom and Cook; Lavin and Gray).
    """
    polynomial = np.polynomial.polynomial
    cells = np.zeros((_REACH, _REACH))
    kernel, results = np.zeros((_REACH, 3)), np.zeros((_TILE, _REACH))
    for row, point in enumerate(_POINTS):
        others = [other for other in _POINTS if other != point]
        cells[row, :-1] = polynomial.polyfromroots(others)
        kernel[row] = point ** np.arange(3) / np.prod(point - np.array(others))
        results[:, row] = point ** np.arange(_TILE)
    cells[-1] = polynomial.polyfromroots(_POINTS)
    kernel[-1, -1] = results[-1, -1] = 1.0  # at infinity
    return cells.astype(np.float32), kernel, results


def _in_both_directions(matrix: np.ndarray, points: int) -> np.ndarray:
    """Returns the map of rows and columns; `points` is the axis of the points, columns first there."""
    both = np.einsum("ap,bq->abpq", matrix, matrix)
    both = both.swapaxes(0, 1) if points == 0 else both.swapaxes(2, 3)
    return both.reshape(len(matrix) ** 2, -1).astype(np.float32)


_CELLS_TO_POINTS, _kernel, _results = _matrices()
_KERNEL_TO_POINTS: Any = _in_both_directions(_kernel, points=0)
"""f32[36 9]."""
_POINTS_TO_TILE: Any = _in_both_directions(_results, points=1)
"""f32[16 36]."""
