"""Anchors: reference boxes at every cell of a feature map, as NumPy constants.

cell sizes (one per kind of anchor) x cells of the level -> anchors in the order row, column,
scale, ratio: the order in which the RPN's outputs [h w k] flatten.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from rcnn_jax.settings.network import AnchorConvention

CellSizes = tuple[tuple[float, float], ...]
"""(height, width) in pixels of the k anchors of a cell."""


def cell_sizes_from_scales(scales: Sequence[float], ratios: Sequence[float]) -> CellSizes:
    """Returns the anchor sizes of Faster R-CNN: w = s sqrt(r), h = s / sqrt(r).

    Args:
      scales: side lengths in pixels; outer loop.
      ratios: width / height; inner loop.

    Source: docs/reference/faster_rcnn.md, "Anchors". Deviation: ratios are rooted once,
    always.
    """
    return tuple(
        (scale / math.sqrt(ratio), scale * math.sqrt(ratio))
        for scale, ratio in itertools.product(scales, ratios)
    )


def cell_sizes_from_octaves(
    anchor_scale: float,
    stride: int,
    num_scales: int,
    aspect_ratios: Sequence[tuple[float, float]],
) -> CellSizes:
    """Returns the anchor sizes of one level of Mask R-CNN.

    Args:
      anchor_scale: base side in cells.
      stride: pixels per cell, 2**level.
      num_scales: octave o in [0, num_scales) multiplies the side by 2**(o / num_scales); outer
        loop.
      aspect_ratios: (x, y) multipliers of the side; inner loop.

    Source: docs/reference/mask_rcnn.md, "Anchors".
    """
    sides = [anchor_scale * stride * 2.0 ** (o / num_scales) for o in range(num_scales)]
    return tuple((side * y, side * x) for side, (x, y) in itertools.product(sides, aspect_ratios))


def cells_inside(
    feature_hw: tuple[int, int],
    stride: int,
    cell_sizes: CellSizes,
    convention: AnchorConvention,
    image_size: tuple[float, float],
) -> np.ndarray:
    """Returns i64[k], in how many cells of a level the anchor of every size lies inside the image.

    Args:
      feature_hw: see `level_anchors`.
      stride: see `level_anchors`.
      cell_sizes: see `level_anchors`.
      convention: see `level_anchors`.
      image_size: (height, width) in pixels.
    """
    anchors = level_anchors(feature_hw, stride, cell_sizes, convention)
    inside = (anchors[:, :2] >= 0).all(axis=1) & (anchors[:, 2:] <= image_size).all(axis=1)
    # The size is the innermost axis of the anchor order.
    return inside.reshape(-1, len(cell_sizes)).sum(axis=0)


def level_anchors(
    feature_hw: tuple[int, int], stride: int, cell_sizes: CellSizes, convention: AnchorConvention
) -> np.ndarray:
    """Returns every anchor of a level.

    Args:
      feature_hw: rows and columns of the feature map.
      stride: pixels per cell.
      cell_sizes: (height, width) of the k anchors of a cell.
      convention: centres at (i + offset) * stride; base boxes rounded to whole pixels or not.

    Returns:
      f32[h*w*k 4], ordered row, column, then as cell_sizes. Anchors may leave the image.
    """
    rows, columns = feature_hw
    # Float64 to the last line: each coordinate is rounded once, whatever the order of the sums.
    half = np.asarray(cell_sizes, np.float64).reshape(-1, 2) / 2.0
    base = np.concatenate([-half, half], axis=1)  # [k 4] around the origin
    if convention.rounding:
        # Half to even, as torch rounds; torchvision's weights were trained on these corners.
        base = np.round(base)
    y = (np.arange(rows) + convention.offset) * stride
    x = (np.arange(columns) + convention.offset) * stride
    centres = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1)  # [h w 2]
    anchors = np.tile(centres, 2)[:, :, None, :] + base  # [h w k 4]
    return anchors.reshape(-1, 4).astype(np.float32)
