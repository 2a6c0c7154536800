"""`resnet101` without a colon: the Keras-applications ResNet-101, with its names and constants.

It always pools after the stem, has a projection in the first unit of a stack only, and biases in
every convolution but the first, whose bias the spec chooses.
Source: docs/reference/faster_rcnn.md, "Backbones".
"""

import re

import flax.linen as nn
import jax

from rcnn_jax.models.backbones.backbone import Backbone
from rcnn_jax.models.batch_norm import normalised
from rcnn_jax.models.builder import Builder
from rcnn_jax.models.layers import avg_pool, max_pool
from rcnn_jax.structures import Levels

BN_EPSILON = 1.001e-5
# (name, width, units, stride of the first unit)
STACKS = (("conv2", 64, 3, 1), ("conv3", 128, 4, 2), ("conv4", 256, 23, 2))


class ResNet101Trunk(nn.Module):
    """The stem and stacks conv2, conv3, conv4."""

    build: Builder

    @nn.compact
    def __call__(self, images: jax.Array, train: bool, keys: jax.Array | None = None) -> Levels:
        """Maps f[b h w c] to {4: stride 16}."""
        # Three pixels on every side, whatever the convention: the Keras graph pads in a layer of
        # its own.
        stem = self.build.conv("conv1_conv", 64, 7, 2, padding="symmetric")
        norm = self.build.batch_norm("conv1_bn", epsilon=BN_EPSILON)
        x = self.build.relu("conv1_relu")(normalised(stem, norm, images, train))
        x = self.build.tap("pool1_pool")(max_pool(x, 3, 2))
        for name, width, units, stride in STACKS:
            x = _stack(self.build, name, width, units, stride, x, train)
        return {4: x}


class ResNet101Tail(nn.Module):
    """Stack conv5 and the mean over the crop."""

    build: Builder
    stride: int

    @nn.compact
    def __call__(self, crops: jax.Array, train: bool, keys: jax.Array | None = None) -> jax.Array:
        """Maps f[b*r s s c] to f[b*r c']."""
        x = _stack(self.build, "conv5", 512, 3, self.stride, crops, train)
        return self.build.tap("avg_pool")(avg_pool(x))


def _stack(
    build: Builder, name: str, width: int, units: int, stride: int, x: jax.Array, train: bool
) -> jax.Array:
    for unit in range(1, units + 1):
        x = _unit(
            build, f"{name}_block{unit}", width, unit == 1, stride if unit == 1 else 1, x, train
        )
    return x


def _unit(
    build: Builder, name: str, width: int, project: bool, stride: int, x: jax.Array, train: bool
) -> jax.Array:
    def conv_bn(index: int, features: int, kernel_size: int, step: int, x: jax.Array) -> jax.Array:
        # A bias before batch norm changes nothing but the moving mean, but the file has it.
        conv = build.conv(f"{name}_{index}_conv", features, kernel_size, step, use_bias=True)
        norm = build.batch_norm(f"{name}_{index}_bn", epsilon=BN_EPSILON)
        return normalised(conv, norm, x, train)

    shortcut = build.tap(f"{name}_0_bn")(conv_bn(0, 4 * width, 1, stride, x)) if project else x
    y = build.relu(f"{name}_1_relu")(conv_bn(1, width, 1, stride, x))
    y = build.relu(f"{name}_2_relu")(conv_bn(2, width, 3, 1, y))
    y = conv_bn(3, 4 * width, 1, 1, y)
    return build.relu(f"{name}_out")(build.add(f"{name}_add")(shortcut, y))


def block_of(layer: str) -> int | None:
    """0 for the stem, k for stack conv<k+1>."""
    match = re.match(r"conv(\d)_", layer)
    return int(match[1]) - 1 if match else None


BACKBONE = Backbone(
    trunk=ResNet101Trunk, tail=ResNet101Tail, block_of=block_of, freeze_ids=(0, 1, 2, 3)
)
