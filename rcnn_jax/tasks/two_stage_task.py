"""The common part of both detectors: a model, its settings, and its pure functions over variables."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax

from rcnn_jax.models.backbones import find_backbone, frozen_layers
from rcnn_jax.models.variables import initial_variables
from rcnn_jax.settings.network import PixelSettings
from rcnn_jax.structures import Array, Batch, Detections, Proposals
from rcnn_jax.tasks import dynamic_thresholds
from rcnn_jax.tasks.distillation import Lesson
from rcnn_jax.tasks.task import TestSettings, Variables
from rcnn_jax.tasks.two_stage import LossTerms, TwoStageSettings


@dataclass(frozen=True, kw_only=True)
class TwoStageTask(ABC):
    """A two-stage detector over its model; see `tasks.task.Task` for the methods.

    A detector adds what stands behind the proposals: `_losses` and `_predict` over a bound model.

    Attributes:
      model: the Linen module.
      class_names: names, background excluded.
      pixels: how images become network values.
      settings: numbers of the two-stage algorithm.
      loss_weight_pairs: (name, weight) of the loss terms, in the order of the logs.
      mutable: collections that a training step may change, without the `training_collections`.
    """

    model: Any
    class_names: tuple[str, ...]
    pixels: PixelSettings
    settings: TwoStageSettings
    loss_weight_pairs: tuple[tuple[str, float], ...]
    mutable: tuple[str, ...] = ("batch_stats",)

    @property
    def masks(self) -> bool:
        """Whether objects have masks too."""
        return False

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weights of the loss terms by name."""
        return dict(self.loss_weight_pairs)

    @abstractmethod
    def is_backbone(self, layer: str) -> bool:
        """Returns whether the layer belongs to the backbone."""

    def block_of(self, layer: str) -> int | None:
        """Returns the number of the layer's block, counted from the image; None outside the backbone."""
        return find_backbone(self.model.arch).block_of(layer) if self.is_backbone(layer) else None

    def is_frozen(self, layer: str) -> bool:
        """Returns whether `freeze_blocks` holds the block of the layer."""
        # The model's own: its batch norm keeps the statistics of exactly these blocks.
        return frozen_layers(self.model.arch, self.model.freeze_blocks)(layer)

    def init(self, key: jax.Array) -> Variables:
        """Returns fresh variables."""
        return initial_variables(self.model, key, self.pixels.channels)

    def training_collections(self) -> Variables:
        """Returns the collections that only training reads, as they are before the first step."""
        if self.settings.dynamic is None:
            return {}
        return {dynamic_thresholds.COLLECTION: dynamic_thresholds.initial(self.settings)}

    def losses(
        self, variables: Variables, batch: Batch, keys: jax.Array, lesson: Lesson | None = None
    ) -> tuple[LossTerms, Variables]:
        """Returns the loss terms and the new values of the `mutable` collections."""
        changing = [*self.mutable, *self.training_collections()]
        run = nn.apply(self._losses, self.model, mutable=changing)
        return run(variables, batch, keys, lesson)

    def predict(
        self, variables: Variables, images: Array, test: TestSettings
    ) -> tuple[Detections, Proposals]:
        """Returns detections, with masks if the model has them, and proposals, on the canvas."""
        return nn.apply(self._predict, self.model)(variables, images, test)

    @abstractmethod
    def _losses(
        self, model: Any, batch: Batch, image_keys: jax.Array, lesson: Lesson | None
    ) -> LossTerms:
        """Returns the loss terms of a bound model."""

    @abstractmethod
    def _predict(
        self, model: Any, images: Array, test: TestSettings
    ) -> tuple[Detections, Proposals]:
        """Returns detections and proposals of a bound model."""
