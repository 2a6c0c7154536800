"""The task protocol: what a detector offers training, evaluation, inference and export.

A task holds the algorithm of one detector as pure functions over a bound Linen model. Loops, checkpoints
and commands know this protocol and nothing else of a detector.
"""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax

from rcnn_jax.models.network import Network
from rcnn_jax.settings.detection import DetectionSettings, ProposalSettings
from rcnn_jax.settings.network import PixelSettings
from rcnn_jax.settings.views import ViewSettings
from rcnn_jax.structures import Array, Batch, Detections, Proposals
from rcnn_jax.tasks.distillation import Lesson
from rcnn_jax.tasks.two_stage import LossTerms, TwoStageSettings

Variables = dict[str, Any]
"""Linen variables {collection: {layer: {leaf: array}}}: `params`, and `batch_stats` with batch norm."""

MAX_TEST_CANDIDATES = 5000
"""Largest pre-NMS count at test time on every backend; TensorRT's TopK bounds it."""


@dataclass(frozen=True, kw_only=True)
class TestSettings:
    """The numbers of prediction; evaluation and inference may differ in them.

    Attributes:
      proposals: from RPN outputs to rois.
      detections: from head outputs to detections.
      views: of an image that are looked at, besides itself; None for test time without augmentation.
    """

    __test__ = False  # the name is the field's word, not a pytest class

    proposals: ProposalSettings
    detections: DetectionSettings
    views: ViewSettings | None = None

    @property
    def of_one_view(self) -> "TestSettings":
        """The same without test-time augmentation: what graphs, their checks and traces look at."""
        return replace(self, views=None)


class Task(Protocol):
    """A detector as pure functions.

    Attributes:
      model: the Linen module with the stage methods.
      class_names: names of the classes, background excluded.
      masks: objects have masks too.
      pixels: how uint8 images become network values.
      loss_weights: weight of every loss term, by its name in the logs.
      settings: numbers of the two-stage algorithm, anchors among them.
      mutable: collections that `losses` may change besides the `training_collections`: the statistics of
        batch norm.
    """

    @property
    def model(self) -> Network: ...  # noqa: D102
    @property
    def class_names(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def masks(self) -> bool: ...  # noqa: D102
    @property
    def pixels(self) -> PixelSettings: ...  # noqa: D102
    @property
    def loss_weights(self) -> dict[str, float]: ...  # noqa: D102
    @property
    def settings(self) -> TwoStageSettings: ...  # noqa: D102
    @property
    def mutable(self) -> tuple[str, ...]: ...  # noqa: D102

    def init(self, key: jax.Array) -> Variables:
        """Returns fresh variables; they do not depend on the image size."""
        ...

    def training_collections(self) -> Variables:
        """Returns the collections that only training reads, as they are before the first step.

        They are part of the state of a run and of no model; `losses` may change them.
        """
        ...

    def losses(
        self, variables: Variables, batch: Batch, keys: jax.Array, lesson: Lesson | None = None
    ) -> tuple[LossTerms, Variables]:
        """Returns the loss terms of a batch and the collections that the forward pass changed.

        Args:
          variables: params and batch_stats.
          batch: training images with ground truth.
          keys: one key per image, [b]; all randomness of an image comes from its key.
          lesson: of a teacher on the images of the batch, which adds `distillation.TERMS`.
        """
        ...

    def predict(
        self, variables: Variables, images: Array, test: TestSettings
    ) -> tuple[Detections, Proposals]:
        """Returns detections, and the proposals they came from, in pixels of the canvas.

        Args:
          variables: params and batch_stats.
          images: u8[b h w c] on the canvas, in network channel order.
          test: thresholds and counts.
        """
        ...

    def predict_planes(
        self, variables: Variables, images: Array, test: TestSettings
    ) -> tuple[Detections, jax.Array | None]:
        """Returns detections without masks, and the mask logits f32[b d o o n] of every class.

        DeepStream picks the plane of the class itself. None stands for a model without masks.

        Args: as of `predict`.
        """
        ...

    def is_backbone(self, layer: str) -> bool:
        """Returns whether pretrained weights are expected to fill the layer."""
        ...

    def block_of(self, layer: str) -> int | None:
        """Returns the number of the layer's block of the backbone; None where it belongs to none."""
        ...

    def is_frozen(self, layer: str) -> bool:
        """Returns whether every parameter of the layer keeps its value."""
        ...
