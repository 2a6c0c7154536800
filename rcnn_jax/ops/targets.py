"""Targets of the RPN and the heads: matching, sampling and encoding for one image.

An image without ground truth is ordinary: all anchors are negative, all rois background. Nothing
here has a gradient.
"""

import jax.numpy as jnp
from jax import lax

from rcnn_jax.ops.box_coder import BoxCoder
from rcnn_jax.ops.boxes import iou_matrix, wide_enough
from rcnn_jax.ops.matcher import match_anchors
from rcnn_jax.ops.sampler import sample_indices, sample_labels
from rcnn_jax.settings.detection import RoiSamplingSettings, RpnTargetSettings
from rcnn_jax.structures import Array, GroundTruth, Proposals, RoiTargets, RpnTargets


def rpn_targets(
    key: Array,
    anchors: Array,
    gt: GroundTruth,
    image_size: Array,
    settings: RpnTargetSettings,
    coder: BoxCoder,
) -> RpnTargets:
    """Returns the training targets of every anchor of one image.

    Args:
      key: random key of the image.
      anchors: f32[a 4], all levels joined.
      gt: one image.
      image_size: (height, width) of the part that is not padding.
      settings: thresholds, sample size, which anchors the box loss reads.
      coder: of the RPN.

    Source: docs/reference/faster_rcnn.md, "RPN targets"; docs/reference/mask_rcnn.md,
    "RPN targets".
    """
    matches = match_anchors(anchors, gt.boxes, gt.valid, settings, image_size, gt.crowd)
    # Rounded down: the fraction is a limit.
    max_positive = int(settings.batch_per_image * settings.positive_fraction)
    labels = sample_labels(key, matches.label, settings.batch_per_image, max_positive)
    learns_box = labels if settings.box_loss_on_sample else matches.label
    targets = RpnTargets(
        labels=labels,
        deltas=coder.encode(anchors, jnp.asarray(gt.boxes)[matches.gt_index]),
        box_mask=learns_box == 1,
    )
    return lax.stop_gradient(targets)


def roi_targets(
    key: Array,
    proposals: Proposals,
    gt: GroundTruth,
    settings: RoiSamplingSettings,
    num_classes: int,
    coder: BoxCoder,
) -> RoiTargets:
    """Returns the rois of one image that train the heads, and their targets.

    A roi belongs to the ground truth of its best overlap (the first of equals). It is foreground
    from foreground_overlap on, background within [background_low, background_high); without any
    ground truth the lower bound is waived. A roi whose best overlap is with a crowd box is neither.

    Args:
      key: random key of the image.
      proposals: one image.
      gt: one image.
      settings: sample size and thresholds.
      num_classes: n; background is class n.
      coder: of the box head.

    Source: docs/reference/faster_rcnn.md, "RoI sampling"; docs/reference/mask_rcnn.md,
    "RoI sampling". Deviation: padding is never sampled, IoU has no "+1".
    """
    gt_boxes = jnp.asarray(gt.boxes)
    real = gt.valid & ~jnp.asarray(gt.crowd)
    boxes, candidate = jnp.asarray(proposals.boxes), jnp.asarray(proposals.valid)
    if settings.append_gt:
        # Without them the proposals of a fresh RPN give the heads no foreground to learn from.
        boxes = jnp.concatenate([boxes, gt_boxes])
        candidate = jnp.concatenate([candidate, real])
    iou = iou_matrix(boxes, gt_boxes)  # [p m]
    per_truth = jnp.where(real[None, :], iou, 0.0)
    overlap = jnp.max(per_truth, axis=1, initial=0.0)
    crowded = jnp.where((gt.valid & gt.crowd)[None, :], iou, 0.0)
    # At most equal: as in the matcher, an object wins over a crowd that fits alike.
    candidate &= jnp.max(crowded, axis=1, initial=0.0) <= overlap
    low_enough = overlap < settings.background_high
    # Without objects every overlap is 0, and a lower bound above 0 would leave the image no rois.
    high_enough = (overlap >= settings.background_low) | ~jnp.any(real)
    is_foreground = candidate & jnp.any(real) & (overlap >= settings.foreground_overlap)
    index, foreground, valid = sample_indices(
        key,
        is_foreground,
        # Foreground first, where a spec lets the two ranges overlap.
        candidate & ~is_foreground & low_enough & high_enough,
        settings.batch_per_image,
        int(settings.batch_per_image * settings.foreground_fraction),
        settings.with_replacement,
    )
    gt_index = jnp.argmax(per_truth, axis=1).astype(jnp.int32)[index]
    classes = jnp.asarray(gt.classes)[gt_index].astype(jnp.int32)
    targets = RoiTargets(
        boxes=boxes[index],
        classes=jnp.where(foreground, classes, num_classes),
        deltas=coder.encode(boxes[index], gt_boxes[gt_index]),
        gt_index=gt_index,
        foreground=foreground,
        valid=valid,
    )
    return lax.stop_gradient(targets)


def matched_rois(
    boxes: Array,
    valid: Array,
    gt: GroundTruth,
    settings: RoiSamplingSettings,
    num_classes: int,
    coder: BoxCoder,
) -> RoiTargets:
    """Returns the boxes of one image as rois with their targets, all of them and in their order.

    Foreground is what overlaps a ground truth by foreground_overlap; all else is background, except
    rois whose best overlap is with a crowd box or that have no area: they are invalid.

    Args:
      boxes: f32[r 4].
      valid: bool[r].
      gt: one image.
      settings: thresholds.
      num_classes: n; background is class n.
      coder: of the head.

    Source: Cai and Vasconcelos 2017 (arXiv:1712.00726), section 4.2.
    """
    gt_boxes = jnp.asarray(gt.boxes)
    real = gt.valid & ~jnp.asarray(gt.crowd)
    iou = iou_matrix(boxes, gt_boxes)  # [r m]
    per_truth = jnp.where(real[None, :], iou, 0.0)
    overlap = jnp.max(per_truth, axis=1, initial=0.0)
    crowded = jnp.where((gt.valid & gt.crowd)[None, :], iou, 0.0)
    valid = jnp.asarray(valid) & (jnp.max(crowded, axis=1, initial=0.0) <= overlap)
    valid &= wide_enough(boxes, 0.0)
    foreground = valid & jnp.any(real) & (overlap >= settings.foreground_overlap)
    gt_index = jnp.argmax(per_truth, axis=1).astype(jnp.int32)
    classes = jnp.asarray(gt.classes)[gt_index].astype(jnp.int32)
    targets = RoiTargets(
        boxes=boxes,
        classes=jnp.where(foreground, classes, num_classes),
        deltas=coder.encode(boxes, gt_boxes[gt_index]),
        gt_index=gt_index,
        foreground=foreground,
        valid=valid,
    )
    return lax.stop_gradient(targets)
