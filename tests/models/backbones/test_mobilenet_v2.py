"""MobileNet v2: Sandler et al., MobileNetV2, 2018, table 2."""

from rcnn_jax.models.backbones.mobilenet_v2 import BACKBONE, block_of
from tests.models.backbones.tables import tail_of, trunk_of

# (expansion t, output channels c, repeats n, stride s), the rows of the table
TABLE = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip


def test_bottlenecks_are_those_of_the_table():
    trunk, levels = trunk_of(BACKBONE)
    tail, vector = tail_of(BACKBONE, 96)
    kernels = trunk | tail
    assert (levels, vector) == ({4: (14, 14, 96)}, 1280)
    assert kernels.pop("conv1") == (3, 3, 3, 32) and kernels.pop("conv_1") == (1, 1, 320, 1280)
    inputs, number = 32, 0
    for expansion, outputs, repeats, _ in TABLE:
        for _ in range(repeats):
            name = "expanded_conv" if number == 0 else f"block_{number}"
            if expansion > 1:
                assert kernels.pop(f"{name}_expand") == (1, 1, inputs, expansion * inputs)
            assert expansion * inputs in kernels.pop(f"{name}_depthwise")[2:]
            assert kernels.pop(f"{name}_project") == (1, 1, expansion * inputs, outputs)
            inputs, number = outputs, number + 1
    assert number == 17 and kernels == {}


def test_strides_of_the_table_halve_the_map_five_times_with_the_stem():
    assert 2 * sum(stride == 2 for *_, stride in TABLE) == 8, "four rows, and the stem"


def test_layers_belong_to_their_bottleneck():
    layers = ("bn_conv1", "expanded_conv_project", "block_12_project_bn", "rpn_conv1")
    assert [block_of(layer) for layer in layers] == [0, 1, 13, None]
