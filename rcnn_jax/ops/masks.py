"""Masks of rois: targets of the mask head, and the plane of its output that belongs to a class."""

import jax
import jax.numpy as jnp
from jax import lax

from rcnn_jax.ops.boxes import corners
from rcnn_jax.ops.gather import gather_rows
from rcnn_jax.structures import Array

_MIN_SIDE = 1e-6  # padding boxes are empty


def mask_targets(
    gt_masks: Array, gt_boxes: Array, rois: Array, gt_index: Array, output_size: int
) -> jax.Array:
    """Returns the ground-truth masks of one image, resampled to the cells of its rois.

    A ground-truth mask fills its box with s x s cells and is 0 around it. It is read bilinearly at
    the middle of every cell of the roi, and 0.5 counts as inside. With one value per cell middle
    and zeros around, bilinear interpolation along an axis is a sum with the hat function
    max(0, 1 - |u - i|), so the whole op is two small matrix products.

    Args:
      gt_masks: u8[m s s] in {0, 1}, cropped to their boxes.
      gt_boxes: f32[m 4], the boxes the masks are cropped to.
      rois: f32[r 4].
      gt_index: i32[r].
      output_size: o.

    Returns:
      f32[r o o] in {0, 1}.

    Source: docs/reference/mask_rcnn.md, "Mask targets". Deviation: one cell of zeros
    around instead of two, half-pixel positions.
    """
    side = gt_masks.shape[-1]
    # uint8 up to here: the loader sends a quarter of the bytes, and only rois' masks become float.
    masks = jnp.asarray(gt_masks)[gt_index].astype(jnp.float32)  # [r s s]
    top, left, bottom, right = corners(jnp.asarray(gt_boxes)[gt_index])
    y1, x1, y2, x2 = corners(rois)
    rows = _hat(y1, y2, top, bottom, side, output_size)  # [r o s]
    columns = _hat(x1, x2, left, right, side, output_size)
    # Full precision: a GPU may multiply in TF32, whose ten bits move cells across the threshold.
    inside = jnp.einsum("rys,rst,rxt->ryx", rows, masks, columns, precision=lax.Precision.HIGHEST)
    return lax.stop_gradient((inside >= 0.5).astype(jnp.float32))


def select_class_masks(logits: Array, classes: Array) -> jax.Array:
    """Returns the plane of its own class for every roi.

    Args:
      logits: [r o o n].
      classes: i32[r] in [0, n).

    Returns:
      [r o o].
    """
    rois, height, width, num_classes = logits.shape
    # Planes become rows, so that the choice is a gather of rows, one node of an exported graph.
    planes = jnp.moveaxis(logits, -1, 1).reshape(rois * num_classes, height, width)
    return gather_rows(planes, jnp.arange(rois) * num_classes + classes)


def _hat(roi_low, roi_high, box_low, box_high, cells, samples):
    """Returns f32[r samples cells], the weight of each cell of the box at each sample of the roi."""
    step = (jnp.arange(samples) + 0.5) / samples
    position = roi_low[:, None] + (roi_high - roi_low)[:, None] * step[None, :]
    cells_per_pixel = cells / jnp.maximum(box_high - box_low, _MIN_SIDE)
    cell = (position - box_low[:, None]) * cells_per_pixel[:, None] - 0.5
    distance = jnp.abs(cell[:, :, None] - jnp.arange(cells, dtype=jnp.float32)[None, None, :])
    return jnp.maximum(1.0 - distance, 0.0)
