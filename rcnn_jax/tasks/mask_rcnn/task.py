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

from rcnn_jax.models.backbones import frozen_layers
from rcnn_jax.models.mask_rcnn import MaskRcnn
from rcnn_jax.models.variables import initial_variables
from rcnn_jax.ops.losses import mask_cross_entropy
from rcnn_jax.ops.marker import staged
from rcnn_jax.ops.masks import mask_targets, select_class_masks
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
from rcnn_jax.tasks import two_stage
from rcnn_jax.tasks.task import LossTerms, TestSettings, Variables

MASK_SHARE = 32
"""Rois of an image the mask head takes at a time in training."""


@dataclass(frozen=True, kw_only=True)
class MaskRcnnTask:
    """The Mask R-CNN algorithm over its model; see `tasks.task.Task` for the methods.

    Attributes:
      model: the Linen module; its `include_mask` decides whether there are masks.
      class_names: names, background excluded.
      unused_classes: classes that stand for no category: never predicted.
      pixels: how images become network values.
      settings: numbers of the two-stage algorithm.
      loss_weight_pairs: (name, weight) of rpn_class, rpn_box, class, box and, with masks, mask.
      freeze_blocks: backbone blocks that keep their values.
      mutable: collections that a training step may change.
    """

    model: MaskRcnn
    class_names: tuple[str, ...]
    unused_classes: tuple[int, ...] = ()
    pixels: PixelSettings
    settings: two_stage.TwoStageSettings
    loss_weight_pairs: tuple[tuple[str, float], ...]
    freeze_blocks: tuple[int, ...] = ()
    mutable: tuple[str, ...] = ("batch_stats",)

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weights of the loss terms by name."""
        return dict(self.loss_weight_pairs)

    def is_backbone(self, layer: str) -> bool:
        """Says whether the layer belongs to the backbone, its tail included."""
        return layer.startswith(("conv1", "bn_conv1", "block_"))

    def is_frozen(self, layer: str) -> bool:
        """Says whether `freeze_blocks` holds the block of the layer."""
        return frozen_layers(self.model.arch, self.freeze_blocks)(layer)

    def init(self, key: jax.Array) -> Variables:
        """Returns fresh variables."""
        return initial_variables(self.model, key, self.pixels.channels)

    def losses(
        self, variables: Variables, batch: Batch, keys: jax.Array
    ) -> tuple[LossTerms, Variables]:
        """Returns the loss terms and the new values of the `mutable` collections."""
        run = nn.apply(self._losses, self.model, mutable=list(self.mutable))
        return run(variables, batch, keys)

    def predict(
        self, variables: Variables, images: Array, test: TestSettings
    ) -> tuple[Detections, Proposals]:
        """Returns detections, with masks if the model has them, and proposals, on the canvas."""
        return nn.apply(self._predict, self.model)(variables, images, test)

    def predict_planes(
        self, variables: Variables, images: Array, test: TestSettings
    ) -> tuple[Detections, jax.Array | None]:
        """Returns detections without masks, and the mask logits f32[b d o o n] of every class.

        DeepStream picks the plane of the class itself. None stands for a model without masks.
        """
        return nn.apply(self._predict_planes, self.model)(variables, images, test)

    def _losses(self, model: MaskRcnn, batch: Batch, keys: jax.Array) -> LossTerms:
        assert batch.gt is not None
        rpn_keys, roi_keys = jax.vmap(lambda key: tuple(jax.random.split(key, 2)))(keys)
        image_size = jnp.asarray(batch.image_size)
        features = model.extract(two_stage.normalize(batch.images, self.pixels), train=True)
        rpn = model.rpn(features)
        anchors = two_stage.level_anchors(rpn, self.settings)
        targets = two_stage.assign_rpn(rpn_keys, anchors, batch.gt, image_size, self.settings)
        terms = two_stage.rpn_losses(rpn, targets, self.settings)

        proposals = two_stage.propose(
            rpn, anchors, image_size, self.settings.train_proposals, self.settings.rpn_coder
        )
        rois = two_stage.sample_rois(
            roi_keys, proposals, batch.gt, len(self.class_names), self.settings
        )
        crops = self._crops(features, rois.boxes, self.settings.roi_size)
        terms |= two_stage.box_losses(model.classify(crops, train=True), rois, self.settings)
        if model.include_mask:
            terms["mask"] = self._mask_loss(model, features, rois, batch.gt)
        return terms

    def _predict(
        self, model: MaskRcnn, images: Array, test: TestSettings
    ) -> tuple[Detections, Proposals]:
        features, detections, proposals = self._detect(model, images, test)
        if model.include_mask:
            detections = detections.replace(masks=self._masks(model, features, detections))
        return detections, proposals

    def _predict_planes(
        self, model: MaskRcnn, images: Array, test: TestSettings
    ) -> tuple[Detections, jax.Array | None]:
        features, detections, _ = self._detect(model, images, test)
        if not model.include_mask:
            return detections, None
        crops = self._crops(features, jnp.asarray(detections.boxes), model.mask_crop_size)
        return detections, model.segment(crops)

    def _detect(
        self, model: MaskRcnn, images: Array, test: TestSettings
    ) -> tuple[Levels, Detections, Proposals]:
        """Returns the features, the detections without masks, and the proposals."""
        size = two_stage.canvas_size(images)
        features = model.extract(two_stage.normalize(images, self.pixels), train=False)
        rpn = model.rpn(features)
        proposals = two_stage.propose(
            rpn,
            two_stage.level_anchors(rpn, self.settings),
            jnp.broadcast_to(size, (images.shape[0], 2)),
            test.proposals,
            self.settings.rpn_coder,
        )
        crops = self._crops(features, proposals.boxes, self.settings.roi_size)
        outputs = self._used(model.classify(crops, train=False))
        detections = two_stage.detect(
            proposals, outputs, size, test.detections, self.settings.box_coder
        )
        return features, detections, proposals

    def _mask_loss(
        self, model: MaskRcnn, features: Levels, rois: RoiTargets, gt: GroundTruth
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the cross-entropy of the masks of foreground rois, the first ones of all.

        The head runs on a share of rois at a time, and not at all on one that is all background.
        """
        sampling = self.settings.roi_sampling
        most = int(sampling.batch_per_image * sampling.foreground_fraction)
        boxes, gt_index, foreground = (
            leaf[:, :most] for leaf in (rois.boxes, rois.gt_index, rois.foreground)
        )
        classes = jnp.where(foreground, rois.classes[:, :most], 0)
        crops = self._crops(features, boxes, model.mask_crop_size)
        targets = jax.vmap(staged(mask_targets), in_axes=(0, 0, 0, 0, None))(
            gt.masks, jnp.asarray(gt.boxes), boxes, gt_index, 2 * model.mask_crop_size
        )
        rows = (crops, classes, targets, foreground.astype(jnp.float32))
        total = count = jnp.float32(0.0)
        for begin in range(0, most, MASK_SHARE):
            share = tuple(leaf[:, begin : begin + MASK_SHARE] for leaf in rows)
            terms = nn.cond(share[-1].any(), _mask_terms, _no_mask_terms, model, *share)
            total, count = total + terms[0], count + terms[1]
        return total, count

    def _masks(self, model: MaskRcnn, features: Levels, found: Detections) -> jax.Array:
        crops = self._crops(features, jnp.asarray(found.boxes), model.mask_crop_size)
        return jax.nn.sigmoid(_class_logits(model, crops, jnp.asarray(found.classes)))

    def _crops(self, features: Levels, boxes: jax.Array, side: int) -> jax.Array:
        settings = self.settings
        return two_stage.pool(features, boxes, side, settings.roi_levels, settings.roi_aligned)

    def _used(self, outputs: BoxOutputs) -> BoxOutputs:
        """Returns outputs in which classes without a category have probability 0."""
        if not self.unused_classes:
            return outputs
        unused = jnp.isin(jnp.arange(len(self.class_names) + 1), jnp.asarray(self.unused_classes))
        return outputs.replace(logits=jnp.where(unused, -jnp.inf, outputs.logits))


def _class_logits(model: MaskRcnn, crops: jax.Array, classes: jax.Array) -> jax.Array:
    """Returns the mask logits f32[b r o o] of crops [b r s s c] for one class each, i32[b r]."""
    return jax.vmap(select_class_masks)(model.segment(crops), classes)


def _mask_terms(
    model: MaskRcnn, crops: jax.Array, classes: jax.Array, targets: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the (sum, count) of crops [b r s s c] with targets [b r o o] and weights [b r]."""
    return staged(mask_cross_entropy)(_class_logits(model, crops, classes), targets, weights)


def _no_mask_terms(*_: object) -> tuple[jax.Array, jax.Array]:
    return jnp.float32(0.0), jnp.float32(0.0)
