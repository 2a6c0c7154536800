"""RoIAlign with as many samples in a cell as it has cells of the map (sampling_ratio 0).

The samples of a cell differ from box to box, so they are counted by loops instead of being a shape:

    boxes              -> order: by number of samples, so that boxes of one chunk need about as many
    chunk of 32 boxes  -> window: every cell of the map that a cell of the crop reads, and its weight
    table, window      -> crops: a loop over rows x columns of the window

`ops/roi_align.py` lays out the table and has the semantics.
"""

import flax.struct
import jax
import jax.numpy as jnp
from jax import lax

_CHUNK = 32
"""Boxes that are read at a time with as many samples as the largest of them needs."""


class Sides(flax.struct.PyTreeNode):
    """One axis of boxes on their maps.

    Attributes:
      first: i32[r], row of the table where the map begins.
      width: i32[r], rows of the table that a row of the map takes.
      low: f32[r], where boxes begin, in cells.
      high: f32[r], where they end.
      size: i32[r], length of the map along the axis.
    """

    first: jax.Array
    width: jax.Array
    low: jax.Array
    high: jax.Array
    size: jax.Array


def _sample_count(side: Sides, cells: int) -> jax.Array:
    """Returns the samples of a cell along an axis, i32[r]: none for a box without extent."""
    count = jnp.ceil((side.high - side.low) / cells).astype(jnp.int32)
    # More than the map is long is more than a cell can tell apart; boxes of padding may be anything.
    return jnp.clip(count, 0, jnp.maximum(side.size, 1))


def _window_weights(side: Sides, count: jax.Array, cells: int, offset: jax.Array) -> tuple:
    """Returns a neighbour of every cell of a crop along an axis, and its weight in the average.

    Samples of a cell lie at most one cell of the map apart, so what they read is a window of
    consecutive cells, one more than there are samples; its weights are sums of hat functions.

    Args:
      side: of boxes.
      count: of `_sample_count`.
      cells: s.
      offset: i32[], position in the window.

    Returns:
      (i32[r s] in [0, size), f32[r s]).
    """
    last = (side.size - 1)[:, None].astype(jnp.float32)
    bin_size = (side.high - side.low)[:, None] / cells
    step = bin_size / jnp.maximum(count, 1)[:, None]
    begin = (side.low - 0.5)[:, None] + bin_size * jnp.arange(cells)[None, :]

    def position(sample):
        at = begin + step * (sample + 0.5)
        return jnp.clip(at, 0.0, last), (at >= -1.0) & (at <= last + 1.0)

    window = jnp.floor(position(0)[0])
    index = jnp.minimum(window + offset, last)
    beyond = window + offset > last

    def add(sample, total):
        at, inside = position(sample)
        hat = jnp.maximum(1.0 - jnp.abs(at - index), 0.0)
        return total + jnp.where(inside & (sample < count)[:, None], hat, 0.0)

    weight = lax.fori_loop(0, jnp.max(count), add, jnp.zeros_like(window))
    weight = jnp.where(beyond, 0.0, weight / jnp.maximum(count, 1)[:, None])
    return index.astype(jnp.int32), weight


def _chunks(tree, order, boxes):
    """Returns arrays of boxes in an order, padded and split into chunks."""
    chunks = -(-boxes // _CHUNK)

    def split(x):
        padding = [(0, chunks * _CHUNK - boxes)] + [(0, 0)] * (x.ndim - 1)
        return jnp.pad(x[order], padding).reshape(chunks, _CHUNK, *x.shape[1:])

    return jax.tree.map(split, tree)


def _over_window(down: Sides, across: Sides, cells: int, body, start):
    """Runs body(index i32[r s s], weight f32[r s s], value) over all neighbours of a chunk."""
    heights, widths = _sample_count(down, cells), _sample_count(across, cells)

    def row(i, value):
        rows, row_weight = _window_weights(down, heights, cells, i)
        rows = down.first[:, None] + rows * down.width[:, None]

        def column(j, value):
            columns, column_weight = _window_weights(across, widths, cells, j)
            index = rows[:, :, None] + columns[:, None, :]
            return body(index, row_weight[:, :, None] * column_weight[:, None, :], value)

        return lax.fori_loop(0, jnp.max(widths) + 1, column, value)

    return lax.fori_loop(0, jnp.max(heights) + 1, row, start)


def _order_by_samples(down, across, cells):
    """Returns boxes by their number of samples, so that those of a chunk need about as many."""
    return jnp.argsort(_sample_count(down, cells) * _sample_count(across, cells))


def _crops(form, table, down, across):
    """Returns crops f32[r s s c] of a table [n c]; form is (n, dtype, s), for the way back.

    The number of samples is data, so they are counted by loops; a static bound would be that of the
    widest box there can be, some thirty times the work.
    """
    cells, boxes = form[2], down.low.shape[0]
    order = _order_by_samples(down, across, cells)

    def chunk(_, sides):
        def add(index, weight, crops):
            values = jnp.take(table, index, axis=0, mode="clip").astype(jnp.float32)
            return crops + values * weight[..., None]

        empty = jnp.zeros((_CHUNK, cells, cells, table.shape[-1]), jnp.float32)
        rows, columns = sides
        return None, _over_window(rows, columns, cells, add, empty)

    _, crops = lax.scan(chunk, None, _chunks((down, across), order, boxes))
    crops = crops.reshape(-1, *crops.shape[2:])[:boxes]
    return crops[jnp.argsort(order)]


def _forward(form, table, down, across):
    return _crops(form, table, down, across), (down, across)


def _backward(form, sides, gradient):
    """Returns the gradient of the table; boxes have none."""
    rows, dtype, cells = form
    down, across = sides
    order = _order_by_samples(down, across, cells)
    split = _chunks((down, across, gradient), order, gradient.shape[0])

    def chunk(total, part):
        down, across, own = part

        def add(index, weight, total):
            return total.at[index].add(own * weight[..., None], mode="promise_in_bounds")

        return _over_window(down, across, cells, add, total), None

    empty = jnp.zeros((rows, gradient.shape[-1]), jnp.float32)
    return lax.scan(chunk, empty, split)[0].astype(dtype), None, None


adaptive_crops = jax.custom_vjp(_crops, nondiff_argnums=(0,))
adaptive_crops.defvjp(_forward, _backward)
