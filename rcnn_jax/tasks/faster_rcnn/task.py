"""Faster R-CNN: one stride-16 feature map, one pooled crop per roi, a convolutional tail as box head.

Source: Ren et al. 2015 (arXiv:1506.01497) in the form of TAO's network.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from rcnn_jax.models.backbones import frozen_layers
from rcnn_jax.models.faster_rcnn import FasterRcnn
from rcnn_jax.models.variables import initial_variables
from rcnn_jax.settings.network import PixelSettings
from rcnn_jax.structures import Array, Batch, Detections, Proposals
from rcnn_jax.tasks import two_stage
from rcnn_jax.tasks.task import LossTerms, TestSettings, Variables


@dataclass(frozen=True, kw_only=True)
class FasterRcnnTask:
    """The Faster R-CNN algorithm over its model; see `tasks.task.Task` for the methods.

    Attributes:
      model: the Linen module.
      class_names: sorted names, background excluded.
      pixels: how images become network values.
      settings: numbers of the two-stage algorithm.
      loss_weight_pairs: (name, weight) of rpn_class, rpn_box, class, box.
      mutable: collections that a training step may change.
    """

    model: FasterRcnn
    class_names: tuple[str, ...]
    pixels: PixelSettings
    settings: two_stage.TwoStageSettings
    loss_weight_pairs: tuple[tuple[str, float], ...]
    mutable: tuple[str, ...] = ("batch_stats",)

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weights of the loss terms by name."""
        return dict(self.loss_weight_pairs)

    def is_backbone(self, layer: str) -> bool:
        """Says whether the layer belongs to the backbone, its tail included."""
        return not layer.startswith(("rpn_", "dense_"))

    def is_frozen(self, layer: str) -> bool:
        """Says whether `freeze_blocks` holds the block of the layer."""
        return frozen_layers(self.model.arch, self.model.freeze_blocks)(layer)

    def init(self, key: jax.Array) -> Variables:
        """Returns fresh variables."""
        return initial_variables(self.model, key, self.pixels.channels)

    def losses(
        self, variables: Variables, batch: Batch, keys: jax.Array
    ) -> tuple[LossTerms, Variables]:
        """Returns the four loss terms and the new values of the `mutable` collections."""
        run = nn.apply(self._losses, self.model, mutable=list(self.mutable))
        return run(variables, batch, keys)

    def predict(
        self, variables: Variables, images: Array, test: TestSettings
    ) -> tuple[Detections, Proposals]:
        """Returns detections and proposals in pixels of the canvas."""
        return nn.apply(self._predict, self.model)(variables, images, test)

    def _losses(self, model: FasterRcnn, batch: Batch, keys: jax.Array) -> LossTerms:
        assert batch.gt is not None
        rpn_keys, roi_keys, dropout_keys = jax.vmap(lambda key: tuple(jax.random.split(key, 3)))(
            keys
        )
        images = two_stage.normalize(batch.images, self.pixels)
        features = model.extract(images, train=True, dropout_keys=dropout_keys)
        rpn = model.rpn(features)
        anchors = two_stage.level_anchors(rpn, self.settings)
        targets = two_stage.assign_rpn(
            rpn_keys, anchors, batch.gt, jnp.asarray(batch.image_size), self.settings
        )
        terms = two_stage.rpn_losses(rpn, targets, self.settings)

        proposals = two_stage.propose(
            *two_stage.proposing(rpn, anchors, batch.images.shape[1:3], self.settings),
            jnp.asarray(batch.image_size),
            self.settings.train_proposals,
            self.settings.rpn_coder,
        )
        rois = two_stage.sample_rois(
            roi_keys, proposals, batch.gt, len(self.class_names), self.settings
        )
        crops = two_stage.pool(
            features, rois.boxes, self.settings.roi_size, self.settings.roi_levels
        )
        outputs = model.classify(crops, train=True, dropout_keys=dropout_keys)
        return {**terms, **two_stage.box_losses(outputs, rois, self.settings)}

    def _predict(
        self, model: FasterRcnn, images: Array, test: TestSettings
    ) -> tuple[Detections, Proposals]:
        size = two_stage.canvas_size(images)
        features = model.extract(two_stage.normalize(images, self.pixels), train=False)
        rpn = model.rpn(features)
        anchors = two_stage.level_anchors(rpn, self.settings)
        proposals = two_stage.propose(
            *two_stage.proposing(rpn, anchors, images.shape[1:3], self.settings),
            jnp.broadcast_to(size, (images.shape[0], 2)),
            test.proposals,
            self.settings.rpn_coder,
        )
        crops = two_stage.pool(
            features, proposals.boxes, self.settings.roi_size, self.settings.roi_levels
        )
        outputs = model.classify(crops, train=False)
        detections = two_stage.detect(
            proposals, outputs, size, test.detections, self.settings.box_coder
        )
        return detections, proposals
