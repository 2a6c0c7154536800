"""`resnet101`: the ResNet-101 of Keras applications, He et al. 2015, table 1."""

from rcnn_jax.models.backbones.resnet101 import BACKBONE, block_of
from tests.models.backbones.tables import tail_of, trunk_of


def test_stacks_are_those_of_the_table_with_a_projection_in_the_first_unit():
    trunk, levels = trunk_of(BACKBONE)
    assert levels == {4: (14, 14, 1024)}
    tail, vector = tail_of(BACKBONE, 1024)
    assert vector == 2048
    kernels = trunk | tail
    assert kernels.pop("conv1_conv") == (7, 7, 3, 64)
    for stack, width, units in ((2, 64, 3), (3, 128, 4), (4, 256, 23), (5, 512, 3)):
        for unit in range(1, units + 1):
            name = f"conv{stack}_block{unit}"
            assert kernels.pop(f"{name}_1_conv")[3] == width
            assert kernels.pop(f"{name}_2_conv") == (3, 3, width, width)
            assert kernels.pop(f"{name}_3_conv") == (1, 1, width, 4 * width)
            assert (kernels.pop(f"{name}_0_conv", None) is not None) == (unit == 1)
    assert kernels == {}


def test_layers_belong_to_stacks():
    layers = ("conv1_bn", "conv2_block3_0_bn", "conv5_block1_1_conv", "fc1")
    assert [block_of(layer) for layer in layers] == [0, 1, 4, None]
