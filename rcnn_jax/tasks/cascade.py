"""Cascade heads: box heads one after the other, each on the boxes of the one before.

    proposals -> sampled at IoU 0.5 -> head 1 -> boxes -> matched at 0.6 -> head 2 -> boxes -> ... head n

    prediction: proposals -> head 1 -> boxes -> head 2 -> ... -> boxes of the last, mean of all scores

A head that is trained at an overlap refines boxes of that overlap best, and one head cannot be trained
at a high one from the start: few proposals reach it. Heads of a cascade share no weights, move a box
whatever its class, and each divides the unit of its deltas again, as they get smaller.

Source: Cai and Vasconcelos, Cascade R-CNN, 2017 (arXiv:1712.00726), sections 4 and 5.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from rcnn_jax.models.mask_rcnn import MaskRcnn
from rcnn_jax.ops.box_coder import BoxCoder
from rcnn_jax.ops.boxes import clip
from rcnn_jax.ops.marker import staged
from rcnn_jax.ops.targets import matched_rois
from rcnn_jax.structures import (
    Array,
    BoxOutputs,
    Detections,
    GroundTruth,
    Levels,
    Proposals,
    RoiTargets,
)
from rcnn_jax.tasks import recipe, two_stage
from rcnn_jax.tasks.distillation import Lesson
from rcnn_jax.tasks.recipe import Keys
from rcnn_jax.tasks.task import TestSettings
from rcnn_jax.tasks.two_stage import LossTerms, TwoStageSettings


def head_settings(settings: TwoStageSettings, head: int) -> TwoStageSettings:
    """Returns the settings of a head: its overlap, and deltas in a finer unit from head to head.

    Args:
      settings: with `cascade_overlaps`.
      head: from 0 on.
    """
    overlap = settings.cascade_overlaps[head]
    sampling = dataclasses.replace(
        settings.roi_sampling, foreground_overlap=overlap, background_high=overlap
    )
    coder = settings.box_coder
    y, x, height, width = (weight * (head + 1) for weight in coder.weights)
    return dataclasses.replace(
        settings,
        roi_sampling=sampling,
        box_coder=BoxCoder(weights=(y, x, height, width), max_log_size=coder.max_log_size),
    )


def loss_name(term: str, head: int) -> str:
    """Returns the name of a term of a head: `box`, `box_2`, `box_3`."""
    return f"{term}_{head + 1}" if head else term


def cascade_terms(
    model: MaskRcnn,
    features: Levels,
    proposals: Proposals,
    gt: GroundTruth,
    image_size: Array,
    keys: Keys,
    num_classes: int,
    settings: TwoStageSettings,
    lesson: Lesson | None = None,
) -> tuple[LossTerms, RoiTargets]:
    """Returns the terms of all heads, and the rois of the first one, which a mask head is trained on.

    Args:
      model: bound.
      features: of the batch.
      proposals: of the RPN.
      gt: of the batch.
      image_size: f32[b 2] that boxes are clipped to.
      keys: of `recipe.split_keys`.
      num_classes: without background.
      settings: with `cascade_overlaps`.
      lesson: of a teacher, which is compared with the first head.
    """
    own = head_settings(settings, 0)
    terms, outputs, first = recipe.head_terms(
        model, features, proposals, gt, keys, num_classes, own, lesson
    )
    rois = first
    for head in range(1, len(settings.cascade_overlaps)):
        boxes = refined(rois.boxes, outputs, jnp.asarray(image_size), own.box_coder)
        own = head_settings(settings, head)
        rois = match(boxes, rois.valid, gt, num_classes, own)
        crops = recipe.roi_crops(features, rois.boxes, own.roi_size, own)
        outputs = model.classify(crops, train=True, valid=jnp.asarray(rois.valid), head=head)
        for name, term in two_stage.box_losses(outputs, rois, own).items():
            terms[loss_name(name, head)] = term
    return terms, first


def cascade_detections(
    model: MaskRcnn,
    features: Levels,
    proposals: Proposals,
    size: jax.Array,
    settings: TwoStageSettings,
    test: TestSettings,
    unused_classes: tuple[int, ...] = (),
) -> Detections:
    """Returns the detections of the last head, with the mean of the scores of all heads.

    Args:
      model: bound.
      features: of the images.
      proposals: of the RPN.
      size: (height, width) of the canvas.
      settings: with `cascade_overlaps`.
      test: counts and thresholds.
      unused_classes: have probability 0.
    """
    heads = len(settings.cascade_overlaps)
    total = jnp.float32(0.0)
    for head in range(heads):
        own = head_settings(settings, head)
        crops = recipe.roi_crops(features, proposals.boxes, own.roi_size, own)
        outputs = recipe.used(model.classify(crops, train=False, head=head), unused_classes)
        total += jax.nn.softmax(outputs.logits, axis=-1)
        if head == heads - 1:
            # `detect` takes the softmax of logits; that of a logarithm is what it was before.
            mean = outputs.replace(logits=jnp.log(total / heads))
            return two_stage.detect(proposals, mean, size, test.detections, own.box_coder)
        boxes = refined(proposals.boxes, outputs, size, own.box_coder)
        proposals = proposals.replace(boxes=boxes)
    raise AssertionError("a cascade has heads")


@staged
def refined(boxes: Array, outputs: BoxOutputs, size: jax.Array, coder: BoxCoder) -> jax.Array:
    """Returns the boxes f32[b r 4] of a head, clipped; without a gradient.

    Args:
      boxes: f32[b r 4] that the head saw.
      outputs: of the head.
      size: (height, width), f32[2] or f32[b 2].
      coder: of the head.
    """
    # Every class has the same box, so that of the first one is it.
    deltas = jnp.squeeze(lax.slice_in_dim(jnp.asarray(outputs.deltas), 0, 1, axis=2), 2)
    moved = coder.decode(boxes, deltas)
    if size.ndim == 1:
        return lax.stop_gradient(clip(moved, size))
    return lax.stop_gradient(jax.vmap(clip)(moved, size))


@staged
def match(
    boxes: jax.Array, valid: Array, gt: GroundTruth, num_classes: int, settings: TwoStageSettings
) -> RoiTargets:
    """Returns all boxes f32[b r 4] as rois with targets: nothing is sampled again."""
    return jax.vmap(
        lambda own, usable, truth: matched_rois(
            own, usable, truth, settings.roi_sampling, num_classes, settings.box_coder
        )
    )(boxes, jnp.asarray(valid), gt.replace(masks=None))
