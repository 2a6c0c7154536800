"""Faster R-CNN: one stride-16 feature map, one pooled crop per roi, a convolutional tail as box head.

Source: Ren et al. 2015 (arXiv:1506.01497) in the form of TAO's network.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax

from rcnn_jax.models.backbones import find_backbone, frozen_layers
from rcnn_jax.models.faster_rcnn import FasterRcnn
from rcnn_jax.models.variables import initial_variables
from rcnn_jax.settings.network import PixelSettings
from rcnn_jax.structures import Array, Batch, Detections, GroundTruth, Levels, Proposals
from rcnn_jax.tasks import recipe
from rcnn_jax.tasks.task import TestSettings, Variables
from rcnn_jax.tasks.two_stage import LossTerms, TwoStageSettings


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
    settings: TwoStageSettings
    loss_weight_pairs: tuple[tuple[str, float], ...]
    mutable: tuple[str, ...] = ("batch_stats",)

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weights of the loss terms by name."""
        return dict(self.loss_weight_pairs)

    def is_backbone(self, layer: str) -> bool:
        """Returns whether the layer belongs to the backbone, its tail included."""
        # What is not a head: the names of layers differ by backbone, those of the heads do not.
        return not layer.startswith(("rpn_", "dense_"))

    def block_of(self, layer: str) -> int | None:
        """Returns the number of the layer's block, counted from the image; None outside the backbone."""
        return find_backbone(self.model.arch).block_of(layer) if self.is_backbone(layer) else None

    def is_frozen(self, layer: str) -> bool:
        """Returns whether `freeze_blocks` holds the block of the layer."""
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

    def predict_planes(
        self, variables: Variables, images: Array, test: TestSettings
    ) -> tuple[Detections, None]:
        """Returns detections; there are no masks."""
        return self.predict(variables, images, test)[0], None

    def _losses(self, model: FasterRcnn, batch: Batch, image_keys: jax.Array) -> LossTerms:
        # Also for backbones without dropout: the samples of anchors must not depend on the arch.
        keys = recipe.split_keys(image_keys, dropout=True)

        def heads(features: Levels, proposals: Proposals, gt: GroundTruth) -> LossTerms:
            classes, settings = len(self.class_names), self.settings
            return recipe.box_terms(model, features, proposals, gt, keys, classes, settings)[0]

        return recipe.training_terms(model, batch, keys, self.pixels, self.settings, heads)

    def _predict(
        self, model: FasterRcnn, images: Array, test: TestSettings
    ) -> tuple[Detections, Proposals]:
        def heads(features: Levels, proposals: Proposals, size: jax.Array) -> Detections:
            return recipe.box_detections(model, features, proposals, size, self.settings, test)

        return recipe.prediction(model, images, self.pixels, self.settings, test, heads)
