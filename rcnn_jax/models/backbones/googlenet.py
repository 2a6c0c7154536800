"""GoogLeNet (Inception v1) with batch norm.

Source: Szegedy et al., Going Deeper with Convolutions, 2015, table 1, with 2x2 pools between the
stages as in the original; docs/reference/faster_rcnn.md, "Backbones".
"""

import re
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rcnn_jax.models.backbones.backbone import Backbone
from rcnn_jax.models.batch_norm import normalised
from rcnn_jax.models.builder import Builder
from rcnn_jax.models.layers import avg_pool, max_pool
from rcnn_jax.structures import Levels


class Branches(NamedTuple):
    """Output channels inside one inception block."""

    conv1: int
    reduce3: int
    conv3: int
    reduce5: int
    conv5: int
    pool: int


INCEPTION = {
    "3a": Branches(64, 96, 128, 16, 32, 32),
    "3b": Branches(128, 128, 192, 32, 96, 64),
    "4a": Branches(192, 96, 208, 16, 48, 64),
    "4b": Branches(160, 112, 224, 24, 64, 64),
    "4c": Branches(128, 128, 256, 24, 64, 64),
    "4d": Branches(112, 144, 288, 32, 64, 64),
    "4e": Branches(256, 160, 320, 32, 128, 128),
    "5a": Branches(256, 160, 320, 32, 128, 128),
    "5b": Branches(384, 192, 384, 48, 128, 128),
}
TRUNK_BLOCKS = ("3a", "3b", "4a", "4b", "4c", "4d", "4e")


class GoogLeNetTrunk(nn.Module):
    """The stem and inception blocks 3a to 4e."""

    build: Builder

    @nn.compact
    def __call__(self, images: jax.Array, train: bool, keys: jax.Array | None = None) -> Levels:
        """Maps f[b h w c] to {4: stride 16}."""
        build = self.build

        def stem(name: str, features: int, kernel_size: int, stride: int, x: jax.Array):
            conv = build.conv(name, features, kernel_size, stride)
            x = normalised(conv, build.batch_norm(f"bn_{name}"), x, train)
            return build.relu(f"{name}_relu")(x)

        x = _pool(build, "pool1", stem("conv1", 64, 7, 2, images))
        x = stem("conv2_reduce", 64, 1, 1, x)
        x = _pool(build, "pool2", stem("conv2", 192, 3, 1, x))
        for index in TRUNK_BLOCKS:
            if index == "4a":
                x = _pool(build, "pool3", x)
            x = _inception(build, index, x, train)
        return {4: x}


class GoogLeNetTail(nn.Module):
    """Inception blocks 5a and 5b and the mean over the crop."""

    build: Builder
    stride: int

    @nn.compact
    def __call__(self, crops: jax.Array, train: bool, keys: jax.Array | None = None) -> jax.Array:
        """Maps f[b*r s s c] to f[b*r 1024]."""
        x = _pool(self.build, "pool4", crops) if self.stride == 2 else crops
        for index in ("5a", "5b"):
            x = _inception(self.build, index, x, train)
        return self.build.tap("avg_pool")(avg_pool(x))


def _pool(build: Builder, name: str, x: jax.Array) -> jax.Array:
    return build.tap(name)(max_pool(x, 2, 2, build.convention.padding))


def _inception(build: Builder, index: str, x: jax.Array, train: bool) -> jax.Array:
    widths = INCEPTION[index]

    def conv(suffix: str, features: int, kernel_size: int, x: jax.Array) -> jax.Array:
        name = f"inception_{index}_{suffix}"
        conv = build.conv(name, features, kernel_size)
        x = normalised(conv, build.batch_norm(f"{name}_bn"), x, train)
        return build.relu(f"{name}_relu")(x)

    one = conv("1x1", widths.conv1, 1, x)
    three = conv("3x3", widths.conv3, 3, conv("3x3_reduce", widths.reduce3, 1, x))
    five = conv("5x5", widths.conv5, 5, conv("5x5_reduce", widths.reduce5, 1, x))
    # Stride 1: all four branches have one size and can be joined.
    pooled = build.tap(f"inception_{index}_pool")(max_pool(x, 3, 1, build.convention.padding))
    pooled = conv("pool_proj", widths.pool, 1, pooled)
    return build.tap(f"inception_{index}_output")(
        jnp.concatenate((one, three, five, pooled), axis=-1)
    )


def block_of(layer: str) -> int | None:
    """0 for the stem, then 1 for 3a, 2 for 3b, 3 to 7 for 4a to 4e."""
    if re.match(r"(bn_)?conv[12]", layer):
        return 0
    match = re.match(r"inception_(\d[a-e])_", layer)
    # 5a and 5b have no id: the original's end with the trunk, and ids of specs must mean the same.
    return TRUNK_BLOCKS.index(match[1]) + 1 if match and match[1] in TRUNK_BLOCKS else None


BACKBONE = Backbone(
    trunk=GoogLeNetTrunk, tail=GoogLeNetTail, block_of=block_of, freeze_ids=tuple(range(8))
)
