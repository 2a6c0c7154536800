"""The algorithm both detectors share: anchors, proposals, sampled rois, losses, detections.

    images -> extract -> features {level} -> rpn -> proposals -> rois -> classify -> detections
                                              |                    |         |
                                         rpn targets          roi targets  losses

Functions take batched structures and map per-image operations over them. What the detectors do
differently is a number in `TwoStageSettings`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.ops import anchors as anchor_ops
from rcnn_jax.ops import losses as loss_ops
from rcnn_jax.ops.box_coder import BoxCoder
from rcnn_jax.ops.detections import select_detections
from rcnn_jax.ops.iou_loss import IouLoss, iou_losses, paired_iou
from rcnn_jax.ops.marker import staged
from rcnn_jax.ops.prime_samples import classification_weights, importance
from rcnn_jax.ops.proposals import select_proposals
from rcnn_jax.ops.roi_align import assign_levels, roi_align, roi_align_unaligned
from rcnn_jax.ops.targets import roi_targets, rpn_targets
from rcnn_jax.settings.detection import (
    DetectionSettings,
    DynamicSettings,
    ProposalSettings,
    RoiSamplingSettings,
    RpnTargetSettings,
)
from rcnn_jax.settings.network import AnchorConvention, PixelSettings
from rcnn_jax.structures import (
    Array,
    BoxOutputs,
    Detections,
    GroundTruth,
    Levels,
    Proposals,
    RoiTargets,
    RpnOutputs,
    RpnTargets,
)

LossTerms = dict[str, tuple[Array, Array]]
"""{name: (sum, count)}, f32[] or f32[k] over the images of one device.

A term is sum / count, 0 where nothing was counted, added up over the k parts it may have.
"""


BoxLoss = Literal["smooth_l1"] | IouLoss
"""A loss of boxes: `smooth_l1`, the distance of deltas, or an overlap of decoded boxes."""


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """Losses of boxes, their divisors, and weights of samples.

    Attributes:
      regression: distance of deltas: `smooth_l1`, or `huber`, which is beta times that.
      rpn_beta: where the distance turns linear for the RPN.
      box_beta: where the distance turns linear for the box head.
      normalize: `configured` divides by the configured sample sizes (TAO Faster R-CNN); `counted`
        divides by the sampled rois and by the coordinates of deltas that enter the loss, those of
        the RPN level by level (TAO Mask R-CNN). Objectness is divided by the configured sample size
        in both. A loss of decoded boxes counts boxes where a distance counts coordinates.
      box_loss: loss of the boxes of the box head.
      rpn_box_loss: loss of the boxes of the RPN.
      prime_samples: the class loss of foreground rois is weighted by their rank
        (`ops.prime_samples.importance`).
      carl: there is a term `carl`, the box loss weighted by the score of the true class.
    """

    regression: Literal["smooth_l1", "huber"] = "smooth_l1"
    rpn_beta: float = 1.0 / 9.0
    box_beta: float | Array = 1.0
    normalize: Literal["configured", "counted"] = "configured"
    box_loss: BoxLoss = "smooth_l1"
    rpn_box_loss: BoxLoss = "smooth_l1"
    prime_samples: bool = False
    carl: bool = False


@dataclass(frozen=True, kw_only=True)
class TwoStageSettings:
    """Settings of the two-stage algorithm.

    Attributes:
      cell_sizes: {level: ((height, width), ...)} of the anchors of a cell, as sorted pairs.
      anchor_convention: where the anchors sit.
      rpn_coder: box coder of the RPN.
      box_coder: box coder of the box head.
      rpn_targets: rules of the RPN's targets.
      train_proposals: proposals of training.
      roi_sampling: which proposals train the heads.
      roi_size: side of the crops the box head reads.
      roi_levels: levels that rois are pooled from.
      losses: how loss terms are summed.
      roi_aligned: crops are cut where the box says; otherwise half a cell further down and right, as
        torchvision does (`roi_align_unaligned`).
      roi_samples: samples per side of a cell of a crop, 0 for as many as it has cells of the map.
      canonical_box_size: side in pixels from which a box is pooled from level 4; see `assign_levels`.
      cascade_overlaps: IoU of the foreground of each head of a cascade; empty for one head.
      dynamic: how the threshold of foreground rois and the beta of the box head follow the proposals;
        None where they are constants.
    """

    cell_sizes: tuple[tuple[int, tuple[tuple[float, float], ...]], ...]
    anchor_convention: AnchorConvention
    rpn_coder: BoxCoder
    box_coder: BoxCoder
    rpn_targets: RpnTargetSettings
    train_proposals: ProposalSettings
    roi_sampling: RoiSamplingSettings
    roi_size: int
    roi_levels: tuple[int, ...]
    losses: LossSettings
    roi_aligned: bool = True
    roi_samples: int = 2
    canonical_box_size: float = 224.0
    cascade_overlaps: tuple[float, ...] = ()
    dynamic: DynamicSettings | None = None


@staged
def normalize(images: Array, pixels: PixelSettings) -> jax.Array:
    """Returns (images - mean) / std as f32[b h w c]; the padding is treated as black pixels."""
    # On the device, in the first fusion of the step: normalised on the host, a loader makes 74
    # images per second with one thread instead of 400 and more, and sends four times the bytes.
    mean = jnp.asarray(pixels.mean, jnp.float32).reshape(1, 1, 1, -1)
    std = jnp.asarray(pixels.std, jnp.float32).reshape(1, 1, 1, -1)
    return (jnp.asarray(images).astype(jnp.float32) - mean) / std


def level_anchors(rpn: RpnOutputs, settings: TwoStageSettings) -> Levels:
    """Returns the anchors {level: f32[h*w*k 4]} for the feature sizes at hand, as constants."""
    sizes = dict(settings.cell_sizes)
    return {
        # From the shapes at hand: each canvas is a compilation of its own, and its anchors a
        # constant.
        level: anchor_ops.level_anchors(
            scores.shape[1:3], 2**level, sizes[level], settings.anchor_convention
        )
        for level, scores in sorted(rpn.objectness.items())
    }


def proposing(
    rpn: RpnOutputs, anchors: Levels, canvas: tuple[int, int], settings: TwoStageSettings
) -> tuple[RpnOutputs, Levels]:
    """Returns the outputs and anchors that may propose.

    Where anchors outside the image are ignored, a size that lies inside nowhere is never trained: its
    scores are those of the first weights, so it is left out, as a constant of the graph.

    Args:
      rpn: objectness {l: [b h w k]}, deltas {l: [b h w k 4]}.
      anchors: {l: f32[h*w*k 4]}.
      canvas: (height, width).
      settings: anchors and the rule.
    """
    if settings.rpn_targets.outside != "ignore":
        return rpn, anchors
    sizes = dict(settings.cell_sizes)
    objectness, deltas, kept_anchors = {}, {}, {}
    # Counted with NumPy at trace time, so that what is left is a static shape.
    for level, scores in rpn.objectness.items():
        feature_hw = (scores.shape[1], scores.shape[2])
        counts = anchor_ops.cells_inside(
            feature_hw, 2**level, sizes[level], settings.anchor_convention, canvas
        )
        kept = [i for i, count in enumerate(counts.tolist()) if count]
        kept = kept or list(range(len(counts)))  # nothing to choose from
        objectness[level] = _columns(scores, kept)
        deltas[level] = _columns(rpn.deltas[level], kept)
        by_size = np.asarray(anchors[level]).reshape(-1, len(counts), 4)
        kept_anchors[level] = by_size[:, kept].reshape(-1, 4)
    return rpn.replace(objectness=objectness, deltas=deltas), kept_anchors


def _columns(values: Array, kept: list[int]) -> Array:
    """Some sizes of [b h w k ...]; slices, because an exporter has no gather for this."""
    if len(kept) == values.shape[3]:
        return values
    parts = [jax.lax.slice_in_dim(values, i, i + 1, axis=3) for i in kept]
    return jnp.concatenate(parts, axis=3)


def canvas_size(images: Array) -> jax.Array:
    """Returns f32[2], (height, width) of the canvas."""
    return jnp.asarray(images.shape[1:3], jnp.float32)


@staged
def propose(
    rpn: RpnOutputs,
    anchors: Levels,
    image_size: jax.Array,
    proposals: ProposalSettings,
    coder: BoxCoder,
) -> Proposals:
    """Returns the proposals of every image, clipped to image_size f32[b 2]."""
    # `vmap` of the function of one image, here and below: no image sees another, so results do not
    # depend on how a batch is divided over devices.
    return jax.vmap(
        lambda outputs, size: select_proposals(outputs, anchors, size, proposals, coder)
    )(rpn, image_size)


@staged
def assign_rpn(
    keys: jax.Array,
    anchors: Levels,
    gt: GroundTruth,
    image_size: jax.Array,
    settings: TwoStageSettings,
) -> RpnTargets:
    """Returns the targets of every anchor; anchors of all levels are joined in level order."""
    joined = jnp.concatenate([jnp.asarray(anchors[level]) for level in sorted(anchors)])
    # Without the masks: no target of the RPN reads them, and a vmap carries every leaf.
    return jax.vmap(
        lambda key, truth, size: rpn_targets(
            key, joined, truth, size, settings.rpn_targets, settings.rpn_coder
        )
    )(keys, gt.replace(masks=None), image_size)


@staged
def sample_rois(
    keys: jax.Array,
    proposals: Proposals,
    gt: GroundTruth,
    num_classes: int,
    settings: TwoStageSettings,
) -> RoiTargets:
    """Returns the rois that train the heads, with their targets."""
    return jax.vmap(
        lambda key, candidates, truth: roi_targets(
            key, candidates, truth, settings.roi_sampling, num_classes, settings.box_coder
        )
    )(keys, proposals, gt.replace(masks=None))


@staged
def pool(
    features: Levels,
    boxes: jax.Array,
    output_size: int,
    settings: TwoStageSettings,
) -> jax.Array:
    """Returns the crops [b r s s c] of boxes [b r 4], each from the level that fits its size."""
    levels, sampling = settings.roi_levels, settings.roi_samples
    pooled = {level: features[level] for level in levels}
    # One map needs no level: an exported graph gets a plain RoiAlign without an atlas.
    if settings.roi_aligned and len(levels) == 1:
        return roi_align(pooled, boxes, output_size=output_size, sampling_ratio=sampling)
    read = roi_align if settings.roi_aligned else roi_align_unaligned
    level = assign_levels(boxes, levels[0], levels[-1], settings.canonical_box_size)
    return read(pooled, boxes, output_size=output_size, level=level, sampling_ratio=sampling)


@staged
def rpn_losses(
    rpn: RpnOutputs, anchors: Levels, targets: RpnTargets, settings: TwoStageSettings
) -> LossTerms:
    """Returns the terms `rpn_class` and `rpn_box` of a batch."""
    losses = settings.losses
    levels = sorted(rpn.objectness)
    batch = targets.labels.shape[0]
    # In the order of `assign_rpn`: ascending levels, so that targets can be cut the same way.
    logits = jnp.concatenate([rpn.objectness[i].reshape(batch, -1) for i in levels], axis=1)
    sampled = (targets.labels >= 0).astype(jnp.float32)
    class_sum, _ = loss_ops.sigmoid_cross_entropy(
        logits, (targets.labels == 1).astype(jnp.float32), sampled
    )
    # The configured number, also where fewer could be sampled: as in both originals, so an image
    # with few anchors weighs less.
    samples = jnp.float32(batch * settings.rpn_targets.batch_per_image)

    # Per level, because Mask R-CNN divides each level by its own count before it adds them up
    # (docs/reference/mask_rcnn.md, "Losses"). Only pairs leave: devices add both first.
    sums, counts, start = [], [], 0
    for level in levels:
        deltas = rpn.deltas[level].reshape(batch, -1, 4)
        own = slice(start, start + deltas.shape[1])
        start = own.stop
        wanted, weight = targets.deltas[:, own], targets.box_mask[:, own].astype(jnp.float32)
        if losses.rpn_box_loss == "smooth_l1":
            total, count = _distance(losses)(deltas, wanted, weight, losses.rpn_beta)
        else:
            each = _overlap_losses(
                jnp.asarray(anchors[level])[None],
                deltas,
                wanted,
                settings.rpn_coder,
                losses.rpn_box_loss,
            )
            total, count = jnp.sum(each * weight), jnp.sum(weight)
        sums.append(total)
        counts.append(count)
    if losses.normalize == "configured":
        box = sum(sums), samples
    else:
        box = jnp.stack(sums), jnp.stack(counts)
    return {"rpn_class": (class_sum, samples), "rpn_box": box}


@staged
def box_losses(outputs: BoxOutputs, targets: RoiTargets, settings: TwoStageSettings) -> LossTerms:
    """Returns the terms `class`, `box` and perhaps `carl` of a batch; of deltas, those of the true class.

    Source: Girshick 2015; of prime samples Cao et al. 2019 (arXiv:1904.04821).
    """
    losses = settings.losses
    batch, rois = targets.classes.shape
    num_classes = outputs.deltas.shape[2]
    # Background has no deltas; its rois read those of the last class and weigh 0.
    own = jnp.minimum(targets.classes, num_classes - 1)[:, :, None, None]
    deltas = jnp.take_along_axis(outputs.deltas, own, axis=2)[:, :, 0]  # [b r 4]
    foreground = targets.foreground.astype(jnp.float32)
    valid = targets.valid.astype(jnp.float32)
    weight = valid
    if losses.prime_samples:
        weight = valid * _importance(outputs, deltas, targets, settings)
    class_sum, _ = loss_ops.softmax_cross_entropy(outputs.logits, targets.classes, weight)
    class_count = jnp.sum(valid)
    if losses.box_loss == "smooth_l1":
        box_sum, box_count = _distance(losses)(deltas, targets.deltas, foreground, losses.box_beta)
    else:
        each = _box_losses_of_rois(deltas, targets, settings)
        box_sum, box_count = jnp.sum(each * foreground), jnp.sum(foreground)
    if losses.normalize == "configured":
        class_count = box_count = jnp.float32(batch * rois)
    terms: LossTerms = {"class": (class_sum, class_count), "box": (box_sum, box_count)}
    if losses.carl:
        # The score has its gradient, that is the point: a class score learns how well its box lies.
        by_score = jax.vmap(classification_weights)(
            outputs.logits, targets.classes, targets.foreground
        )
        each = _box_losses_of_rois(deltas, targets, settings)
        terms["carl"] = jnp.sum(each * by_score), box_count
    return terms


def _box_losses_of_rois(
    deltas: jax.Array, targets: RoiTargets, settings: TwoStageSettings
) -> jax.Array:
    """Returns the box loss f32[b r] of every roi; for a distance, the sum over its coordinates."""
    losses = settings.losses
    if losses.box_loss != "smooth_l1":
        return _overlap_losses(
            targets.boxes, deltas, targets.deltas, settings.box_coder, losses.box_loss
        )
    each = loss_ops.smooth_l1_losses(deltas, targets.deltas, losses.box_beta).sum(-1)
    return losses.box_beta * each if losses.regression == "huber" else each


def _overlap_losses(
    references: Array, deltas: jax.Array, wanted: Array, coder: BoxCoder, kind: IouLoss
) -> jax.Array:
    """Returns the loss f32[b r] of the boxes that deltas [b r 4] make of references [b r 4]."""
    # Targets are decoded like predictions, so a box beyond the reach of the coder can still be met.
    return iou_losses(coder.decode(references, deltas), coder.decode(references, wanted), kind)


def _importance(
    outputs: BoxOutputs, deltas: jax.Array, targets: RoiTargets, settings: TwoStageSettings
) -> jax.Array:
    """Returns the weights f32[b r] of the class losses."""
    coder = settings.box_coder
    overlap, _ = paired_iou(
        coder.decode(targets.boxes, deltas), coder.decode(targets.boxes, targets.deltas)
    )
    loss = loss_ops.softmax_cross_entropies(outputs.logits, targets.classes)
    return jax.lax.stop_gradient(
        jax.vmap(importance)(overlap, targets.gt_index, targets.classes, targets.foreground, loss)
    )


def _distance(settings: LossSettings) -> Callable[..., loss_ops.SumCount]:
    return loss_ops.huber if settings.regression == "huber" else loss_ops.smooth_l1


@staged
def detect(
    rois: Proposals,
    outputs: BoxOutputs,
    image_size: jax.Array,
    detections: DetectionSettings,
    coder: BoxCoder,
) -> Detections:
    """Returns the detections of every image, clipped to image_size f32[2]."""
    return jax.vmap(
        lambda roi, output: select_detections(roi, output, image_size, detections, coder)
    )(rois, outputs)
