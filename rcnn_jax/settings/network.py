"""Conventions of a network: padding, strides, batch norm, anchor positions, pixels."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class AnchorConvention:
    """Anchor positions: centres at (i + offset) * stride, base boxes perhaps rounded to pixels."""

    offset: float = 0.5
    rounding: bool = False


@dataclass(frozen=True, kw_only=True)
class ConvConvention:
    """Padding and strides of convolutions, constants of batch norm.

    Attributes:
      padding: `symmetric` pads (k-1)//2 on both sides (patched Keras, torchvision); `same` is
        TensorFlow's, with the odd pixel at the bottom and right.
      stride_on: which convolution of a bottleneck carries the stride: `first` or `middle`.
      bn_eps: added to the variance.
      bn_momentum: weight of the old moving average in a step.
    """

    padding: Literal["symmetric", "same"] = "symmetric"
    stride_on: Literal["first", "middle"] = "first"
    bn_eps: float = 1e-3
    bn_momentum: float = 0.99


# The original's Keras is patched for Faster R-CNN only: its Mask R-CNN pads as TensorFlow does.
TAO_FRCNN = ConvConvention()

TAO_MRCNN = ConvConvention(padding="same")

# PyTorch calls the weight of the new batch momentum: 0.1 there is 0.9 here.
TORCHVISION = ConvConvention(stride_on="middle", bn_eps=1e-5, bn_momentum=0.9)

CAFFE2 = ConvConvention(stride_on="first", bn_eps=1e-5, bn_momentum=0.9)


@dataclass(frozen=True, kw_only=True)
class PixelSettings:
    """Normalisation of uint8 pixels: (pixel - mean) / std, per channel in network order.

    Attributes:
      channel_order: `rgb`, `bgr` or `l` (one grey channel): the order of `Batch.images`.
      mean: one value per channel, in the order of `channel_order`, in 0..255.
      std: one divisor per channel.
    """

    channel_order: Literal["rgb", "bgr", "l"]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def channels(self) -> int:
        """Number of channels of the network input: 3 or 1."""
        return len(self.mean)
