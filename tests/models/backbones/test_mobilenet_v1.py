"""MobileNet v1: Howard et al., MobileNets, 2017, table 1."""

from rcnn_jax.models.backbones.mobilenet_v1 import BACKBONE, block_of
from tests.models.backbones.tables import tail_of, trunk_of

# (side of the input, input channels, output channels) of the depthwise and pointwise pairs
TABLE = (
    (112, 32, 64), (112, 64, 128), (56, 128, 128), (56, 128, 256), (28, 256, 256), (28, 256, 512),
    *((14, 512, 512),) * 5, (14, 512, 1024), (7, 1024, 1024),
)  # fmt: skip


def test_pairs_of_convolutions_are_those_of_the_table():
    trunk, levels = trunk_of(BACKBONE)
    tail, vector = tail_of(BACKBONE, 512)
    kernels = trunk | tail
    assert (levels, vector) == ({4: (14, 14, 512)}, 1024)
    assert kernels.pop("conv1") == (3, 3, 3, 32)
    for index, (_, inputs, outputs) in enumerate(TABLE, start=1):
        assert kernels.pop(f"conv_pw_{index}") == (1, 1, inputs, outputs)
        depthwise = kernels.pop(f"conv_dw_{index}")
        assert depthwise[:2] == (3, 3) and inputs in depthwise[2:]
    assert kernels == {}


def test_the_trunk_ends_where_the_map_has_a_sixteenth_of_the_side():
    sides = [side for side, _, _ in TABLE]
    assert sides.count(14) == 6, "the last of them is the first of the tail, whose stride is 2"
    assert BACKBONE.freeze_ids == tuple(range(12))


def test_layers_belong_to_their_pair():
    assert [block_of(name) for name in ("conv1_bn", "conv_dw_7_bn", "conv_pw_13", "fc")] == [
        0, 7, 13, None,
    ]  # fmt: skip
