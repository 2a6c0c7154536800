"""ResNet: He et al., Deep Residual Learning, 2015, table 1."""

import pytest

from rcnn_jax.models.backbones.resnet import ResNetTrunk, backbone, block_of
from rcnn_jax.models.builder import BackboneOptions, Builder
from tests.models.backbones.tables import PAPER, layer_shapes, tail_of, trunk_of

# (kernel, output channels) of a unit, and units of each block: the columns of the table.
BASIC = {block: ((3, width), (3, width)) for block, width in enumerate((64, 128, 256, 512), 1)}
BOTTLENECK = {
    block: ((1, width), (3, width), (1, 4 * width))
    for block, width in enumerate((64, 128, 256, 512), 1)
}
TABLE = {
    18: (BASIC, (2, 2, 2, 2)),
    34: (BASIC, (3, 4, 6, 3)),
    50: (BOTTLENECK, (3, 4, 6, 3)),
    101: (BOTTLENECK, (3, 4, 23, 3)),
}


@pytest.mark.parametrize("depth", TABLE)
def test_units_are_those_of_the_table(depth):
    unit, repeats = TABLE[depth]
    trunk, levels = trunk_of(backbone(depth))
    width = {18: 1, 34: 1}.get(depth, 4)
    assert levels == {
        2: (56, 56, 64 * width),
        3: (28, 28, 128 * width),
        4: (14, 14, 256 * width),
    }
    tail, vector = tail_of(backbone(depth), 256 * width)
    assert vector == 512 * width
    kernels = trunk | tail
    assert kernels.pop("conv1") == (7, 7, 3, 64)
    for block, count in enumerate(repeats, start=1):
        for i in range(count):
            name = f"block_{block}{chr(ord('a') + i)}"
            for index, (side, channels) in enumerate(unit[block], start=1):
                kernel = kernels.pop(f"{name}_conv_{index}")
                assert (kernel[0], kernel[1], kernel[3]) == (side, side, channels)
            if i == 0:
                assert kernels.pop(f"{name}_conv_shortcut")[3] == unit[block][-1][1]
    assert kernels == {}


def test_without_the_pool_block_1_takes_its_step_and_levels_keep_their_strides():
    _, pooled = trunk_of(backbone(18))
    _, strided = trunk_of(backbone(18), BackboneOptions(use_pooling=False))
    assert pooled == strided


def test_a_fourth_block_is_level_5_of_a_pyramid():
    import jax.numpy as jnp

    trunk = ResNetTrunk(Builder(options=PAPER), depth=18, blocks=4)
    _, levels = layer_shapes(trunk, jnp.zeros((1, 224, 224, 3)))
    assert levels[5].shape == (1, 7, 7, 512)


@pytest.mark.parametrize(
    ("layer", "block"),
    [("conv1", 0), ("bn_conv1", 0), ("block_3w_bn_2", 3), ("rpn_conv1", None), ("fc6", None)],
)
def test_layers_belong_to_blocks(layer, block):
    assert block_of(layer) == block
