"""Conventions that the weights of a Mask R-CNN rely on and that no file of weights states.

The same weights give other features when convolutions pad elsewhere, other boxes when anchors sit
elsewhere. A spec chooses a row by name (`maskrcnn_config.convention`); rules of training, such as
which anchors are positive, do not belong here: trained weights do not depend on them.
"""

from dataclasses import dataclass

from rcnn_jax.settings.network import (
    CAFFE2,
    TAO_MRCNN,
    TORCHVISION,
    AnchorConvention,
    ConvConvention,
    PixelSettings,
)

COCO_MEAN = (123.675, 116.28, 103.53)


@dataclass(frozen=True, kw_only=True)
class Convention:
    """The convention of one source of weights.

    Attributes:
      convolution: padding, strides and batch norm.
      anchors: where anchors sit.
      pixels: how images become network values.
      roi_aligned: see `TwoStageSettings.roi_aligned`.
      roi_samples: samples per side of a cell of RoIAlign, 0 for as many as fit it.
      coarsest_roi_level: rois are pooled from levels up to this one, or the coarsest there is.
    """

    convolution: ConvConvention
    anchors: AnchorConvention
    pixels: PixelSettings
    roi_aligned: bool
    roi_samples: int
    coarsest_roi_level: int


CONVENTIONS = {
    # One divisor for all channels, as in the original: nvinfer has one scale factor.
    "tao": Convention(
        convolution=TAO_MRCNN,
        anchors=AnchorConvention(),
        pixels=PixelSettings(channel_order="rgb", mean=COCO_MEAN, std=(0.224 * 255.0,) * 3),
        roi_aligned=True,
        roi_samples=2,
        # Above every level a spec may have: rois are pooled from the whole pyramid, P6 included.
        coarsest_roi_level=10,
    ),
    # Source: docs/torchvision.md, "What the convention says".
    "torchvision": Convention(
        convolution=TORCHVISION,
        anchors=AnchorConvention(offset=0.0, rounding=True),
        pixels=PixelSettings(channel_order="rgb", mean=COCO_MEAN, std=(58.395, 57.12, 57.375)),
        # The default of torchvision, with which its published weights were trained.
        roi_aligned=False,
        roi_samples=2,
        coarsest_roi_level=5,
    ),
    # The zoo's models start from backbones of Caffe2: pixels as they are, strides in the first
    # convolution of a block. Source: docs/from_detectron2.md, "What the convention says".
    "detectron2": Convention(
        convolution=CAFFE2,
        anchors=AnchorConvention(offset=0.0),
        pixels=PixelSettings(channel_order="bgr", mean=COCO_MEAN[::-1], std=(1.0, 1.0, 1.0)),
        roi_aligned=True,
        roi_samples=0,
        coarsest_roi_level=5,
    ),
}
"""{value of the spec field `convention`: its row}."""
