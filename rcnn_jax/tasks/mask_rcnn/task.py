"""Mask R-CNN: a feature pyramid, a dense box head, and a mask per detected box.

    train:   features -> rpn -> sampled rois -> boxes;  foreground rois -> masks of the true class
    predict: features -> rpn -> proposals -> detections -> masks of the detected boxes

Source: He et al. 2017 (arXiv:1703.06870), Lin et al. 2017 (arXiv:1612.03144) in the form of TAO's
network (docs/reference/mask_rcnn.md, "Network"). Without masks it is a Faster R-CNN on a feature
pyramid.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from rcnn_jax.models.mask_rcnn import MaskRcnn
from rcnn_jax.ops.chunked_loss import chunked_loss
from rcnn_jax.ops.losses import mask_cross_entropy
from rcnn_jax.ops.marker import staged
from rcnn_jax.ops.masks import mask_targets, select_class_masks
from rcnn_jax.structures import (
    Array,
    Batch,
    Detections,
    GroundTruth,
    Levels,
    Proposals,
    RoiTargets,
)
from rcnn_jax.tasks import cascade, recipe
from rcnn_jax.tasks.distillation import Lesson
from rcnn_jax.tasks.task import TestSettings, Variables
from rcnn_jax.tasks.two_stage import LossTerms
from rcnn_jax.tasks.two_stage_task import TwoStageTask
from rcnn_jax.tasks.views import predict_views

MASK_CHUNK = 32
"""Rois of an image that the mask head takes at a time in training.

Foreground comes first, so an image with few objects runs one chunk of several.
"""


@dataclass(frozen=True, kw_only=True)
class MaskRcnnTask(TwoStageTask):
    """The Mask R-CNN algorithm over its model.

    Its loss terms are rpn_class, rpn_box, class, box and, with masks, mask; the model's `include_mask`
    decides whether there are masks.

    Attributes:
      unused_classes: classes that stand for no category: never predicted.
    """

    model: MaskRcnn
    unused_classes: tuple[int, ...] = ()

    @property
    def masks(self) -> bool:
        """Whether objects have masks too."""
        return self.model.include_mask

    def is_backbone(self, layer: str) -> bool:
        """Returns whether the layer belongs to the backbone."""
        return layer.startswith(("conv1", "bn_conv1", "block_"))

    def predict_planes(
        self, variables: Variables, images: Array, test: TestSettings
    ) -> tuple[Detections, jax.Array | None]:
        """Returns detections without masks, and the mask logits of every class or None."""
        return nn.apply(self._predict_planes, self.model)(variables, images, test)

    def _losses(
        self, model: MaskRcnn, batch: Batch, image_keys: jax.Array, lesson: Lesson | None
    ) -> LossTerms:
        keys = recipe.split_keys(image_keys, dropout=False)

        def heads(features: Levels, proposals: Proposals, gt: GroundTruth) -> LossTerms:
            classes, settings = len(self.class_names), self.settings
            if settings.cascade_overlaps:
                terms, rois = cascade.cascade_terms(
                    model,
                    features,
                    proposals,
                    gt,
                    batch.image_size,
                    keys,
                    classes,
                    settings,
                    lesson,
                )
            else:
                terms, rois = recipe.box_terms(
                    model, features, proposals, gt, keys, classes, settings, lesson
                )
            if model.include_mask:
                terms["mask"] = self._mask_loss(model, features, rois, gt)
            return terms

        return recipe.training_terms(model, batch, keys, self.pixels, self.settings, heads, lesson)

    def _predict(
        self, model: MaskRcnn, images: Array, test: TestSettings
    ) -> tuple[Detections, Proposals]:
        if test.views is not None:
            return self._predict_views(model, images, test)

        def heads(features: Levels, proposals: Proposals, size: jax.Array) -> Detections:
            # Masks of the detections, not of the proposals: a hundred crops instead of a thousand,
            # and each from the box it is shown in.
            detections = self._boxes(model, features, proposals, size, test)
            if model.include_mask:
                detections = detections.replace(masks=self._masks(model, features, detections))
            return detections

        return recipe.prediction(model, images, self.pixels, self.settings, test, heads)

    def _predict_views(
        self, model: MaskRcnn, images: Array, test: TestSettings
    ) -> tuple[Detections, Proposals]:
        def boxes(features: Levels, proposals: Proposals, size: jax.Array) -> Detections:
            return self._boxes(model, features, proposals, size, test)

        def masks(features: Levels, detections: Detections) -> jax.Array:
            return self._masks(model, features, detections)

        return predict_views(
            model,
            images,
            self.pixels,
            self.settings,
            test,
            len(self.class_names),
            boxes,
            masks if model.include_mask else None,
        )

    def _predict_planes(
        self, model: MaskRcnn, images: Array, test: TestSettings
    ) -> tuple[Detections, jax.Array | None]:
        def heads(
            features: Levels, proposals: Proposals, size: jax.Array
        ) -> tuple[Detections, jax.Array | None]:
            detections = self._boxes(model, features, proposals, size, test)
            if not model.include_mask:
                return detections, None
            crops = self._crops(features, jnp.asarray(detections.boxes), model.mask_crop_size)
            return detections, model.segment(crops)

        return recipe.prediction(model, images, self.pixels, self.settings, test, heads)[0]

    def _boxes(
        self,
        model: MaskRcnn,
        features: Levels,
        proposals: Proposals,
        size: jax.Array,
        test: TestSettings,
    ) -> Detections:
        detections = recipe.box_detections
        if self.settings.cascade_overlaps:
            detections = cascade.cascade_detections
        return detections(
            model, features, proposals, size, self.settings, test, self.unused_classes
        )

    def _mask_loss(
        self, model: MaskRcnn, features: Levels, rois: RoiTargets, gt: GroundTruth
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the cross-entropy of the masks of foreground rois, the first ones of all.

        The head runs on a chunk of rois at a time, up to the last one with foreground. One whose batch
        norm is trained runs on all at once: its statistics are those of the whole batch, and devices
        that average them must not take different branches. So does one in float16, whose gradients need
        the scale of the whole loss.
        """
        sampling = self.settings.roi_sampling
        # Static, and enough: foreground comes first among the rois, and there is no more of it.
        most = int(sampling.batch_per_image * sampling.foreground_fraction)
        boxes, gt_index, foreground = (
            leaf[:, :most] for leaf in (rois.boxes, rois.gt_index, rois.foreground)
        )
        # Background is class n, for which the head has no plane; the weight of these rois is 0.
        classes = jnp.where(foreground, rois.classes[:, :most], 0)
        crops = self._crops(features, boxes, model.mask_crop_size)
        targets = jax.vmap(staged(mask_targets), in_axes=(0, 0, 0, 0, None))(
            gt.masks, jnp.asarray(gt.boxes), boxes, gt_index, 2 * model.mask_crop_size
        )
        rows = (crops, classes, targets, foreground.astype(jnp.float32))
        if model.has_moving_heads or model.dtype == jnp.float16:
            return _mask_terms(model, *rows)
        # Unbound, because Linen's own scope does not survive a loop whose gradient is made inside.
        head, variables = model.unbind()

        def loss(*chunk: jax.Array) -> jax.Array:
            return head.apply(variables, *chunk, method=_mask_terms)[0]

        crops, *others, weights = rows
        total = chunked_loss(loss, MASK_CHUNK, crops, tuple(others), weights)
        # Not from the loop: where only counts are asked for, the head need not run.
        return total, jnp.sum(weights) * targets[0, 0].size

    def _masks(self, model: MaskRcnn, features: Levels, detections: Detections) -> jax.Array:
        crops = self._crops(features, jnp.asarray(detections.boxes), model.mask_crop_size)
        # The plane is chosen before the sigmoid: one of n planes instead of all.
        return jax.nn.sigmoid(_class_logits(model, crops, jnp.asarray(detections.classes)))

    def _crops(self, features: Levels, boxes: jax.Array, side: int) -> jax.Array:
        return recipe.roi_crops(features, boxes, side, self.settings)


def _class_logits(
    model: MaskRcnn, crops: jax.Array, classes: jax.Array, trained: jax.Array | None = None
) -> jax.Array:
    """Returns the mask logits f32[b r o o] of crops [b r s s c] for one class each, i32[b r].

    Args:
      model: bound.
      crops: of the features.
      classes: whose logits.
      trained: in training, bool[b r], rois that count in batch statistics.
    """
    logits = model.segment(crops, train=trained is not None, valid=trained)
    return jax.vmap(select_class_masks)(logits, classes)


def _mask_terms(
    model: MaskRcnn, crops: jax.Array, classes: jax.Array, targets: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the (sum, count) of crops [b r s s c] with targets [b r o o] and weights [b r]."""
    trained = weights > 0 if model.has_moving_heads else None
    logits = _class_logits(model, crops, classes, trained)
    return staged(mask_cross_entropy)(logits, targets, weights)
