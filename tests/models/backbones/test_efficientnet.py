"""EfficientNet: Tan and Le, 2019, table 1, and section 3.3 for the scaling of b1 to b7."""

import math

import pytest

from rcnn_jax.errors import SpecError
from rcnn_jax.models.backbones.efficientnet import (
    SCALING,
    backbone,
    block_count,
    block_of,
    blocks,
    scaled_width,
)
from rcnn_jax.models.builder import BackboneOptions
from tests.models.backbones.tables import PAPER, tail_of, trunk_of

# (kernel, expansion, channels, layers, stride of the first) of stages 2 to 8 of table 1
TABLE = (
    (3, 1, 16, 1, 1), (3, 6, 24, 2, 2), (5, 6, 40, 2, 2), (3, 6, 80, 3, 2), (5, 6, 112, 3, 1),
    (5, 6, 192, 4, 2), (3, 6, 320, 1, 1),
)  # fmt: skip


def test_b0_has_the_blocks_of_the_table():
    rows = [row for row in TABLE for _ in range(row[3])]
    made = list(blocks("b0"))
    assert [(b.kernel_size, b.expansion, b.features) for b in made] == [row[:3] for row in rows]
    assert [b.number for b in made] == list(range(16)) and block_count("b0") == 16
    assert [b.stride for b in made].count(2) == 4, "one per halving behind the stem"


def test_the_trunk_and_tail_of_b0_are_the_stages():
    kernels, levels = trunk_of(backbone("b0"))
    assert levels == {4: (14, 14, 112)}
    assert kernels["stem_conv"] == (3, 3, 3, 32)
    assert kernels["block2a_expand_conv"] == (1, 1, 16, 96)
    assert kernels["block3b_se_reduce"] == (1, 1, 240, 10), "a quarter of the block's inputs"
    assert "block1a_expand_conv" not in kernels
    tail, vector = tail_of(backbone("b0"), 112)
    assert tail["top_conv"] == (1, 1, 320, 1280) and vector == 1280


@pytest.mark.parametrize(
    ("variant", "stem", "count", "last"),
    [("b1", 32, 23, 320), ("b3", 40, 26, 384), ("b5", 48, 39, 512), ("b7", 64, 55, 640)],
)
def test_wider_and_deeper_variants_follow_the_coefficients(variant, stem, count, last):
    assert scaled_width(32, variant) == stem
    made = list(blocks(variant))
    assert len(made) == block_count(variant) == count and made[-1].features == last


@pytest.mark.parametrize("variant", SCALING)
def test_widths_are_multiples_of_eight_at_most_a_tenth_narrower(variant):
    for width in (16, 24, 40, 80, 112, 192, 320, 1280):
        scaled = scaled_width(width, variant)
        assert scaled % 8 == 0 and scaled >= 0.9 * width * SCALING[variant][0]
    depth = SCALING[variant][1]
    assert block_count(variant) == sum(math.ceil(row[3] * depth) for row in TABLE)


def test_an_unknown_activation_is_named():
    options = BackboneOptions(**{**vars(PAPER), "activation": "swash"})
    with pytest.raises(SpecError, match="unknown activation_type 'swash': expected one of swish,"):
        trunk_of(backbone("b0"), options)


def test_layers_belong_to_groups():
    layers = ("stem_bn", "block1a_dwconv", "block7a_se_expand", "top_conv", "rpn_conv1")
    assert [block_of(layer) for layer in layers] == [0, 1, 7, 8, None]
