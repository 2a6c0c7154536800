"""EfficientNet b0 to b7: inverted residual blocks with squeeze and excitation.

Padding is TensorFlow's `same` throughout. Source: Tan and Le, EfficientNet, 2019, table 1 and
section 3.3 (compound scaling); docs/reference/faster_rcnn.md, "Backbones".
"""

import functools
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rcnn_jax.errors import SpecError
from rcnn_jax.models.backbones.backbone import Backbone
from rcnn_jax.models.batch_norm import normalised
from rcnn_jax.models.builder import Builder
from rcnn_jax.models.dropout import drop_connect, dropout
from rcnn_jax.models.layers import avg_pool
from rcnn_jax.structures import Levels

# (width, depth) coefficients
SCALING = {
    "b0": (1.0, 1.0),
    "b1": (1.0, 1.1),
    "b2": (1.1, 1.2),
    "b3": (1.2, 1.4),
    "b4": (1.4, 1.8),
    "b5": (1.6, 2.2),
    "b6": (1.8, 2.6),
    "b7": (2.0, 3.1),
}
# (kernel size, repeats, output channels, expansion, stride) of groups 1 to 7
GROUPS = (
    (3, 1, 16, 1, 1),
    (3, 2, 24, 6, 2),
    (5, 2, 40, 6, 2),
    (3, 3, 80, 6, 2),
    (5, 3, 112, 6, 1),
    (5, 4, 192, 6, 2),
    (3, 1, 320, 6, 1),
)
TRUNK_GROUPS = 5
STEM_WIDTH = 32
TOP_WIDTH = 1280
SE_RATIO = 0.25
ACTIVATIONS = {"swish": Builder.swish, "relu": Builder.relu}


class Block(NamedTuple):
    """One inverted residual block, all widths published and scaled."""

    name: str
    group: int
    number: int  # of the block in the whole network, from 0
    kernel_size: int
    inputs: int
    features: int
    expansion: int
    stride: int


class EfficientNetTrunk(nn.Module):
    """The stem and groups 1 to 5."""

    build: Builder
    variant: str

    @nn.compact
    def __call__(self, images: jax.Array, train: bool, keys: jax.Array | None = None) -> Levels:
        """Maps f[b h w c] to {4: stride 16}; `keys` drop whole images in residual branches."""
        build = self.build
        width = scaled_width(STEM_WIDTH, self.variant)
        stem = build.conv("stem_conv", width, 3, 2, padding="same")
        x = normalised(stem, build.batch_norm("stem_bn"), images, train)
        x = _activation(build, "stem_activation", x)
        for block in blocks(self.variant):
            if block.group <= TRUNK_GROUPS:
                x = _block(build, block, block_count(self.variant), x, train, keys)
        return {4: x}


class EfficientNetTail(nn.Module):
    """Groups 6 and 7, the top convolution, the mean over the crop, dropout."""

    build: Builder
    variant: str
    stride: int

    @nn.compact
    def __call__(self, crops: jax.Array, train: bool, keys: jax.Array | None = None) -> jax.Array:
        """Maps f[b*r s s c] to f[b*r c']."""
        build, x = self.build, crops
        opening = True
        for block in blocks(self.variant):
            if block.group > TRUNK_GROUPS:
                # Group 6 halves the map in the published network. Here that step belongs to the
                # crop: 2 for crops of twice the size, else 1.
                block = block._replace(stride=self.stride if opening else 1)
                opening = False
                x = _block(build, block, block_count(self.variant), x, train, keys)
        top = build.conv("top_conv", scaled_width(TOP_WIDTH, self.variant))
        x = normalised(top, build.batch_norm("top_bn"), x, train)
        x = _activation(build, "top_activation", x)
        x = build.tap("avg_pool")(avg_pool(x))
        # The number after the last block: no block's drop connect has this salt.
        return dropout(x, keys, build.options.dropout_rate, block_count(self.variant))


def scaled_width(width: int, variant: str) -> int:
    """The width times its coefficient, as the nearest multiple of 8 not more than 10% below."""
    target = width * SCALING[variant][0]
    rounded = max(8, int(target + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * target else rounded


def blocks(variant: str) -> Iterator[Block]:
    """All blocks in order."""
    inputs, number = scaled_width(STEM_WIDTH, variant), 0
    for group, (kernel_size, repeats, width, expansion, stride) in enumerate(GROUPS, start=1):
        features = scaled_width(width, variant)
        for repeat in range(math.ceil(repeats * SCALING[variant][1])):
            yield Block(
                name=f"block{group}{chr(ord('a') + repeat)}_",
                group=group,
                number=number,
                kernel_size=kernel_size,
                inputs=inputs,
                features=features,
                expansion=expansion,
                stride=stride if repeat == 0 else 1,
            )
            inputs, number = features, number + 1


def block_count(variant: str) -> int:
    """Number of blocks in the whole network."""
    return sum(math.ceil(group[1] * SCALING[variant][1]) for group in GROUPS)


def _block(
    build: Builder,
    block: Block,
    total: int,
    x: jax.Array,
    train: bool,
    keys: jax.Array | None,
) -> jax.Array:
    """Expansion, depthwise convolution, squeeze and excitation, projection, shortcut.

    Deviation: the rate of drop connect grows to the spec's value over the blocks there really are;
    the original divides by the 16 blocks of b0 and overshoots in larger networks.
    """
    name, y = block.name, x
    if block.expansion != 1:
        conv = build.conv(f"{name}expand_conv", block.inputs * block.expansion)
        y = normalised(conv, build.batch_norm(f"{name}expand_bn"), y, train)
        y = _activation(build, f"{name}expand_activation", y)
    depthwise = build.depthwise(f"{name}dwconv", block.kernel_size, block.stride, "same")
    y = normalised(depthwise, build.batch_norm(f"{name}bn"), y, train)
    y = _activation(build, f"{name}activation", y)
    y = _squeeze_excite(build, block, y)
    conv = build.conv(f"{name}project_conv", block.features, use_bias=False)
    y = normalised(conv, build.batch_norm(f"{name}project_bn"), y, train)
    # By published widths, as the shortcuts of a pruned network must be those of its file.
    if block.stride != 1 or block.inputs != block.features:
        # No activation behind a projection: in so few channels a ReLU loses what it cuts off.
        return build.tap(f"{name}project_bn")(y)
    rate = build.options.drop_connect_rate * block.number / total
    y = drop_connect(y, keys, rate, block.number)
    return build.tap(f"{name}add")(build.add(f"{name}add")(x, y))


def _squeeze_excite(build: Builder, block: Block, x: jax.Array) -> jax.Array:
    """Scales every channel by a gate computed from the means of all channels."""
    name = block.name
    mean = build.tap(f"{name}se_squeeze")(jnp.mean(x, (1, 2), dtype=jnp.float32, keepdims=True))
    # A quarter of the block's inputs, not of the expanded width that the gate scales.
    squeezed = max(1, int(block.inputs * SE_RATIO))
    gate = build.conv(f"{name}se_reduce", squeezed, use_bias=True)(mean)
    gate = _activation(build, f"{name}se_reduce_activation", gate)
    # The gate is as wide as what it scales, so this width comes from there.
    gate = build.conv(f"{name}se_expand", x.shape[-1], use_bias=True)(gate)
    gate = build.sigmoid(f"{name}se_expand_activation")(gate)
    return build.tap(f"{name}se_excite")(x * gate)


def _activation(build: Builder, name: str, x: jax.Array) -> jax.Array:
    activation = build.options.activation
    if activation not in ACTIVATIONS:
        raise SpecError(
            f"unknown activation_type '{activation}': expected one of {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[activation](build, name)(x)


def block_of(layer: str) -> int | None:
    """0 for the stem, 1 to 7 for the groups, 8 for the top convolution."""
    if layer in ("stem_conv", "stem_bn"):
        return 0
    if layer in ("top_conv", "top_bn"):
        return len(GROUPS) + 1
    match = re.match(r"block(\d)[a-z]_", layer)
    return int(match[1]) if match else None


def backbone(variant: str) -> Backbone:
    """The row of the table for `efficientnet:<variant>`."""
    return Backbone(
        trunk=functools.partial(EfficientNetTrunk, variant=variant),
        tail=lambda build, stride: EfficientNetTail(build, variant, stride),
        block_of=block_of,
        freeze_ids=tuple(range(len(GROUPS) + 2)),
    )
