"""MobileNet v2: inverted residual blocks, plain ReLU.

Every 3x3 convolution pads one pixel on each side, whatever the convention; batch norm keeps 0.999
of its moving averages. Source: Sandler et al., MobileNetV2, 2018, table 2;
docs/reference/faster_rcnn.md, "Backbones".
"""

import re

import flax.linen as nn
import jax

from rcnn_jax.models.backbones.backbone import Backbone
from rcnn_jax.models.batch_norm import normalised
from rcnn_jax.models.builder import Builder
from rcnn_jax.models.layers import Conv, DepthwiseConv, avg_pool
from rcnn_jax.structures import Levels

EXPANSION = 6
# The published constant, too slow for runs of a few thousand steps: those set `bn_momentum`.
BN_MOMENTUM = 0.999
STEM_WIDTH = 32
# (output channels, stride) of blocks 0 to 12
TRUNK = (
    (16, 1),
    (24, 2),
    (24, 1),
    (32, 2),
    (32, 1),
    (32, 1),
    (64, 2),
    (64, 1),
    (64, 1),
    (64, 1),
    (96, 1),
    (96, 1),
    (96, 1),
)
# output channels of blocks 13 to 16
TAIL = (160, 160, 160, 320)
TOP_WIDTH = 1280


class MobileNetV2Trunk(nn.Module):
    """The stem and blocks 0 to 12."""

    build: Builder

    @nn.compact
    def __call__(self, images: jax.Array, train: bool, keys: jax.Array | None = None) -> Levels:
        """Maps f[b h w c] to {4: stride 16}."""
        stem = self.build.conv("conv1", STEM_WIDTH, 3, 2, padding="symmetric")
        x = self.build.relu("conv1_relu")(_normalised(self.build, stem, "bn_conv1", images, train))
        inputs = STEM_WIDTH
        for index, (features, stride) in enumerate(TRUNK):
            x = _block(self.build, index, inputs, features, stride, x, train)
            inputs = features
        return {4: x}


class MobileNetV2Tail(nn.Module):
    """Blocks 13 to 16, a last 1x1 convolution and the mean over the crop."""

    build: Builder
    stride: int

    @nn.compact
    def __call__(self, crops: jax.Array, train: bool, keys: jax.Array | None = None) -> jax.Array:
        """Maps f[b*r s s c] to f[b*r 1280]."""
        x, inputs = crops, TRUNK[-1][0]
        for index, features in enumerate(TAIL, start=len(TRUNK)):
            stride = self.stride if index == len(TRUNK) else 1
            x = _block(self.build, index, inputs, features, stride, x, train)
            inputs = features
        top = self.build.conv("conv_1", TOP_WIDTH)
        x = self.build.relu("conv_1_relu")(_normalised(self.build, top, "conv_1_bn", x, train))
        return self.build.tap("avg_pool")(avg_pool(x))


def _block(
    build: Builder, index: int, inputs: int, features: int, stride: int, x: jax.Array, train: bool
) -> jax.Array:
    """One inverted residual block; `inputs` is the published width of x.

    Whether there is a shortcut follows from the published widths, so that pruning cannot change it.
    """
    # Block 0 widens nothing, so it has no `_expand` layers and another name in files.
    prefix = f"block_{index}" if index else "expanded_conv"
    y = x
    if index:
        conv = build.conv(f"{prefix}_expand", EXPANSION * inputs)
        y = _normalised(build, conv, f"{prefix}_expand_bn", y, train)
        y = build.relu(f"{prefix}_expand_relu")(y)
    depthwise = build.depthwise(f"{prefix}_depthwise", 3, stride, "symmetric")
    y = _normalised(build, depthwise, f"{prefix}_depthwise_bn", y, train)
    y = build.relu(f"{prefix}_depthwise_relu")(y)
    conv = build.conv(f"{prefix}_project", features)
    y = _normalised(build, conv, f"{prefix}_project_bn", y, train)
    if stride != 1 or inputs != features:
        # A linear bottleneck: no ReLU behind the projection (Sandler et al. 2018, section 3.2).
        return build.tap(f"{prefix}_project_bn")(y)
    if build.options.all_projections:
        name = f"{prefix}_projected_inputs"
        # The template's files hold a convolution on every identity, and no batch norm behind it.
        x = build.tap(name)(build.conv(name, inputs)(x))
    return build.tap(f"{prefix}_add")(build.add(f"{prefix}_add")(x, y))


def _normalised(
    build: Builder, conv: Conv | DepthwiseConv, name: str, x: jax.Array, train: bool
) -> jax.Array:
    return normalised(conv, build.batch_norm(name, momentum=BN_MOMENTUM), x, train)


def block_of(layer: str) -> int | None:
    """0 for the stem, k for block k-1."""
    if layer in ("conv1", "bn_conv1"):
        return 0
    if layer.startswith("expanded_conv_"):
        return 1
    match = re.match(r"block_(\d+)_", layer)
    return int(match[1]) + 1 if match else None


BACKBONE = Backbone(
    trunk=MobileNetV2Trunk,
    tail=MobileNetV2Tail,
    block_of=block_of,
    freeze_ids=tuple(range(len(TRUNK) + 1)),
)
