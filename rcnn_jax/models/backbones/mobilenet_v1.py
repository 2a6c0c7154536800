"""MobileNet v1: depthwise and pointwise convolutions, plain ReLU.

Every 3x3 convolution pads one pixel on each side, whatever the convention. Source: Howard et al.,
MobileNets, 2017, table 1; docs/reference/faster_rcnn.md, "Backbones".
"""

import re

import flax.linen as nn
import jax

from rcnn_jax.models.backbones.backbone import Backbone
from rcnn_jax.models.batch_norm import normalised
from rcnn_jax.models.builder import Builder
from rcnn_jax.models.layers import avg_pool
from rcnn_jax.structures import Levels

# (output channels, stride) of blocks 1 to 11
TRUNK = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
)


class MobileNetV1Trunk(nn.Module):
    """The stem and blocks 1 to 11."""

    build: Builder

    @nn.compact
    def __call__(self, images: jax.Array, train: bool, keys: jax.Array | None = None) -> Levels:
        """Maps f[b h w c] to {4: stride 16}."""
        stem = self.build.conv("conv1", 32, 3, 2, padding="symmetric")
        x = normalised(stem, self.build.batch_norm("conv1_bn"), images, train)
        x = self.build.relu("conv1_relu")(x)
        for index, (features, stride) in enumerate(TRUNK, start=1):
            x = _block(self.build, index, features, stride, x, train)
        return {4: x}


class MobileNetV1Tail(nn.Module):
    """Blocks 12 and 13 and the mean over the crop."""

    build: Builder
    stride: int

    @nn.compact
    def __call__(self, crops: jax.Array, train: bool, keys: jax.Array | None = None) -> jax.Array:
        """Maps f[b*r s s c] to f[b*r 1024]."""
        x = _block(self.build, 12, 1024, self.stride, crops, train)
        x = _block(self.build, 13, 1024, 1, x, train)
        return self.build.tap("avg_pool")(avg_pool(x))


def _block(
    build: Builder, index: int, features: int, stride: int, x: jax.Array, train: bool
) -> jax.Array:
    name = f"conv_dw_{index}"
    # One pixel on every side, where the `same` of a strided depthwise convolution would pad at the
    # bottom and right only (docs/reference/faster_rcnn.md, "Padding of layers").
    depthwise = build.depthwise(name, 3, stride, "symmetric")
    x = normalised(depthwise, build.batch_norm(f"{name}_bn"), x, train)
    x = build.relu(f"{name}_relu")(x)
    name = f"conv_pw_{index}"
    x = normalised(build.conv(name, features), build.batch_norm(f"{name}_bn"), x, train)
    return build.relu(f"{name}_relu")(x)


def block_of(layer: str) -> int | None:
    """0 for the stem, i for block i."""
    if layer in ("conv1", "conv1_bn"):
        return 0
    match = re.match(r"conv_[dp]w_(\d+)", layer)
    return int(match[1]) if match else None


BACKBONE = Backbone(
    trunk=MobileNetV1Trunk,
    tail=MobileNetV1Tail,
    block_of=block_of,
    freeze_ids=tuple(range(len(TRUNK) + 1)),
)
