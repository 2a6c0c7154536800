"""Faster R-CNN: one stride-16 feature map, one pooled crop per roi, a convolutional tail as box head.

Source: Ren et al. 2015 (arXiv:1506.01497) in the form of TAO's network.
"""

from dataclasses import dataclass

import jax

from rcnn_jax.models.faster_rcnn import FasterRcnn
from rcnn_jax.structures import Array, Batch, Detections, GroundTruth, Levels, Proposals
from rcnn_jax.tasks import recipe
from rcnn_jax.tasks.distillation import Lesson
from rcnn_jax.tasks.task import TestSettings, Variables
from rcnn_jax.tasks.two_stage import LossTerms
from rcnn_jax.tasks.two_stage_task import TwoStageTask
from rcnn_jax.tasks.views import predict_views


@dataclass(frozen=True, kw_only=True)
class FasterRcnnTask(TwoStageTask):
    """The Faster R-CNN algorithm over its model; its loss terms are rpn_class, rpn_box, class, box."""

    model: FasterRcnn

    def is_backbone(self, layer: str) -> bool:
        """Returns whether the layer belongs to the backbone, its tail included."""
        # What is not a head: the names of layers differ by backbone, those of the heads do not.
        return not layer.startswith(("rpn_", "dense_", "roi_"))

    def predict_planes(
        self, variables: Variables, images: Array, test: TestSettings
    ) -> tuple[Detections, None]:
        """Returns detections; there are no masks."""
        return self.predict(variables, images, test)[0], None

    def _losses(
        self, model: FasterRcnn, batch: Batch, image_keys: jax.Array, lesson: Lesson | None
    ) -> LossTerms:
        # Also for backbones without dropout: the samples of anchors must not depend on the arch.
        keys = recipe.split_keys(image_keys, dropout=True)

        def heads(features: Levels, proposals: Proposals, gt: GroundTruth) -> LossTerms:
            classes, settings = len(self.class_names), self.settings
            return recipe.box_terms(
                model, features, proposals, gt, keys, classes, settings, lesson
            )[0]

        return recipe.training_terms(model, batch, keys, self.pixels, self.settings, heads, lesson)

    def _predict(
        self, model: FasterRcnn, images: Array, test: TestSettings
    ) -> tuple[Detections, Proposals]:
        def heads(features: Levels, proposals: Proposals, size: jax.Array) -> Detections:
            return recipe.box_detections(model, features, proposals, size, self.settings, test)

        if test.views is not None:
            classes = len(self.class_names)
            return predict_views(model, images, self.pixels, self.settings, test, classes, heads)
        return recipe.prediction(model, images, self.pixels, self.settings, test, heads)
