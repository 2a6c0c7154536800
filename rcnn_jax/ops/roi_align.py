"""RoIAlign: crops of equal size from boxes of any size, by bilinear samples of the feature pyramid.

All levels and images are laid end to end as rows of one table. A bilinear sample is separable, so a cell
of a crop is a sum over neighbours on a small grid of rows x columns:

    boxes, level      -> neighbours: offsets and weights [r s t] of rows and columns, t = 2 sampling_ratio
    table, neighbours -> crops: sum over t x t of table[row + column] * row weight * column weight

The semantics are those of ONNX `RoiAlign` (mode avg, coordinate_transformation_mode half_pixel):
the value of a feature cell sits in its middle; samples more than one cell outside the map are 0,
nearer ones take the value at the border.

With sampling_ratio 0 the number of samples of a cell is its side in cells of the map, rounded up, and
differs from box to box (`ops/adaptive_roi_align.py`).
"""

import functools

import flax.struct
import jax
import jax.numpy as jnp
from jax import lax

from rcnn_jax.ops.adaptive_roi_align import Sides, adaptive_crops
from rcnn_jax.ops.boxes import area, corners
from rcnn_jax.ops.marker import marked
from rcnn_jax.structures import Array, Levels

_CPU_CHUNK = 32
"""Boxes whose gradient a CPU scatters at a time: about 25 MB of updates stay near the caches."""


def roi_align(
    features: Levels,
    boxes: Array,
    *,
    output_size: int,
    sampling_ratio: int = 2,
    level: Array | None = None,
    cell_weights: tuple[Array, Array] | None = None,
) -> jax.Array:
    """Returns the average of sampling_ratio**2 bilinear samples in every cell of every box.

    Args:
      features: {l: [b h w c]}, stride 2**l.
      boxes: f32[b r 4] in pixels of the network input; no gradient flows into them. They may lie
        anywhere; an exported graph of several levels reads boxes within the canvas rightly.
      output_size: s, cells per side.
      sampling_ratio: samples per side of a cell; 0 for as many as the cell has cells of the map,
        rounded up.
      level: i32[b r], the level each box is read from, cut to the levels at hand; None where there
        is only one.
      cell_weights: factors f32[b r s] of the rows and of the columns of a crop; None for 1.

    Returns:
      [b r s s c] in the type of the features. Index arithmetic and sums, also those of the backward
      pass, are in float32.

    Raises:
      ValueError: there are several levels and `level` is missing.

    Source: He et al. 2017, section 3; docs/reference/tensorrt.md, "RoiAlign". Deviation: TAO
    samples with corner-aligned crops (Faster R-CNN) or without the half pixel (Mask R-CNN).
    """
    levels = tuple(sorted(features))
    if level is None:
        if len(levels) != 1:
            raise ValueError(f"features have levels {levels}: `level` must say which a box reads")
        level = jnp.full(boxes.shape[:2], levels[0], jnp.int32)
    op = marked(
        "roi_align",
        _roi_align,
        levels=levels,
        output_size=output_size,
        sampling_ratio=sampling_ratio,
    )
    return op(*(features[i] for i in levels), boxes, level, *(cell_weights or ()))


def assign_levels(
    boxes: Array,
    min_level: int,
    max_level: int,
    canonical_size: float = 224.0,
    canonical_level: int = 4,
) -> jax.Array:
    """Returns the pyramid level whose stride fits the box, as i32[...] for boxes [... 4].

    level = clamp(canonical_level + floor(log2(sqrt(area) / canonical_size)), min_level, max_level),
    computed by comparing areas, which needs no logarithm and is exact at the borders.

    Source: Lin et al. 2017 (FPN), equation 1; docs/reference/mask_rcnn.md, "RoIAlign".
    """
    size = area(boxes)
    level = jnp.full(size.shape, min_level, jnp.int32)
    for border in range(min_level + 1, max_level + 1):
        smallest = (canonical_size * 2.0 ** (border - canonical_level)) ** 2
        level += (size >= smallest).astype(jnp.int32)
    return level


def roi_align_unaligned(
    features: Levels,
    boxes: Array,
    *,
    output_size: int,
    level: Array,
    sampling_ratio: int = 2,
) -> jax.Array:
    """Returns the crops of an operator with `aligned=False`, for boxes within the canvas.

    Such an operator takes the edge of a box, in cells, for a distance from the middle of the first
    cell, so it reads half a cell further down and right; and it stretches boxes narrower than a cell.
    A stretched box may reach beyond the map, where samples are 0 from one cell on. It is moved back
    to the last cell, whose value nearer samples have anyway, and cells are multiplied by the
    fraction of their samples that are not 0.

    Args:
      features: {l: [b h w c]}, stride 2**l.
      boxes: f32[b r 4] in pixels, within the canvas.
      output_size: s, cells per side.
      level: i32[b r], the level each box is read from.
      sampling_ratio: samples per side of a cell.

    Returns:
      [b r s s c] in the type of the features.

    Source: docs/torchvision.md, "What the convention says" (torchvision's `roi_align`).
    """
    levels = tuple(sorted(features))
    stride = jnp.full(level.shape, 2.0 ** levels[0], jnp.float32)
    for coarser in levels[1:]:
        stride = jnp.where(level >= coarser, 2.0**coarser, stride)
    height, width = (side * 2.0 ** levels[0] for side in features[levels[0]].shape[1:3])
    y1, x1, y2, x2 = corners(boxes)
    read = functools.partial(
        _unaligned_side, stride=stride, cells=output_size, samples=sampling_ratio
    )
    y1, y2, row_weights = read(y1, y2, height)
    x1, x2, column_weights = read(x1, x2, width)
    moved = jnp.stack([y1, x1, y2, x2], axis=-1)
    return roi_align(
        features,
        moved,
        output_size=output_size,
        sampling_ratio=sampling_ratio,
        level=level,
        cell_weights=(row_weights, column_weights),
    )


def _unaligned_side(low, high, length, *, stride, cells, samples):
    """Returns (low, high, fraction of samples that are not 0 f32[b r s]) along one axis, in pixels."""
    # A side below one cell is stretched from its low edge, as the unaligned operator does.
    high = jnp.maximum(high, low + stride)
    step = _steps(cells * samples)
    position = low[..., None] + (high - low)[..., None] * step[None, None, :]
    inside = (position <= length).reshape(*low.shape, cells, samples)
    # Only a stretched side can begin less than a cell before the border.
    beyond = jnp.maximum(low + stride - length, 0.0)
    shift = 0.5 * stride - beyond
    return low + shift, high + shift, inside.mean(-1, dtype=jnp.float32)


def _steps(count):
    """Returns where count samples lie between the edges of a box, f32[count] in (0, 1)."""
    return (jnp.arange(count) + 0.5) / count


class _Neighbours(flax.struct.PyTreeNode):
    """Table rows and weights of crops: cell (i, j) of box r reads rows[r, i, :] + columns[r, j, :].

    Attributes:
      rows: i32[r s t]; the start of a row of features in the table.
      columns: i32[r s t].
      row_weights: f32[r s t].
      column_weights: f32[r s t].
    """

    rows: jax.Array
    columns: jax.Array
    row_weights: jax.Array
    column_weights: jax.Array


def _roi_align(*operands: jax.Array, levels, output_size, sampling_ratio):
    """Implements `roi_align`; operands are the features by level, boxes, level and cell weights."""
    features, (boxes, level, *cell_weights) = operands[: len(levels)], operands[len(levels) :]
    batch, _, _, channels = features[0].shape
    heights = [feature.shape[1] for feature in features]
    widths = [feature.shape[2] for feature in features]
    starts = [0]
    for h, w in zip(heights, widths, strict=True):
        starts.append(starts[-1] + h * w)
    # One table, so that a crop is read from its own level alone; a read of every level that keeps
    # one of them samples four times as much, and its derivative needs a scatter for each.
    table = jnp.concatenate([f.reshape(batch, -1, channels) for f in features], axis=1)

    level = level.reshape(-1)
    # Levels may have gaps and `level` may lie outside them, so their index is counted, not subtracted.
    index = jnp.zeros_like(level)
    for higher in levels[1:]:
        index += (level >= higher).astype(index.dtype)
    stride = jnp.asarray([2.0**i for i in levels])[index]
    height, width = jnp.asarray(heights)[index], jnp.asarray(widths)[index]
    image = lax.broadcasted_iota(jnp.int32, boxes.shape[:2], 0).reshape(-1)
    first = image * starts[-1] + jnp.asarray(starts[:-1])[index]  # row of the table
    # Strides are powers of two, so the quotient is exact and equals ONNX's product with 1 / stride.
    # Float32 whatever the features are: bfloat16 has no odd numbers above 256.
    y1, x1, y2, x2 = corners(lax.stop_gradient(boxes).reshape(-1, 4) / stride[:, None])
    if not sampling_ratio:
        sides = Sides(first, width, y1, y2, height), Sides(first, width, x1, x2, width)
        crops = adaptive_crops(
            (batch * starts[-1], table.dtype, output_size), table.reshape(-1, channels), *sides
        )
        crops = crops.reshape(*boxes.shape[:2], output_size, output_size, channels)
        return lax.optimization_barrier(crops.astype(table.dtype))
    rows, row_weights = _axis_neighbours(y1, y2, height, output_size, sampling_ratio)
    columns, column_weights = _axis_neighbours(x1, x2, width, output_size, sampling_ratio)
    if cell_weights:
        down, across = (weights.reshape(-1, output_size, 1) for weights in cell_weights)
        row_weights, column_weights = row_weights * down, column_weights * across
    rows = first[:, None, None] + rows * width[:, None, None]
    neighbours = _Neighbours(rows, columns, row_weights, column_weights)
    crops = _read_neighbours(
        (batch * starts[-1], table.dtype), table.reshape(-1, channels), neighbours
    )
    crops = crops.reshape(*boxes.shape[:2], output_size, output_size, channels)
    # Without the barrier XLA repeats all reads in every operation that uses a crop: on an H100, for
    # the chunks of the mask head, 26 of the 84 ms of a training step.
    return lax.optimization_barrier(crops.astype(table.dtype))


def _axis_neighbours(low, high, size, cells, samples):
    """Returns the cells that samples along one axis read, and their weights in the average.

    Args:
      low: f32[r], where boxes begin, in cells.
      high: f32[r], where boxes end.
      size: i32[r], length of the feature map.
      cells: s.
      samples: per cell of the crop.

    Returns:
      (i32[r s t] in [0, size), f32[r s t]) with t = 2 samples.
    """
    step = _steps(cells * samples)
    position = (low - 0.5)[:, None] + (high - low)[:, None] * step[None, :]
    last = (size - 1)[:, None].astype(jnp.float32)
    # Zero from one cell outside, the value at the border before that: the rule of the ONNX
    # operator. The test comes before the clip, which would hide what was outside.
    inside = (position >= -1.0) & (position <= last + 1.0)
    position = jnp.clip(position, 0.0, last)
    near = jnp.floor(position)
    # At the last cell both neighbours are that cell, and its two weights add up.
    far = jnp.minimum(near + 1.0, last)
    fraction = (position - near) / samples
    index = jnp.stack([near, far], axis=-1).astype(jnp.int32)
    weight = jnp.stack([1.0 / samples - fraction, fraction], axis=-1) * inside[:, :, None]
    shape = (low.shape[0], cells, 2 * samples)
    return index.reshape(shape), weight.reshape(shape)


def _read(table_form: tuple, table: jax.Array, near: _Neighbours) -> jax.Array:
    """Returns crops f32[r s s c] of a table [n c]; table_form is (n, dtype), for the way back.

    One small gather per neighbour fuses with its weight and the sum: nothing of size r s s t t c is
    stored. The derivative of that form would be as many scatters into as many tables, hence
    `_scatter`.
    """
    del table_form
    crops = jnp.float32(0.0)
    for i in range(near.rows.shape[-1]):
        for j in range(near.columns.shape[-1]):
            index = near.rows[:, :, None, i] + near.columns[:, None, :, j]
            weight = near.row_weights[:, :, None, i] * near.column_weights[:, None, :, j]
            values = jnp.take(table, index, axis=0, mode="clip").astype(jnp.float32)
            crops += values * weight[..., None]
    return crops


def _read_forward(table_form, table, near):
    return _read(table_form, table, near), near


def _read_backward(table_form, near, gradient):
    """Returns the gradient of the table; positions and weights come from boxes and have none."""
    rows, dtype = table_form
    empty = jnp.zeros((rows, gradient.shape[-1]), jnp.float32)
    table_gradient = lax.platform_dependent(
        empty, near, gradient, cpu=_scatter_by_chunk, default=_scatter
    )
    # Summed in float32, rounded once: a cell of a pyramid gets the updates of up to 120 samples for
    # 512 rois, and a bfloat16 scatter is twenty times slower on a GPU
    # (docs/reference/performance.md, "Versions to beware of").
    return table_gradient.astype(dtype), None


_read_neighbours = jax.custom_vjp(_read, nondiff_argnums=(0,))
_read_neighbours.defvjp(_read_forward, _read_backward)


def _scatter(table, near, gradient):
    """Adds the gradient [r s s c] of crops to the rows [n c] they were read from, at once."""
    index = near.rows[:, :, None, :, None] + near.columns[:, None, :, None, :]  # [r s s t t]
    weight = near.row_weights[:, :, None, :, None] * near.column_weights[:, None, :, None, :]
    updates = gradient[:, :, :, None, None, :] * weight[..., None]
    # `_axis_neighbours` clips positions to the map, so no bounds are checked.
    return table.at[index].add(updates, mode="promise_in_bounds")


def _scatter_by_chunk(table, near, gradient):
    """Scatters as `_scatter` does, a few boxes at a time, in their order."""
    boxes = gradient.shape[0]
    chunks = -(-boxes // _CPU_CHUNK)

    def split(x):
        padding = [(0, chunks * _CPU_CHUNK - boxes)] + [(0, 0)] * (x.ndim - 1)
        # The boxes that fill the last chunk add 0 to row 0 of the table.
        return jnp.pad(x, padding).reshape(chunks, _CPU_CHUNK, *x.shape[1:])

    parts = jax.tree.map(split, (near, gradient))
    return lax.scan(lambda sums, part: (_scatter(sums, *part), None), table, parts)[0]
