"""Faster R-CNN on one feature map of stride 16: layers only, as stages.

    images -extract-> {4: features} -rpn-> RpnOutputs ~proposals~> crops -classify-> BoxOutputs

What happens between the stages is the business of `tasks/`. All layers live at the top of `params`
under the names of the original (docs/reference/faster_rcnn.md, "Names of layers").
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rcnn_jax.models.backbones import find_backbone, frozen_layers
from rcnn_jax.models.builder import BackboneOptions, Builder
from rcnn_jax.models.channels import ChannelPlan
from rcnn_jax.models.heads import BoxPredictor, RpnHead, RpnNames, merge_rois
from rcnn_jax.models.quant import QuantPlan
from rcnn_jax.settings.network import TAO_FRCNN, ConvConvention
from rcnn_jax.structures import BoxOutputs, Levels, RpnOutputs

LEVEL = 4


class FasterRcnn(nn.Module):
    """Backbone trunk, region proposal network, backbone tail over crops, two predictors.

    Attributes:
      arch: name of the backbone, a key of `BACKBONES`.
      num_classes: n, without background.
      anchors_per_cell: k.
      pool_size: side of the feature map that enters the mean (or the dense layers) of the tail.
      pool_size_2x: crops are twice as large and the first layer of the tail halves them.
      rpn_depth: 3x3 convolutions of the region proposal network.
      options: what the spec chooses in the backbone.
      convention: padding and batch norm.
      channels: widths that differ from the published ones.
      quant: inputs that are rounded to int8; none in float.
      dtype: of the computation; parameters and results of heads are float32.
      bn_axis_name: mapped axis batch norm averages over, or None.
      freeze_blocks: backbone blocks whose batch norm keeps its statistics; keeping their parameters is
        the optimizer's part.
    """

    arch: str
    num_classes: int
    anchors_per_cell: int
    pool_size: int = 7
    pool_size_2x: bool = False
    rpn_depth: int = 1
    options: BackboneOptions = BackboneOptions()
    convention: ConvConvention = TAO_FRCNN
    channels: ChannelPlan = ChannelPlan()
    quant: QuantPlan = QuantPlan()
    dtype: Any = jnp.float32
    bn_axis_name: str | None = None
    freeze_blocks: tuple[int, ...] = ()

    def setup(self):
        """Makes the parts; their layers belong to this module, as in the original's flat graph."""
        backbone = find_backbone(self.arch)
        build = Builder(
            options=self.options,
            convention=self.convention,
            channels=self.channels,
            quant=self.quant,
            dtype=self.dtype,
            bn_axis_name=self.bn_axis_name,
            is_frozen=frozen_layers(self.arch, self.freeze_blocks),
        )
        self.trunk = backbone.trunk(build)
        self.rpn_head = RpnHead(
            build,
            RpnNames(
                conv="rpn_conv1",
                objectness="rpn_out_class",
                deltas="rpn_out_regress",
                further="rpn_conv1_l{}",
            ),
            features=512,
            anchors_per_cell=self.anchors_per_cell,
            depth=self.rpn_depth,
        )
        self.tail = backbone.tail(build, 2 if self.pool_size_2x else 1)
        self.predictor = BoxPredictor(
            build,
            "dense_class_td",
            "dense_regress_td",
            num_classes=self.num_classes,
            # The original's file has no box for the background here; Mask R-CNN's has.
            box_slots=self.num_classes,
        )
        for part in (self.trunk, self.rpn_head, self.tail, self.predictor):
            # Without it parameters would be `trunk/conv1/kernel`, and files know `conv1/kernel`.
            nn.share_scope(self, part)

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels `extract` returns."""
        return (LEVEL,)

    @property
    def crop_size(self) -> int:
        """s, the side of the crops that `classify` takes."""
        return self.pool_size * (2 if self.pool_size_2x else 1)

    def extract(
        self, images: jax.Array, train: bool, dropout_keys: jax.Array | None = None
    ) -> Levels:
        """Features of stride 16.

        Args:
          images: f32[b h w c], normalised.
          train: batch norm uses and updates batch statistics.
          dropout_keys: [b], one key per image, for backbones that drop units in training.

        Returns:
          {4: [b ceil(h/16) ceil(w/16) c]} in the dtype of the computation.
        """
        return {LEVEL: self.trunk(images, train, dropout_keys if train else None)[LEVEL]}

    def rpn(self, features: Levels) -> RpnOutputs:
        """Objectness logits f32[b h w k] and deltas f32[b h w k 4] of every level."""
        return self.rpn_head(features)

    def classify(
        self,
        crops: jax.Array,
        train: bool,
        dropout_keys: jax.Array | None = None,
        valid: jax.Array | None = None,
    ) -> BoxOutputs:
        """Logits and deltas of every roi.

        Args:
          crops: f32[b r s s c] with s = `crop_size`.
          train: batch norm of the tail uses batch statistics over all rois.
          dropout_keys: [b], one key per image; None drops nothing.
          valid: without effect: the original's statistics are over all rois, and all are sampled.

        Returns:
          Logits f32[b r n+1], background last, and deltas f32[b r n 4].
        """
        del valid
        # Rois are rows like images from here on, so a tail of a backbone needs no TimeDistributed
        # layer.
        vectors = self.tail(merge_rois(crops), train, dropout_keys if train else None)
        return self.predictor(vectors, crops.shape[1])

    def __call__(self, images: jax.Array, boxes: jax.Array) -> tuple[RpnOutputs, BoxOutputs]:
        """Runs every layer once on empty crops, so that `init` makes all variables.

        Args:
          images: f32[b h w c]; the size does not matter.
          boxes: f32[b r 4]; only b and r matter.
        """
        features = self.extract(images, train=False)
        crop_shape = (self.crop_size, self.crop_size, features[LEVEL].shape[-1])
        # Zeros in place of RoIAlign: a network knows no boxes, and `init` needs shapes alone.
        crops = jnp.zeros((*boxes.shape[:2], *crop_shape), self.dtype)
        return self.rpn(features), self.classify(crops, train=False)
