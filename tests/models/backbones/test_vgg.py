"""VGG: Simonyan and Zisserman, 2014, table 1, columns D and E."""

import pytest

from rcnn_jax.models.backbones.vgg import PLAIN, backbone, block_of
from rcnn_jax.models.builder import BackboneOptions
from tests.models.backbones.tables import tail_of, trunk_of

D = (64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3
E = (64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4


def widths(kernels):
    """Output channels of every convolution, all of them 3x3, in order."""
    assert {kernel[:2] for kernel in kernels.values()} == {(3, 3)}
    return [kernels[name][3] for name in sorted(kernels)]


@pytest.mark.parametrize(("depth", "column"), [(16, D), (19, E)])
@pytest.mark.parametrize("pooling", [True, False])
def test_the_template_has_the_column_with_four_halvings(depth, column, pooling):
    kernels, levels = trunk_of(backbone(depth), BackboneOptions(use_pooling=pooling))
    assert widths(kernels) == [width for block in column for width in block]
    assert levels == {4: (14, 14, 512)}, "without the fifth pool"
    assert "block_5c_conv_1" in kernels and "block_1a_conv_1" in kernels


def test_the_plain_one_has_the_names_of_keras():
    kernels, levels = trunk_of(PLAIN)
    assert widths(kernels) == [width for block in D for width in block]
    assert levels == {4: (14, 14, 512)} and "block5_conv3" in kernels


@pytest.mark.parametrize("stride", [1, 2])
def test_the_tail_is_two_dense_layers_over_seven_by_seven_cells(stride):
    kernels, vector = tail_of(backbone(16), 512, stride=stride)
    assert kernels == {"fc1": (7 * 7 * 512, 4096), "fc2": (4096, 4096)} and vector == 4096


def test_layers_belong_to_blocks_in_either_way_of_naming():
    layers = ("block_3a_conv_1", "block3_conv2", "fc1", "rpn_conv1")
    assert [block_of(layer) for layer in layers] == [3, 3, None, None]
