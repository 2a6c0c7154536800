"""Losses of boxes that measure overlap instead of distances of deltas.

    iou   1 - IoU
    giou  1 - IoU + the part of the enclosing box that neither box covers
    diou  1 - IoU + squared distance of the centres / squared diagonal of the enclosing box
    ciou  diou + alpha * v, the difference of the aspect ratios

Average precision counts overlaps, and these losses are measured in them: a box ten times as large
weighs the same, and the four sides of a box are one error. Everything is float32, and gradients are
finite for boxes without area too.

Source: Rezatofighi et al., Generalized Intersection over Union, 2019 (arXiv:1902.09630); Zheng et al.,
Distance-IoU Loss, 2019 (arXiv:1911.08287), equations 7 and 8 to 11.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from rcnn_jax.ops.boxes import area, corners
from rcnn_jax.ops.losses import SumCount
from rcnn_jax.structures import Array

IouLoss = Literal["iou", "giou", "diou", "ciou"]
"""The losses of `iou_loss`."""

# Square pixels below every divisor. The 1e-9 of `iou_matrix` is no choice here: a quotient of two
# areas of nearly 0 has a gradient of 1e9 per pixel, which is finite and ends a run all the same.
_MIN_AREA = 1e-3
_MIN_SIDE = 1e-3


def iou_loss(predictions: Array, targets: Array, weight: Array, kind: IouLoss) -> SumCount:
    """Returns the loss of predicted boxes.

    Args:
      predictions: f32[... 4], decoded.
      targets: f32[... 4].
      weight: f32[...], per box.
      kind: see above.

    Returns:
      (sum over the boxes, sum of weights).
    """
    weight = jnp.asarray(weight)
    return jnp.sum(iou_losses(predictions, targets, kind) * weight), jnp.sum(weight)


def iou_losses(predictions: Array, targets: Array, kind: IouLoss) -> jax.Array:
    """Returns the loss f32[...] of every box, as `iou_loss` adds them up.

    It is in [0, 1] for iou, in [0, 2] for giou and diou, and not below 0 for ciou.
    """
    predictions = jnp.asarray(predictions).astype(jnp.float32)
    targets = jnp.asarray(targets).astype(jnp.float32)
    iou, union = paired_iou(predictions, targets)
    loss = 1.0 - iou
    if kind == "iou":
        return loss
    height, width = _enclosing_sides(predictions, targets)
    if kind == "giou":
        hull = height * width
        return loss + (hull - union) / jnp.maximum(hull, _MIN_AREA)
    y, x, h, w = _centre_form(predictions)
    target_y, target_x, target_h, target_w = _centre_form(targets)
    squared_distance = (y - target_y) ** 2 + (x - target_x) ** 2
    loss += squared_distance / jnp.maximum(height**2 + width**2, _MIN_AREA)
    if kind == "diou":
        return loss
    v = 4.0 / math.pi**2 * (_aspect(target_h, target_w) - _aspect(h, w)) ** 2
    # A weight and no part of the loss: the paper takes no gradient through it.
    alpha = lax.stop_gradient(v / jnp.maximum(1.0 - iou + v, 1e-7))
    return loss + alpha * v


def paired_iou(a: Array, b: Array) -> tuple[jax.Array, jax.Array]:
    """Returns IoU and union, f32[...] each, of boxes at the same index; IoU of empty boxes is 0.

    Args:
      a: f32[... 4].
      b: f32[... 4].
    """
    top, left, bottom, right = corners(a)
    y1, x1, y2, x2 = corners(b)
    height = jnp.maximum(jnp.minimum(bottom, y2) - jnp.maximum(top, y1), 0.0)
    width = jnp.maximum(jnp.minimum(right, x2) - jnp.maximum(left, x1), 0.0)
    inter = height * width
    union = area(a) + area(b) - inter
    return inter / jnp.maximum(union, _MIN_AREA), union


def _enclosing_sides(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns (height, width) of the smallest box around both."""
    top, left, bottom, right = corners(a)
    y1, x1, y2, x2 = corners(b)
    height = jnp.maximum(bottom, y2) - jnp.minimum(top, y1)
    width = jnp.maximum(right, x2) - jnp.minimum(left, x1)
    return height, width


def _centre_form(boxes: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Returns (centre y, centre x, height, width), each [...]."""
    y1, x1, y2, x2 = corners(boxes)
    return (y1 + y2) * 0.5, (x1 + x2) * 0.5, y2 - y1, x2 - x1


def _aspect(height: jax.Array, width: jax.Array) -> jax.Array:
    """Returns the angle whose tangent is width / height."""
    # Not atan2, whose gradient at (0, 0) is NaN.
    return jnp.arctan(width / jnp.maximum(height, _MIN_SIDE))
