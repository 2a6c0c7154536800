"""Mask R-CNN on a feature pyramid: layers only, as stages.

    images -extract-> {2..6: features} -rpn-> RpnOutputs ~proposals~> crops -classify-> BoxOutputs
                                            ~foreground rois~> crops -segment-> mask logits

All layers live at the top of `params` under the names of the original
(docs/reference/mask_rcnn.md, "Names of layers") and are made in its order, so that its table of
trainable variables can be printed.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rcnn_jax.errors import SpecError
from rcnn_jax.models.backbones import frozen_layers, resnet
from rcnn_jax.models.builder import BackboneOptions, Builder
from rcnn_jax.models.channels import ChannelPlan
from rcnn_jax.models.fpn import BACKBONE_MAX_LEVEL, FeaturePyramid
from rcnn_jax.models.group_norm import Norm
from rcnn_jax.models.heads import (
    BoxHead,
    BoxPredictor,
    MaskHead,
    RpnHead,
    RpnNames,
    merge_rois,
    split_rois,
)
from rcnn_jax.models.quant import QuantPlan
from rcnn_jax.settings.network import TAO_MRCNN, ConvConvention
from rcnn_jax.structures import BoxOutputs, Levels, RpnOutputs

RPN_INIT = nn.initializers.normal(0.01)
CLASSES_INIT = nn.initializers.normal(0.01)
# A tenth of the others: a fresh network then starts from the proposals as they are.
DELTAS_INIT = nn.initializers.normal(0.001)


class MaskRcnn(nn.Module):
    """ResNet, feature pyramid, shared region proposal network, box head, mask head.

    Attributes:
      num_classes: n, without background.
      anchors_per_cell: k.
      arch: `resnet:10`, `resnet:18`, `resnet:34`, `resnet:50` or `resnet:101`.
      min_level: finest level of the pyramid, 2 to 5.
      max_level: coarsest level, at least 5.
      box_crop_size: s of the crops of `classify`, `mrcnn_resolution` // 4.
      mask_crop_size: s of the crops of `segment`, `mrcnn_resolution` // 2.
      mlp_head_dim: width of fc6 and fc7.
      include_mask: has a mask head.
      rpn_depth: 3x3 convolutions of the region proposal network.
      box_convs: 3x3 convolutions of the box head, in place of fc7.
      fpn_norm: normalisation in the pyramid.
      head_norm: normalisation in box and mask head.
      box_heads: number of box heads; more than one are those of a cascade, and move a box whatever its
        class. Layers of the second one are called `fc6-2`, `class-predict-2` and so on.
      options: what the spec chooses in the backbone.
      convention: padding and batch norm.
      channels: widths that differ from the published ones.
      quant: inputs that are rounded to int8; none in float.
      dtype: of the computation; parameters and results of heads are float32.
      bn_axis_name: mapped axis batch norm averages over, or None.
      remat: see `network.Network`.
      freeze_blocks: backbone blocks whose batch norm keeps its statistics; keeping their parameters is
        the optimizer's part.

    Raises:
      SpecError: the arch is no ResNet or the levels do not exist; on first use.
    """

    num_classes: int
    anchors_per_cell: int
    arch: str = "resnet:50"
    min_level: int = 2
    max_level: int = 6
    box_crop_size: int = 7
    mask_crop_size: int = 14
    mlp_head_dim: int = 1024
    include_mask: bool = True
    rpn_depth: int = 1
    box_convs: int = 0
    fpn_norm: Norm = "none"
    head_norm: Norm = "none"
    box_heads: int = 1
    options: BackboneOptions = BackboneOptions(use_pooling=True, all_projections=False)
    convention: ConvConvention = TAO_MRCNN
    channels: ChannelPlan = ChannelPlan()
    quant: QuantPlan = QuantPlan()
    dtype: Any = jnp.float32
    bn_axis_name: str | None = None
    remat: bool = False
    freeze_blocks: tuple[int, ...] = ()

    def setup(self):
        """Makes the parts; their layers belong to this module, as in the original's flat graph."""
        self._check_levels()
        build = Builder(
            options=self.options,
            convention=self.convention,
            channels=self.channels,
            quant=self.quant,
            dtype=self.dtype,
            bn_axis_name=self.bn_axis_name,
            is_frozen=frozen_layers(self.arch, self.freeze_blocks),
        )
        # Four blocks in the trunk: the pyramid reads C5, and the heads have no block of the
        # backbone.
        self.trunk = resnet.ResNetTrunk(build, _resnet_depth(self.arch), blocks=4)
        self.fpn = FeaturePyramid(build, self.min_level, self.max_level, norm=self.fpn_norm)
        self.rpn_head = RpnHead(
            build,
            RpnNames(conv="rpn", objectness="rpn-class", deltas="rpn-box", further="rpn-conv-l{}"),
            features=256,
            anchors_per_cell=self.anchors_per_cell,
            kernel_init=RPN_INIT,
            depth=self.rpn_depth,
        )
        self.box_head = self._box_head(build)
        self.predictor = self._predictor(build)
        suffixes = [f"-{number}" for number in range(2, self.box_heads + 1)]
        self.later_heads = [self._box_head(build, suffix) for suffix in suffixes]
        self.later_predictors = [self._predictor(build, suffix) for suffix in suffixes]
        # Made without `include_mask` too: a module that is never called owns no variables.
        self.mask_head = MaskHead(build, self.num_classes, norm=self.head_norm)
        parts = (
            self.trunk,
            self.fpn,
            self.rpn_head,
            self.box_head,
            self.predictor,
            *self.later_heads,
            *self.later_predictors,
            self.mask_head,
        )
        for part in parts:
            nn.share_scope(self, part)

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels `extract` returns."""
        return tuple(range(self.min_level, self.max_level + 1))

    @property
    def has_moving_heads(self) -> bool:
        """Whether training changes statistics of batch norm in the heads."""
        return self.head_norm == "bn" and not self.options.freeze_bn

    def extract(
        self, images: jax.Array, train: bool, dropout_keys: jax.Array | None = None
    ) -> Levels:
        """The feature pyramid.

        Args:
          images: f32[b h w c], normalised; h and w are multiples of 2**max_level.
          train: batch norm uses and updates batch statistics.
          dropout_keys: taken for the sake of one signature; nothing drops here.

        Returns:
          {level: [b h/2**level w/2**level c]} in the dtype of the computation.

        Raises:
          ValueError: the sides of the images are not multiples of 2**max_level.
        """
        # A level of odd size would not match the doubled level above it.
        multiple = 2**self.max_level
        if images.shape[1] % multiple or images.shape[2] % multiple:
            raise ValueError(
                f"images of {images.shape[1]} x {images.shape[2]} pixels do not fit a pyramid up "
                f"to level {self.max_level}: expected multiples of {multiple}"
            )
        return self.fpn(self.trunk(images, train, dropout_keys), train)

    def rpn(self, features: Levels) -> RpnOutputs:
        """Objectness logits f32[b h w k] and deltas f32[b h w k 4] of every level."""
        return self.rpn_head(features)

    def classify(
        self,
        crops: jax.Array,
        train: bool,
        dropout_keys: jax.Array | None = None,
        valid: jax.Array | None = None,
        head: int = 0,
    ) -> BoxOutputs:
        """Logits and deltas of every roi.

        Args:
          crops: f32[b r s s c] with s = `box_crop_size`.
          train: batch norm of the head, where there is any, uses and updates batch statistics.
          dropout_keys: without effect: nothing drops here.
          valid: bool[b r], rois that count in batch statistics; None for all.
          head: of a cascade, from 0 on.

        Returns:
          Logits f32[b r n+1], background last, and deltas f32[b r n 4].
        """
        del dropout_keys
        box_head, predictor = self.box_head, self.predictor
        if head:
            box_head, predictor = self.later_heads[head - 1], self.later_predictors[head - 1]
        vectors = box_head(merge_rois(crops), train, _rows(valid))
        return predictor(vectors, crops.shape[1])

    def segment(
        self, crops: jax.Array, train: bool = False, valid: jax.Array | None = None
    ) -> jax.Array:
        """Mask logits of every class.

        Args:
          crops: f32[b r s s c] with s = `mask_crop_size`.
          train: as of `classify`.
          valid: as of `classify`.

        Returns:
          f32[b r 2s 2s n].
        """
        logits = self.mask_head(merge_rois(crops), train, _rows(valid))
        return split_rois(logits, crops.shape[1])

    def __call__(
        self, images: jax.Array, boxes: jax.Array
    ) -> tuple[RpnOutputs, BoxOutputs, jax.Array | None]:
        """Runs every layer once on empty crops, so that `init` makes all variables.

        Args:
          images: f32[b h w c], sides multiples of 2**max_level; the size does not matter.
          boxes: f32[b r 4]; only b and r matter.
        """
        features = self.extract(images, train=False)
        channels = features[self.max_level].shape[-1]
        rois = boxes.shape[:2]

        def empty_crops(side: int) -> jax.Array:
            return jnp.zeros((*rois, side, side, channels), self.dtype)

        rpn = self.rpn(features)
        boxes_out = self.classify(empty_crops(self.box_crop_size), train=False)
        for head in range(1, self.box_heads):
            self.classify(empty_crops(self.box_crop_size), train=False, head=head)
        # Last, because the table of variables lists layers in the order in which they run here.
        masks = self.segment(empty_crops(self.mask_crop_size)) if self.include_mask else None
        return rpn, boxes_out, masks

    def _box_head(self, build: Builder, suffix: str = "") -> BoxHead:
        return BoxHead(build, self.mlp_head_dim, self.box_convs, self.head_norm, suffix=suffix)

    def _predictor(self, build: Builder, suffix: str = "") -> BoxPredictor:
        return BoxPredictor(
            build,
            f"class-predict{suffix}",
            f"box-predict{suffix}",
            num_classes=self.num_classes,
            box_slots=self.num_classes + 1,
            classes_init=CLASSES_INIT,
            deltas_init=DELTAS_INIT,
            one_box=self.box_heads > 1,
        )

    def _check_levels(self):
        if not 2 <= self.min_level <= BACKBONE_MAX_LEVEL <= self.max_level:
            raise SpecError(
                f"min_level = {self.min_level}, max_level = {self.max_level} is no pyramid: "
                f"expected 2 <= min_level <= {BACKBONE_MAX_LEVEL} <= max_level"
            )


def _rows(valid: jax.Array | None) -> jax.Array | None:
    """Returns bool[b r] as f32[b*r], what `BatchNorm` takes for rows that count."""
    return None if valid is None else valid.reshape(-1).astype(jnp.float32)


def _resnet_depth(arch: str) -> int:
    names = {f"resnet:{depth}": depth for depth in resnet.REPEATS}
    if arch not in names:
        raise SpecError(f"Mask R-CNN has no arch '{arch}': expected one of {', '.join(names)}")
    return names[arch]
