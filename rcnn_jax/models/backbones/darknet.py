"""DarkNet 19 and 53: leaky ReLU with slope 0.1.

Source: Redmon and Farhadi, YOLO9000, 2017, table 6, and YOLOv3, 2018, table 1;
docs/reference/faster_rcnn.md, "Backbones".
"""

import re

import flax.linen as nn
import jax

from rcnn_jax.models.backbones.backbone import Backbone
from rcnn_jax.models.batch_norm import normalised
from rcnn_jax.models.builder import Builder
from rcnn_jax.models.layers import avg_pool, max_pool
from rcnn_jax.structures import Levels

SLOPE = 0.1
STEM_WIDTH = 32
# DarkNet 53: (width, residual units) of groups 1 to 5, each opened by a convolution of stride 2.
GROUPS_53 = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))
# DarkNet 19: (width, convolutions) of groups 1 to 5: 3x3 and, in between, 1x1 of half the width.
GROUPS_19 = ((64, 1), (128, 3), (256, 3), (512, 5), (1024, 5))


class DarkNet53Trunk(nn.Module):
    """The stem and groups 1 to 4."""

    build: Builder

    @nn.compact
    def __call__(self, images: jax.Array, train: bool, keys: jax.Array | None = None) -> Levels:
        """Maps f[b h w c] to {4: stride 16}."""
        x = _conv(self.build, "conv1", STEM_WIDTH, 3, 1, images, train)
        for group in range(1, 5):
            x = _residual_group(self.build, group, 2, x, train)
        return {4: x}


class DarkNet53Tail(nn.Module):
    """Group 5 and the mean over the crop."""

    build: Builder
    stride: int

    @nn.compact
    def __call__(self, crops: jax.Array, train: bool, keys: jax.Array | None = None) -> jax.Array:
        """Maps f[b*r s s c] to f[b*r 1024]."""
        x = _residual_group(self.build, 5, self.stride, crops, train)
        return self.build.tap("avg_pool")(avg_pool(x))


class DarkNet19Trunk(nn.Module):
    """The stem and groups 1 to 4, a max pool before each."""

    build: Builder

    @nn.compact
    def __call__(self, images: jax.Array, train: bool, keys: jax.Array | None = None) -> Levels:
        """Maps f[b h w c] to {4: stride 16}."""
        build = self.build
        x = _conv(build, "conv1", STEM_WIDTH, 3, 1, images, train)
        for group in range(1, 5):
            x = build.tap(f"maxpool_{group}")(max_pool(x, 2, 2, build.convention.padding))
            x = _plain_group(build, group, 1, x, train)
        return {4: x}


class DarkNet19Tail(nn.Module):
    """Group 5 and the mean over the crop."""

    build: Builder
    stride: int

    @nn.compact
    def __call__(self, crops: jax.Array, train: bool, keys: jax.Array | None = None) -> jax.Array:
        """Maps f[b*r s s c] to f[b*r 1024]."""
        x = _plain_group(self.build, 5, self.stride, crops, train)
        return self.build.tap("avg_pool")(avg_pool(x))


def _residual_group(
    build: Builder, group: int, stride: int, x: jax.Array, train: bool
) -> jax.Array:
    width, units = GROUPS_53[group - 1]
    # The stem is `conv1`, so group g opens with conv<g+1>; `block_of` subtracts the one again.
    x = _conv(build, f"conv{group + 1}", width, 3, stride, x, train)
    for unit in range(1, units + 1):
        name = f"b{group}_conv{unit}"
        y = _conv(build, f"{name}_1", width // 2, 1, 1, x, train)
        y = _conv(build, f"{name}_2", width, 3, 1, y, train)
        name = f"b{group}_add{unit}"
        x = build.tap(name)(build.add(name)(x, y))
    return x


def _plain_group(build: Builder, group: int, stride: int, x: jax.Array, train: bool) -> jax.Array:
    width, convolutions = GROUPS_19[group - 1]
    for index in range(1, convolutions + 1):
        wide = index % 2 == 1
        step = stride if index == 1 else 1
        # The narrow 1x1 convolutions stand in between, so the last of a group is wide: groups have
        # odd counts and hand the full width on.
        features, kernel_size = (width, 3) if wide else (width // 2, 1)
        x = _conv(build, f"b{group}_conv{index}", features, kernel_size, step, x, train)
    return x


def _conv(
    build: Builder,
    name: str,
    features: int,
    kernel_size: int,
    stride: int,
    x: jax.Array,
    train: bool,
) -> jax.Array:
    conv = build.conv(name, features, kernel_size, stride)
    x = normalised(conv, build.batch_norm(f"{name}_bn"), x, train)
    return build.leaky_relu(f"{name}_lrelu", SLOPE)(x)


def block_of(layer: str) -> int | None:
    """0 for the stem, g for group g with the convolution that opens it."""
    match = re.match(r"b(\d)_conv", layer)
    if match:
        return int(match[1])
    match = re.match(r"conv(\d)(_bn)?$", layer)
    return int(match[1]) - 1 if match else None


DARKNET_19 = Backbone(
    trunk=DarkNet19Trunk, tail=DarkNet19Tail, block_of=block_of, freeze_ids=tuple(range(6))
)
DARKNET_53 = Backbone(
    trunk=DarkNet53Trunk, tail=DarkNet53Tail, block_of=block_of, freeze_ids=tuple(range(6))
)
