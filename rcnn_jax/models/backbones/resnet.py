"""ResNet 10, 18, 34, 50, 101 with the layer names of the TAO template.

    images -> conv1 7x7/2 -> [max pool 3x3/2] -> block 1 -> 2 -> 3 | -> block 4 -> mean
                                     stride      4        8    16 trunk | tail (or level 5)

Source: He et al., Deep Residual Learning, 2015, table 1;
docs/reference/faster_rcnn.md, "Backbones".
"""

import functools
import re

import flax.linen as nn
import jax

from rcnn_jax.models.backbones.backbone import Backbone
from rcnn_jax.models.batch_norm import normalised
from rcnn_jax.models.builder import Builder
from rcnn_jax.models.layers import avg_pool, max_pool
from rcnn_jax.structures import Levels

REPEATS = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
}
WIDTHS = (64, 128, 256, 512)
BOTTLENECK_DEPTHS = (50, 101)


class ResNetTrunk(nn.Module):
    """The stem and the first blocks.

    Attributes:
      build: makes the layers.
      depth: a key of `REPEATS`.
      blocks: how many blocks: 3 for a trunk of stride 16, 4 for a pyramid up to stride 32.
    """

    build: Builder
    depth: int
    blocks: int = 3

    @nn.compact
    def __call__(self, images: jax.Array, train: bool, keys: jax.Array | None = None) -> Levels:
        """Maps f[b h w c] to {2: stride 4, 3: stride 8, 4: stride 16, ...}."""
        build = self.build
        stem = build.conv("conv1", 64, 7, strides=2)
        x = normalised(stem, build.batch_norm("bn_conv1"), images, train)
        x = build.relu("conv1_relu")(x)
        if build.options.use_pooling:
            x = build.tap("conv1_pool")(max_pool(x, 3, 2, build.convention.padding))
        levels: Levels = {}
        for block in range(1, self.blocks + 1):
            # Without the pool block 1 takes its step, so level 2 has stride 4 either way.
            stride = 1 if block == 1 and build.options.use_pooling else 2
            x = _block(build, self.depth, block, stride, x, train)
            levels[block + 1] = x
        return levels


class ResNetTail(nn.Module):
    """Block 4 and the mean over the crop.

    Attributes:
      build: makes the layers.
      depth: a key of `REPEATS`.
      stride: of the first unit.
    """

    build: Builder
    depth: int
    stride: int

    @nn.compact
    def __call__(self, crops: jax.Array, train: bool, keys: jax.Array | None = None) -> jax.Array:
        """Maps f[b*r s s c] to f[b*r c']."""
        x = _block(self.build, self.depth, 4, self.stride, crops, train)
        return self.build.tap("avg_pool")(avg_pool(x))


def _block(
    build: Builder, depth: int, block: int, stride: int, x: jax.Array, train: bool
) -> jax.Array:
    for unit in range(REPEATS[depth][block - 1]):
        name = f"block_{block}{chr(ord('a') + unit)}"
        x = _unit(build, name, depth, WIDTHS[block - 1], stride if unit == 0 else 1, x, train)
    return x


def _unit(
    build: Builder, name: str, depth: int, width: int, stride: int, x: jax.Array, train: bool
) -> jax.Array:
    """One residual unit; unit `a` of a block always has a projection."""
    if depth in BOTTLENECK_DEPTHS:
        shapes = ((1, width), (3, width), (1, 4 * width))
        # On the 1x1 convolution a stride skips three quarters of the cells; torchvision moved it to
        # the 3x3, which reads them all. Trained weights fit one position only.
        strided = 2 if build.convention.stride_on == "middle" else 1
    else:
        shapes = ((3, width), (3, width))
        strided = 1
    y = x
    for index, (kernel_size, features) in enumerate(shapes, start=1):
        step = stride if index == strided else 1
        conv = build.conv(f"{name}_conv_{index}", features, kernel_size, step)
        y = normalised(conv, build.batch_norm(f"{name}_bn_{index}"), y, train)
        if index < len(shapes):
            y = build.relu(f"{name}_relu_{index}")(y)
    # The 23 units of ResNet-101 go up to `w`, so only the first of a block ends in `a`.
    if name.endswith("a") or build.options.all_projections:
        conv = build.conv(f"{name}_conv_shortcut", shapes[-1][1], 1, stride)
        x = normalised(conv, build.batch_norm(f"{name}_bn_shortcut"), x, train)
        # Tapped because int8 rounds the shortcut of a sum, so that the other branch fuses with it.
        x = build.tap(f"{name}_bn_shortcut")(x)
    return build.relu(f"{name}_relu")(build.add(f"{name}_add")(x, y))


def block_of(layer: str) -> int | None:
    """0 for the stem, k for block k."""
    if layer in ("conv1", "bn_conv1"):
        return 0
    match = re.match(r"block_(\d)[a-z]_", layer)
    return int(match[1]) if match else None


def backbone(depth: int) -> Backbone:
    """The row of the table for `resnet:<depth>`."""
    return Backbone(
        trunk=functools.partial(ResNetTrunk, depth=depth),
        tail=lambda build, stride: ResNetTail(build, depth, stride),
        block_of=block_of,
        freeze_ids=(0, 1, 2, 3),
    )
