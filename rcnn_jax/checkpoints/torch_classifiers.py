"""Module names of torchvision's and timm's classifiers, mapped to layers of the original.

    torchvision    ResNet, VGG (by order, see `torch_names`), GoogLeNet, MobileNet v2, EfficientNet
    timm           ResNet, MobileNet v1 and v2, EfficientNet, DarkNet-53

A table of rules per family. Modules that no other family has identify the family of a file.
"""

import re
from collections.abc import Callable, Collection

Rule = tuple[str, Callable[[re.Match], str]]
Rules = tuple[Rule, ...]


def letter(index: str | int) -> str:
    """0 -> a, 1 -> b, ..."""
    return chr(ord("a") + int(index))


def fixed(name: str) -> Callable[[re.Match], str]:
    """A name that does not depend on the match."""
    return lambda match: name


_UNIT = r"layer(\d)\.(\d{1,2})\."
RESNET: Rules = (
    (r"conv1", fixed("conv1")),
    (r"bn1", fixed("bn_conv1")),
    (_UNIT + r"(conv|bn)(\d)", lambda m: f"block_{m[1]}{letter(m[2])}_{m[3]}_{m[4]}"),
    (_UNIT + r"downsample\.0", lambda m: f"block_{m[1]}{letter(m[2])}_conv_shortcut"),
    (_UNIT + r"downsample\.1", lambda m: f"block_{m[1]}{letter(m[2])}_bn_shortcut"),
)

# The first block has no expansion, so the same numbers mean other layers in it. Keras counts blocks
# from the second one, hence the name without a number and the `- 1` below.
_INVERTED = {"0.0": "expand", "0.1": "expand_bn", "1.0": "depthwise", "1.1": "depthwise_bn"}
_INVERTED |= {"2": "project", "3": "project_bn"}
_FIRST = {"0.0": "depthwise", "0.1": "depthwise_bn", "1": "project", "2": "project_bn"}
MOBILENET_V2: Rules = (
    (r"features\.0\.0", fixed("conv1")),
    (r"features\.0\.1", fixed("bn_conv1")),
    (r"features\.18\.0", fixed("conv_1")),
    (r"features\.18\.1", fixed("conv_1_bn")),
    (r"features\.1\.conv\.(0\.0|0\.1|1|2)", lambda m: f"expanded_conv_{_FIRST[m[1]]}"),
    (
        r"features\.(\d{1,2})\.conv\.(0\.0|0\.1|1\.0|1\.1|2|3)",
        lambda m: f"block_{int(m[1]) - 1}_{_INVERTED[m[2]]}",
    ),
)

# The same in EfficientNet: blocks of the first stage begin with the depthwise convolution, and
# their rule stands before that of all stages.
_STEM_BLOCK = {"conv_dw": "dwconv", "bn1": "bn", "conv_pw": "project_conv", "bn2": "project_bn"}
_BLOCK = {"conv_pw": "expand_conv", "bn1": "expand_bn", "conv_dw": "dwconv", "bn2": "bn"}
_BLOCK |= {"conv_pwl": "project_conv", "bn3": "project_bn"}
EFFICIENTNET: Rules = (
    (r"conv_stem", fixed("stem_conv")),
    (r"bn1", fixed("stem_bn")),
    (r"conv_head", fixed("top_conv")),
    (r"bn2", fixed("top_bn")),
    (
        r"blocks\.(\d)\.(\d{1,2})\.se\.conv_(reduce|expand)",
        lambda m: f"block{int(m[1]) + 1}{letter(m[2])}_se_{m[3]}",
    ),
    (
        r"blocks\.0\.(\d{1,2})\.(conv_dw|bn1|conv_pw|bn2)",
        lambda m: f"block1{letter(m[1])}_{_STEM_BLOCK[m[2]]}",
    ),
    (
        r"blocks\.(\d)\.(\d{1,2})\.(conv_pwl|conv_pw|conv_dw|bn[123])",
        lambda m: f"block{int(m[1]) + 1}{letter(m[2])}_{_BLOCK[m[3]]}",
    ),
)

_SE = {"fc1": "se_reduce", "fc2": "se_expand"}
_IN_FIRST = {"0.0": "dwconv", "0.1": "bn", "2.0": "project_conv", "2.1": "project_bn"}
_IN_OTHERS = {"0.0": "expand_conv", "0.1": "expand_bn", "1.0": "dwconv", "1.1": "bn"}
_IN_OTHERS |= {"3.0": "project_conv", "3.1": "project_bn"}
_AT = r"features\.(\d)\.(\d{1,2})\.block\."
EFFICIENTNET_TORCHVISION: Rules = (
    (r"features\.0\.0", fixed("stem_conv")),
    (r"features\.0\.1", fixed("stem_bn")),
    (r"features\.8\.0", fixed("top_conv")),
    (r"features\.8\.1", fixed("top_bn")),
    (_AT + r"\d\.(fc[12])", lambda m: f"block{m[1]}{letter(m[2])}_{_SE[m[3]]}"),
    (
        r"features\.1\.(\d{1,2})\.block\.([02]\.[01])",
        lambda m: f"block1{letter(m[1])}_{_IN_FIRST[m[2]]}",
    ),
    (_AT + r"([013]\.[01])", lambda m: f"block{m[1]}{letter(m[2])}_{_IN_OTHERS[m[3]]}"),
)

_BRANCHES = {"1": "1x1", "2.0": "3x3_reduce", "2.1": "3x3", "3.0": "5x5_reduce", "3.1": "5x5"}
_BRANCHES |= {"4.1": "pool_proj"}
_STEM = {"conv1": "conv1", "conv2": "conv2_reduce", "conv3": "conv2"}
GOOGLENET: Rules = (
    (r"(conv[123])\.conv", lambda m: _STEM[m[1]]),
    (r"(conv[123])\.bn", lambda m: f"bn_{_STEM[m[1]]}"),
    (
        r"inception(\d[a-e])\.branch(1|2\.[01]|3\.[01]|4\.1)\.(conv|bn)",
        lambda m: f"inception_{m[1]}_{_BRANCHES[m[2]]}{'_bn' if m[3] == 'bn' else ''}",
    ),
)
"""torchvision's 5x5 kernels are 3x3 by mistake, so these layers do not fit and are reported."""

_PART = {"conv": "", "bn": "_bn"}
DARKNET_53: Rules = (
    (r"stem\.conv1\.(conv|bn)", lambda m: f"conv1{_PART[m[1]]}"),
    (r"stages\.(\d)\.conv_down\.(conv|bn)", lambda m: f"conv{int(m[1]) + 2}{_PART[m[2]]}"),
    (
        r"stages\.(\d)\.blocks\.(\d)\.conv([12])\.(conv|bn)",
        lambda m: f"b{int(m[1]) + 1}_conv{int(m[2]) + 1}_{m[3]}{_PART[m[4]]}",
    ),
)


def classifier_rules(modules: Collection[str]) -> Rules | None:
    """Returns the rules for the family of a file's modules, None for a ResNet or a detector."""
    # timm's EfficientNets and MobileNets have a stem of one name; only the former have
    # squeeze-and-excitation.
    if "conv_stem" in modules:
        if any(".se." in module for module in modules):
            return EFFICIENTNET
        return _mobilenet_of_timm(modules)
    if "features.1.0.block.0.0" in modules:
        return EFFICIENTNET_TORCHVISION
    if "features.0.0" in modules:
        return MOBILENET_V2
    if "inception3a.branch1.conv" in modules:
        return GOOGLENET
    if "stages.0.conv_down.conv" in modules:
        return DARKNET_53
    return None


def _mobilenet_of_timm(modules: Collection[str]) -> Rules:
    """Rules for MobileNet v1 or v2, whose blocks timm counts anew in every stage."""
    block = r"blocks\.(\d{1,2}\.\d{1,2})\."
    positions = {match[1] for match in (re.match(block, module) for module in modules) if match}
    ordered = sorted(positions, key=lambda position: [int(part) for part in position.split(".")])
    number = {position: n for n, position in enumerate(ordered)}
    if not any(module.endswith(".conv_pwl") for module in modules):
        kinds = {"conv_dw": ("dw", ""), "bn1": ("dw", "_bn")}
        kinds |= {"conv_pw": ("pw", ""), "bn2": ("pw", "_bn")}

        def separable(m: re.Match) -> str:
            kind, part = kinds[m[2]]
            return f"conv_{kind}_{number[m[1]] + 1}{part}"

        return (
            (r"conv_stem", fixed("conv1")),
            (r"bn1", fixed("conv1_bn")),
            (block + r"(conv_dw|conv_pw|bn[12])", separable),
        )
    first = {"conv_dw": "depthwise", "bn1": "depthwise_bn", "conv_pw": "project"}
    first |= {"bn2": "project_bn"}
    others = {"conv_pw": "expand", "bn1": "expand_bn", "conv_dw": "depthwise"}
    others |= {"bn2": "depthwise_bn", "conv_pwl": "project", "bn3": "project_bn"}
    return (
        (r"conv_stem", fixed("conv1")),
        (r"bn1", fixed("bn_conv1")),
        (r"conv_head", fixed("conv_1")),
        (r"bn2", fixed("conv_1_bn")),
        (rf"blocks\.0\.0\.({'|'.join(first)})", lambda m: f"expanded_conv_{first[m[1]]}"),
        (block + f"({'|'.join(others)})", lambda m: f"block_{number[m[1]]}_{others[m[2]]}"),
    )
