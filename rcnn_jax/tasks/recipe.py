"""The recipe of a two-stage detector: how losses and detections follow from the stages of a network.

    training    images -> features -> rpn -> terms of the rpn;  proposals -> heads -> their terms
    prediction  images -> features -> rpn -> proposals -> heads -> detections

The first stage is the same in every detector. What comes behind the proposals is an argument: `heads`
gets the features and the proposals. One box head is `box_terms` and `box_detections`; a mask head adds
to them, and `tasks/cascade.py` has heads of its own.

The order of the operations is part of the result: another one is another program, whose last bits
differ, and runs that are resumed would no longer go on bit for bit.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from rcnn_jax.models.network import Network
from rcnn_jax.settings.network import PixelSettings
from rcnn_jax.structures import (
    Array,
    Batch,
    BoxOutputs,
    Detections,
    GroundTruth,
    Levels,
    Proposals,
    RoiTargets,
)
from rcnn_jax.tasks import dynamic_thresholds, two_stage
from rcnn_jax.tasks.distillation import Lesson, class_term, feature_term
from rcnn_jax.tasks.task import TestSettings
from rcnn_jax.tasks.two_stage import LossTerms, TwoStageSettings

HeadOutputs = TypeVar("HeadOutputs")


class Keys(NamedTuple):
    """Random keys of a step, one per image each, [b].

    Attributes:
      rpn: samples anchors.
      rois: samples proposals.
      dropout: of the network; None where nothing drops.
    """

    rpn: jax.Array
    rois: jax.Array
    dropout: jax.Array | None = None


def split_keys(keys: jax.Array, *, dropout: bool) -> Keys:
    """Returns the keys of a step from one per image.

    Args:
      keys: [b].
      dropout: with keys for the network.
    """
    # No spare key where nothing drops: `split` does not promise that two keys are the first two of
    # three, and runs that are resumed must go on bit for bit.
    return Keys(*jax.vmap(lambda key: tuple(jax.random.split(key, 3 if dropout else 2)))(keys))


def training_terms(
    network: Network,
    batch: Batch,
    keys: Keys,
    pixels: PixelSettings,
    settings: TwoStageSettings,
    heads: Callable[[Levels, Proposals, GroundTruth], LossTerms],
    lesson: Lesson | None = None,
) -> LossTerms:
    """Returns the loss terms of a batch: those of the RPN, then those of the heads.

    Args:
      network: bound, so that its statistics may change.
      batch: training images with ground truth.
      keys: of `split_keys`.
      pixels: how images become network values.
      settings: numbers of the algorithm.
      heads: features, proposals and ground truth -> terms.
      lesson: of a teacher, on the images of the batch.
    """
    assert batch.gt is not None
    # Proposals of training are clipped to the image, not to the canvas: objects end there, and
    # boxes in the padding would be background of no use.
    image_size = jnp.asarray(batch.image_size)
    images = two_stage.normalize(batch.images, pixels)
    features = _remat(network, _extract)(network, images, keys.dropout)
    rpn = network.rpn(features)
    anchors = two_stage.level_anchors(rpn, settings)
    targets = two_stage.assign_rpn(keys.rpn, anchors, batch.gt, image_size, settings)
    terms = two_stage.rpn_losses(rpn, anchors, targets, settings)
    proposals = two_stage.propose(
        *two_stage.proposing(rpn, anchors, batch.images.shape[1:3], settings),
        image_size,
        settings.train_proposals,
        settings.rpn_coder,
    )
    if lesson is not None:
        terms |= feature_term(lesson, features)
    return terms | heads(features, proposals, batch.gt)


def box_terms(
    network: Network,
    features: Levels,
    proposals: Proposals,
    gt: GroundTruth,
    keys: Keys,
    num_classes: int,
    settings: TwoStageSettings,
    lesson: Lesson | None = None,
) -> tuple[LossTerms, RoiTargets]:
    """Returns the terms of one box head, and the rois it was trained on; arguments of `head_terms`."""
    terms, _, rois = head_terms(
        network, features, proposals, gt, keys, num_classes, settings, lesson
    )
    return terms, rois


def head_terms(
    network: Network,
    features: Levels,
    proposals: Proposals,
    gt: GroundTruth,
    keys: Keys,
    num_classes: int,
    settings: TwoStageSettings,
    lesson: Lesson | None = None,
) -> tuple[LossTerms, BoxOutputs, RoiTargets]:
    """Returns the terms of a box head, its outputs, and the rois it was trained on.

    Args:
      network: bound.
      features: of the batch.
      proposals: of `training_terms`.
      gt: of the batch.
      keys: of `split_keys`.
      num_classes: without background.
      settings: numbers of the algorithm.
      lesson: of a teacher, on the images of the batch.
    """
    state = None
    if settings.dynamic is not None:
        state = dynamic_thresholds.read(network, settings)
        settings = dynamic_thresholds.applied(state, settings)
    rois = two_stage.sample_rois(keys.rois, proposals, gt, num_classes, settings)
    if state is not None and settings.dynamic is not None:
        dynamic_thresholds.record(network, state, proposals, gt, rois, settings.dynamic)
    crops = roi_crops(features, rois.boxes, settings.roi_size, settings)
    outputs = _remat(network, _classify)(network, crops, keys.dropout, jnp.asarray(rois.valid))
    terms = two_stage.box_losses(outputs, rois, settings)
    if lesson is not None:
        terms |= class_term(lesson, rois.boxes, outputs.logits, rois.valid)
    return terms, outputs, rois


def prediction(
    network: Network,
    images: Array,
    pixels: PixelSettings,
    settings: TwoStageSettings,
    test: TestSettings,
    heads: Callable[[Levels, Proposals, jax.Array], HeadOutputs],
) -> tuple[HeadOutputs, Proposals]:
    """Returns the output of the heads, and the proposals that they read.

    Args:
      network: bound.
      images: u8[b h w c] on the canvas.
      pixels: how images become network values.
      settings: numbers of the algorithm.
      test: counts and thresholds.
      heads: features, proposals and (height, width) f32[2] of the canvas -> detections.
    """
    size = two_stage.canvas_size(images)
    features = network.extract(two_stage.normalize(images, pixels), train=False)
    rpn = network.rpn(features)
    anchors = two_stage.level_anchors(rpn, settings)
    proposals = two_stage.propose(
        *two_stage.proposing(rpn, anchors, (images.shape[1], images.shape[2]), settings),
        # The canvas: an exported graph gets pixels only, and every backend must clip alike.
        jnp.broadcast_to(size, (images.shape[0], 2)),
        test.proposals,
        settings.rpn_coder,
    )
    return heads(features, proposals, size), proposals


def box_detections(
    network: Network,
    features: Levels,
    proposals: Proposals,
    size: jax.Array,
    settings: TwoStageSettings,
    test: TestSettings,
    unused_classes: tuple[int, ...] = (),
) -> Detections:
    """Returns the detections of one box head, without masks.

    Args:
      network: bound.
      features: of the images.
      proposals: of `prediction`.
      size: (height, width) of the canvas.
      settings: numbers of the algorithm.
      test: counts and thresholds.
      unused_classes: have probability 0.
    """
    crops = roi_crops(features, proposals.boxes, settings.roi_size, settings)
    outputs = used(network.classify(crops, train=False), unused_classes)
    return two_stage.detect(proposals, outputs, size, test.detections, settings.box_coder)


def roi_crops(features: Levels, boxes: Array, side: int, settings: TwoStageSettings) -> jax.Array:
    """Returns the crops [b r side side c] of boxes [b r 4], as the heads take them."""
    return two_stage.pool(features, jnp.asarray(boxes), side, settings)


def _extract(network: Network, images: jax.Array, keys: jax.Array | None) -> Levels:
    return network.extract(images, train=True, dropout_keys=keys)


def _classify(
    network: Network, crops: jax.Array, keys: jax.Array | None, valid: jax.Array
) -> BoxOutputs:
    return network.classify(crops, train=True, dropout_keys=keys, valid=valid)


def _remat(network: Network, stage: Callable[..., HeadOutputs]) -> Callable[..., HeadOutputs]:
    """Returns a stage that keeps, where the network says so, only tapped activations for its gradient.

    Taps stand behind activation functions. What lies between two of them, convolutions and batch norm,
    is computed once more: a forward pass of time for about half of the memory of activations.
    """
    if not network.remat:
        return stage

    def keeps(primitive: Any, *_: Any, **params: Any) -> bool:
        return primitive.name == "name"

    return nn.remat(stage, policy=keeps)


def used(outputs: BoxOutputs, unused_classes: tuple[int, ...]) -> BoxOutputs:
    """Returns outputs in which some classes have probability 0."""
    if not unused_classes:
        return outputs
    classes = jnp.arange(outputs.logits.shape[-1])
    # Ids of a data set may have gaps (COCO's 80 of 90): their outputs were never trained, and a
    # softmax would give them a part of the probability.
    unused = jnp.isin(classes, jnp.asarray(unused_classes))
    return outputs.replace(logits=jnp.where(unused, -jnp.inf, outputs.logits))
