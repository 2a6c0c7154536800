"""VGG: `vgg:16` and `vgg:19` of the TAO template, and `vgg16` with the Keras-applications names.

The template has batch norm and either pools after blocks 1 to 4 or lets the first convolution of
blocks 2 to 5 take the step; `vgg16` has biases, no batch norm and always pools. The tail of both is
two dense layers. Source: Simonyan and Zisserman, 2014, table 1;
docs/reference/faster_rcnn.md, "Backbones".
"""

import functools
import re

import flax.linen as nn
import jax

from rcnn_jax.models.backbones.backbone import Backbone
from rcnn_jax.models.batch_norm import normalised
from rcnn_jax.models.builder import Builder
from rcnn_jax.models.dropout import dropout
from rcnn_jax.models.layers import max_pool
from rcnn_jax.structures import Levels

REPEATS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)
DENSE_WIDTH = 4096


class VggTrunk(nn.Module):
    """Blocks 1 to 5 with batch norm; every convolution is its own lettered unit."""

    build: Builder
    depth: int

    @nn.compact
    def __call__(self, images: jax.Array, train: bool, keys: jax.Array | None = None) -> Levels:
        """Maps f[b h w c] to {4: stride 16}."""
        build, x = self.build, images
        pooling = build.options.use_pooling
        for block, (repeats, width) in enumerate(zip(REPEATS[self.depth], WIDTHS, strict=True), 1):
            for unit in range(repeats):
                name = f"block_{block}{chr(ord('a') + unit)}"
                # Strides open blocks 2 to 5, pools close blocks 1 to 4: four halvings in the same
                # places.
                stride = 2 if unit == 0 and block > 1 and not pooling else 1
                conv = build.conv(f"{name}_conv_1", width, 3, stride)
                x = normalised(conv, build.batch_norm(f"{name}_bn_1"), x, train)
                x = build.relu(f"{name}_relu")(x)
            # The published fifth pool is left out, or the trunk would have stride 32.
            if pooling and block < 5:
                x = build.tap(f"block{block}_pool")(max_pool(x, 2, 2, build.convention.padding))
        return {4: x}


class PlainVggTrunk(nn.Module):
    """Blocks 1 to 5 without batch norm."""

    build: Builder

    @nn.compact
    def __call__(self, images: jax.Array, train: bool, keys: jax.Array | None = None) -> Levels:
        """Maps f[b h w c] to {4: stride 16}."""
        x = images
        for block, (repeats, width) in enumerate(zip(REPEATS[16], WIDTHS, strict=True), 1):
            for unit in range(1, repeats + 1):
                name = f"block{block}_conv{unit}"
                x = self.build.relu(f"{name}_relu")(
                    self.build.conv(name, width, 3, use_bias=True)(x)
                )
            if block < 5:
                x = self.build.tap(f"block{block}_pool")(max_pool(x, 2, 2, "valid"))
        return {4: x}


class VggTail(nn.Module):
    """Two dense layers over the flattened crop, each followed by dropout."""

    build: Builder
    stride: int

    @nn.compact
    def __call__(self, crops: jax.Array, train: bool, keys: jax.Array | None = None) -> jax.Array:
        """Maps f[b*r s s c], flattened in the order H, W, C, to f[b*r 4096]."""
        x = crops
        if self.stride == 2:
            x = self.build.tap("classifier_pool")(max_pool(x, 2, 2, "valid"))
        x = x.reshape(x.shape[0], -1)
        for salt, name in enumerate(("fc1", "fc2")):
            x = self.build.relu(f"{name}_relu")(self.build.dense(name, DENSE_WIDTH)(x))
            # Two salts: with one, both layers would drop the same units of an image.
            x = dropout(x, keys, self.build.options.dropout_rate, salt)
        return x


def block_of(layer: str) -> int | None:
    """K for block k, in either way of naming."""
    match = re.match(r"block_?(\d)", layer)
    return int(match[1]) if match else None


def backbone(depth: int) -> Backbone:
    """The row of the table for `vgg:<depth>`."""
    return Backbone(
        trunk=functools.partial(VggTrunk, depth=depth),
        tail=VggTail,
        block_of=block_of,
        freeze_ids=(1, 2, 3, 4, 5),
    )


PLAIN = Backbone(trunk=PlainVggTrunk, tail=VggTail, block_of=block_of, freeze_ids=(1, 2, 3, 4, 5))
