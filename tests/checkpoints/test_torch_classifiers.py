"""Module names of torchvision and timm, mapped to layers of the original by rules of a family."""

import pytest

from rcnn_jax.checkpoints.torch_classifiers import (
    DARKNET_53,
    EFFICIENTNET,
    EFFICIENTNET_TORCHVISION,
    GOOGLENET,
    MOBILENET_V2,
    RESNET,
    classifier_rules,
    letter,
)
from rcnn_jax.checkpoints.torch_names import DETECTOR, renamed


@pytest.mark.parametrize(
    ("rules", "module", "layer"),
    [
        (RESNET, "conv1", "conv1"),
        (RESNET, "bn1", "bn_conv1"),
        (RESNET, "layer1.0.conv2", "block_1a_conv_2"),
        (RESNET, "layer3.22.bn3", "block_3w_bn_3"),
        (RESNET, "layer4.0.downsample.0", "block_4a_conv_shortcut"),
        (RESNET, "layer4.0.downsample.1", "block_4a_bn_shortcut"),
        (DETECTOR, "backbone.fpn.inner_blocks.0.0", "l2"),
        (DETECTOR, "backbone.fpn.layer_blocks.3.0", "post_hoc_d5"),
        (DETECTOR, "backbone.fpn.layer_blocks.3", "post_hoc_d5"),
        (DETECTOR, "rpn.head.conv.0.0", "rpn"),
        (DETECTOR, "roi_heads.mask_head.2.0", "mask-conv-l2"),
        (DETECTOR, "roi_heads.mask_head.mask_fcn3", "mask-conv-l2"),
        (DETECTOR, "somewhere.else", "somewhere.else"),
        (MOBILENET_V2, "features.1.conv.1", "expanded_conv_project"),
        (MOBILENET_V2, "features.17.conv.1.1", "block_16_depthwise_bn"),
        (MOBILENET_V2, "features.2.conv.3", "block_1_project_bn"),
        (EFFICIENTNET, "conv_stem", "stem_conv"),
        (EFFICIENTNET, "blocks.0.0.conv_pw", "block1a_project_conv"),
        (EFFICIENTNET, "blocks.1.1.conv_pw", "block2b_expand_conv"),
        (EFFICIENTNET, "blocks.6.0.bn3", "block7a_project_bn"),
        (EFFICIENTNET, "blocks.2.1.se.conv_reduce", "block3b_se_reduce"),
        (EFFICIENTNET_TORCHVISION, "features.0.1", "stem_bn"),
        (EFFICIENTNET_TORCHVISION, "features.1.0.block.0.0", "block1a_dwconv"),
        (EFFICIENTNET_TORCHVISION, "features.1.0.block.1.fc1", "block1a_se_reduce"),
        (EFFICIENTNET_TORCHVISION, "features.1.1.block.2.1", "block1b_project_bn"),
        (EFFICIENTNET_TORCHVISION, "features.2.1.block.0.0", "block2b_expand_conv"),
        (EFFICIENTNET_TORCHVISION, "features.7.0.block.1.1", "block7a_bn"),
        (EFFICIENTNET_TORCHVISION, "features.3.1.block.2.fc2", "block3b_se_expand"),
        (EFFICIENTNET_TORCHVISION, "features.3.0.block.3.0", "block3a_project_conv"),
        (EFFICIENTNET_TORCHVISION, "features.8.0", "top_conv"),
        (GOOGLENET, "conv2.bn", "bn_conv2_reduce"),
        (GOOGLENET, "inception4e.branch1.conv", "inception_4e_1x1"),
        (GOOGLENET, "inception3a.branch2.0.bn", "inception_3a_3x3_reduce_bn"),
        (GOOGLENET, "inception5b.branch4.1.conv", "inception_5b_pool_proj"),
        (DARKNET_53, "stem.conv1.bn", "conv1_bn"),
        (DARKNET_53, "stages.4.conv_down.conv", "conv6"),
        (DARKNET_53, "stages.3.blocks.7.conv2.bn", "b4_conv8_2_bn"),
    ],
)
def test_modules_are_named_as_layers_of_the_original(rules, module, layer):
    assert list(renamed({module: {}}, rules)) == [layer]


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (
            ["conv_stem", "bn1", "blocks.0.0.conv_dw", "blocks.1.0.bn1", "blocks.1.1.conv_pw"],
            ["conv1", "conv1_bn", "conv_dw_1", "conv_dw_2_bn", "conv_pw_3"],
        ),
        (
            ["conv_stem", "bn1", "blocks.0.0.bn2", "blocks.1.0.conv_pwl", "blocks.1.1.bn1", "bn2"],
            [
                "conv1",
                "bn_conv1",
                "expanded_conv_project_bn",
                "block_1_project",
                "block_2_expand_bn",
                "conv_1_bn",
            ],
        ),
    ],
)
def test_blocks_of_timms_mobilenets_are_counted_through(files, names):
    assert list(renamed({module: {} for module in files}, classifier_rules(files))) == names


@pytest.mark.parametrize(
    ("modules", "rules"),
    [
        (["conv_stem", "blocks.0.0.se.conv_reduce"], EFFICIENTNET),
        (["features.0.0", "features.1.0.block.0.0"], EFFICIENTNET_TORCHVISION),
        (["features.0.0", "features.1.conv.0.0"], MOBILENET_V2),
        (["conv1.conv", "inception3a.branch1.conv"], GOOGLENET),
        (["stem.conv1.conv", "stages.0.conv_down.conv"], DARKNET_53),
        (["conv1", "layer1.0.conv1"], None),
        (["backbone.body.conv1"], None),
    ],
)
def test_the_family_of_a_file_is_known_by_modules_that_no_other_has(modules, rules):
    assert classifier_rules(modules) == rules


def test_letters_count_the_units_of_a_block():
    assert [letter(index) for index in (0, "1", 22)] == ["a", "b", "w"]
