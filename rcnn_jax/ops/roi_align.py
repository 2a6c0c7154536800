"""RoIAlign: crops of equal size from boxes of any size, by bilinear samples of the feature pyramid.

All levels are laid end to end as rows of one table [sum(h*w) c]; a sample is four rows and four
weights, so the whole op is one gather forward and one scatter-add backward, whatever the levels.
The semantics are those of ONNX `RoiAlign` (mode avg, coordinate_transformation_mode half_pixel):

    cell (i, j) covers pixels [i, i+1) x [j, j+1) of its level, its value sits at (i+0.5, j+0.5);
    samples more than one cell outside the map are 0, nearer ones take the value of the border.
"""

import jax
import jax.numpy as jnp
from jax import lax

from rcnn_jax.ops.boxes import area, corners
from rcnn_jax.ops.marker import marked
from rcnn_jax.structures import Array, Levels


def roi_align(
    features: Levels,
    boxes: Array,
    *,
    output_size: int,
    sampling_ratio: int = 2,
    level: Array | None = None,
) -> jax.Array:
    """Returns the average of sampling_ratio**2 bilinear samples in every cell of every box.

    Args:
      features: {l: [b h w c]}, stride 2**l.
      boxes: f32[b r 4] in pixels of the network input; no gradient flows into them.
      output_size: s, cells per side.
      sampling_ratio: samples per side of a cell.
      level: i32[b r], the level each box is read from; None where there is only one.

    Returns:
      [b r s s c] in the type of the features. Index arithmetic and sums, also those of the backward
      pass, are in float32.

    Source: He et al. 2017, section 3; reference/export_findings section 3. Deviation: TAO samples
    with corner-aligned crops (Faster R-CNN) or without the half pixel (Mask R-CNN).
    """
    levels = tuple(sorted(features))
    if level is None:
        if len(levels) != 1:
            raise ValueError(f"level says which of {levels} a box is read from; it is missing")
        level = jnp.full(boxes.shape[:2], levels[0], jnp.int32)
    op = marked(
        "roi_align",
        _roi_align,
        levels=levels,
        output_size=output_size,
        sampling_ratio=sampling_ratio,
    )
    return op(*(features[i] for i in levels), boxes, level)


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

    Source: Lin et al. 2017 (FPN), equation 1; reference/mask_rcnn_spec section 3.3.
    """
    size = area(boxes)
    level = jnp.full(size.shape, min_level, jnp.int32)
    for border in range(min_level + 1, max_level + 1):
        smallest = (canonical_size * 2.0 ** (border - canonical_level)) ** 2
        level += (size >= smallest).astype(jnp.int32)
    return level


def _roi_align(*operands, levels, output_size, sampling_ratio):
    """Does the work of `roi_align`; operands are the features by level, boxes and level."""
    *features, boxes, level = operands
    channels = features[0].shape[-1]
    sizes = [(feature.shape[1], feature.shape[2]) for feature in features]
    starts = [sum(h * w for h, w in sizes[:i]) for i in range(len(sizes))]
    table = jnp.concatenate(
        [f.astype(jnp.float32).reshape(f.shape[0], h * w, channels) for f, (h, w) in zip(features, sizes, strict=True)],
        axis=1,
    )  # [b sum(h*w) c]
    place = jnp.clip(level - levels[0], 0, len(levels) - 1)
    height, width, start = (
        jnp.asarray(column, jnp.int32)[place] for column in (*zip(*sizes, strict=True), starts)
    )  # [b r]
    y1, x1, y2, x2 = corners(lax.stop_gradient(jnp.asarray(boxes)))
    stride = 2.0 ** level.astype(jnp.float32)
    rows, row_weights = _samples(y1 / stride, y2 / stride, height, output_size, sampling_ratio)
    columns, column_weights = _samples(x1 / stride, x2 / stride, width, output_size, sampling_ratio)
    return rows, row_weights, columns, column_weights, table, width, start
