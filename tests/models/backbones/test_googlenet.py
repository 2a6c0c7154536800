"""GoogLeNet: Szegedy et al., Going Deeper with Convolutions, 2015, table 1."""

import pytest

from rcnn_jax.models.backbones.googlenet import BACKBONE, block_of
from tests.models.backbones.tables import tail_of, trunk_of

# block: (#1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj), output size, of the table
TABLE = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
BRANCHES = ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj")


def test_widths_are_those_of_the_table():
    trunk, levels = trunk_of(BACKBONE)
    tail, vector = tail_of(BACKBONE, levels[4][2])
    kernels = trunk | tail
    assert (levels, vector) == ({4: (14, 14, 832)}, 1024)
    assert kernels.pop("conv1") == (7, 7, 3, 64)
    assert kernels.pop("conv2_reduce") == (1, 1, 64, 64)
    assert kernels.pop("conv2") == (3, 3, 64, 192)
    inputs = 192
    for block, row in TABLE.items():
        made = [kernels.pop(f"inception_{block}_{branch}") for branch in BRANCHES]
        assert tuple(kernel[3] for kernel in made) == row
        assert [kernel[0] for kernel in made] == [1, 1, 3, 1, 5, 1]
        assert {made[i][2] for i in (0, 1, 3, 5)} == {inputs}
        inputs = row[0] + row[2] + row[4] + row[5]
    assert kernels == {} and inputs == 1024


@pytest.mark.parametrize(
    ("layer", "block"),
    [
        ("conv2_reduce", 0),
        ("bn_conv1", 0),
        ("inception_3a_1x1", 1),
        ("inception_4e_5x5_bn", 7),
        ("inception_5a_1x1", None),
    ],
)
def test_blocks_of_the_trunk_have_ids_and_those_of_the_tail_have_none(layer, block):
    assert block_of(layer) == block
