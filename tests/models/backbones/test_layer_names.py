"""Layer names of the original, by which weights are loaded: its patterns, written out by hand.

The names of `resnet101`, `vgg16` and EfficientNet are compared with those of Keras in
tests/peers/test_backbones_keras.py, those of DarkNet with a slow reading in test_darknet.py.
"""

import pytest

from rcnn_jax.models import BackboneOptions, FasterRcnn, parameter_order
from rcnn_jax.models.backbones import BACKBONES
from rcnn_jax.models.heads import PREDICTORS
from rcnn_jax.spec.tables.faster_rcnn_model import ARCHITECTURES, FREEZABLE_BLOCKS


def layers_of(arch, **options):
    model = FasterRcnn(arch, 3, 9, options=BackboneOptions(**options))
    names = {path.split("/")[0] for path, _ in parameter_order(model)}
    return names - PREDICTORS - {"rpn_conv1"}


def resnet(units, convolutions, shortcuts):
    """`units` per block as a string of letters; `shortcuts` names the units that project."""
    names = {"conv1", "bn_conv1"}
    for block, letters in enumerate(units, start=1):
        for letter in letters:
            unit = f"block_{block}{letter}"
            for index in range(1, convolutions + 1):
                names |= {f"{unit}_conv_{index}", f"{unit}_bn_{index}"}
            if letter in shortcuts:
                names |= {f"{unit}_conv_shortcut", f"{unit}_bn_shortcut"}
    return names


def with_norm(*names):
    return {*names, *(f"{name}_bn" for name in names)}


BRANCHES = ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj")
INCEPTIONS = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
MOBILE_PARTS = ("expand", "depthwise", "project")
# Blocks of MobileNet v2 that keep stride and width, and therefore have a shortcut.
MOBILE_SHORTCUTS = (2, 4, 5, 7, 8, 9, 11, 12, 14, 15)
MOBILENET_V2 = {"conv1", "bn_conv1"} | with_norm(
    "conv_1",
    "expanded_conv_depthwise",
    "expanded_conv_project",
    *(f"block_{block}_{part}" for block in range(1, 17) for part in MOBILE_PARTS),
)


@pytest.mark.parametrize(
    ("arch", "options", "expected"),
    [
        ("resnet:10", {}, resnet(("a", "a", "a", "a"), 2, "a")),
        ("resnet:18", {}, resnet(("ab", "ab", "ab", "ab"), 2, "ab")),
        ("resnet:18", {"all_projections": False}, resnet(("ab", "ab", "ab", "ab"), 2, "a")),
        ("resnet:34", {}, resnet(("abc", "abcd", "abcdef", "abc"), 2, "abcdef")),
        ("resnet:50", {}, resnet(("abc", "abcd", "abcdef", "abc"), 3, "abcdef")),
        (
            "resnet:101",
            {"all_projections": False},
            resnet(("abc", "abcd", "abcdefghijklmnopqrstuvw", "abc"), 3, "a"),
        ),
        *(
            (
                arch,
                {},
                {"fc1", "fc2"}
                | {
                    f"block_{block}{letter}_{kind}_1"
                    for block, letters in enumerate(units, start=1)
                    for letter in letters
                    for kind in ("conv", "bn")
                },
            )
            for arch, units in (
                ("vgg:16", ("ab", "ab", "abc", "abc", "abc")),
                ("vgg:19", ("ab", "ab", "abcd", "abcd", "abcd")),
            )
        ),
        (
            "googlenet",
            {},
            {"conv1", "bn_conv1", "conv2_reduce", "bn_conv2_reduce", "conv2", "bn_conv2"}
            | with_norm(*(f"inception_{i}_{branch}" for i in INCEPTIONS for branch in BRANCHES)),
        ),
        (
            "mobilenet_v1",
            {},
            with_norm("conv1", *(f"conv_{k}w_{i}" for k in ("d", "p") for i in range(1, 14))),
        ),
        (
            "mobilenet_v2",
            {},
            MOBILENET_V2 | {f"block_{block}_projected_inputs" for block in MOBILE_SHORTCUTS},
        ),
        ("mobilenet_v2", {"all_projections": False}, MOBILENET_V2),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_layers_have_the_names_of_the_original(arch, options, expected):
    assert layers_of(arch, **options) == expected


def test_spec_and_models_know_the_same_backbones_and_blocks():
    assert set(ARCHITECTURES) == set(BACKBONES)
    for arch, backbone in BACKBONES.items():
        assert tuple(FREEZABLE_BLOCKS[arch.split(":")[0]]) == backbone.freeze_ids
