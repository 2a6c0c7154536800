"""Weights of torchvision and timm models, and of files with folded batch norm.

Supported are the classifiers of `torch_classifiers`, VGG, Faster and Mask R-CNN with ResNet-FPN of
torchvision, and numbered MobileNet convolutions. Files are untrusted: a module that no rule knows keeps
its name, and so does every module of a file that lacks what a rule needs.
"""

import math
import re
from collections.abc import Mapping

import numpy as np

from rcnn_jax.checkpoints.detectron2_names import from_detectron2, is_detectron2
from rcnn_jax.checkpoints.schemes import (
    FPN_CHANNELS,
    VGG_CHANNELS,
    Weights,
    background_last,
    by_layer,
    folded_batch_norm,
    from_keras,
    rows_to_channels_last,
    y_first,
)
from rcnn_jax.checkpoints.torch_classifiers import RESNET, Rules, classifier_rules, fixed, letter

_LEAF = re.compile(r"\.(weight|bias|running_mean|running_var)$")
# Added by DataParallel, by torch.compile and by torchvision's detectors, also several at once.
_PREFIX = re.compile(r"^(module\.|_orig_mod\.|backbone\.body\.)+")
_FOLDED = re.compile(r"^(?P<number>\d{1,3})_(?P<kind>conv|depthwise)\.[wb]$")
_BATCH_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_VGG_REPEATS = {13: (2, 2, 3, 3, 3), 16: (2, 2, 4, 4, 4)}


DETECTOR: Rules = (
    *RESNET,
    (r"backbone\.fpn\.inner_blocks\.(\d)(?:\.0)?", lambda m: f"l{int(m[1]) + 2}"),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.1", lambda m: f"l{int(m[1]) + 2}_bn"),
    (r"backbone\.fpn\.layer_blocks\.(\d)(?:\.0)?", lambda m: f"post_hoc_d{int(m[1]) + 2}"),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.1", lambda m: f"post_hoc_d{int(m[1]) + 2}_bn"),
    (r"rpn\.head\.conv(?:\.0\.0)?", fixed("rpn")),
    (r"rpn\.head\.conv\.([1-9])\.0", lambda m: f"rpn-conv-l{m[1]}"),
    (r"rpn\.head\.cls_logits", fixed("rpn-class")),
    (r"rpn\.head\.bbox_pred", fixed("rpn-box")),
    (r"roi_heads\.box_head\.(fc[67])", lambda m: m[1]),
    (r"roi_heads\.box_head\.([0-3])\.0", lambda m: f"box-conv-l{m[1]}"),
    (r"roi_heads\.box_head\.([0-3])\.1", lambda m: f"box-conv-l{m[1]}_bn"),
    (r"roi_heads\.box_head\.5", fixed("fc6")),  # 4 flattens
    (r"roi_heads\.box_predictor\.cls_score", fixed("class-predict")),
    (r"roi_heads\.box_predictor\.bbox_pred", fixed("box-predict")),
    (r"roi_heads\.mask_head\.(\d)\.0", lambda m: f"mask-conv-l{m[1]}"),
    (r"roi_heads\.mask_head\.(\d)\.1", lambda m: f"mask-conv-l{m[1]}_bn"),
    (r"roi_heads\.mask_head\.mask_fcn(\d)", lambda m: f"mask-conv-l{int(m[1]) - 1}"),
    (r"roi_heads\.mask_predictor\.conv5_mask", fixed("conv5-mask")),
    (r"roi_heads\.mask_predictor\.mask_fcn_logits", fixed("mask_fcn_logits")),
)


def from_flat(arrays: Mapping[str, np.ndarray], bn_eps: float = 1e-3) -> Weights:
    """Groups flat names of any supported project by layer.

    Supported are our own (`params/conv1/kernel`, orders as inside), those of the original in Keras
    (`conv1/kernel:0`, orders as there), torchvision's and timm's (`layer1.0.conv1.weight`),
    detectron2's (`backbone.bottom_up.stem.conv1.weight`), and numbered convolutions with folded batch
    norm (`00_conv.w`).

    Args:
      arrays: {name: array}.
      bn_eps: epsilon of the model's batch norm, for files that have none.
    """
    # From the most particular to the least: any flat name could be one of Keras.
    if any(name.startswith("params/") for name in arrays):
        return by_layer(arrays)
    if any(_FOLDED.match(name) for name in arrays):
        return from_folded(arrays, bn_eps)
    if is_detectron2(arrays):
        return from_detectron2(arrays)
    if any(_LEAF.search(name) for name in arrays):
        return from_torch(arrays, bn_eps)
    return from_keras(by_layer(arrays))


def from_torch(arrays: Mapping[str, np.ndarray], bn_eps: float = 1e-3) -> Weights:
    """Renames and transposes a state dict.

    Args:
      arrays: {name: array} of a state dict.
      bn_eps: epsilon of the model's batch norm, where the file has none (plain VGG).
    """
    modules: Weights = {}
    for name, array in arrays.items():
        match = _LEAF.search(name)
        if match:
            module = _PREFIX.sub("", name[: match.start()])
            modules.setdefault(module, {})[match[1]] = array
    weights = {module: _leaves(module, leaves) for module, leaves in modules.items()}
    rules = classifier_rules(weights)
    if rules is not None:
        return renamed(weights, rules)
    if "features.0" in weights:
        return _vgg(weights, bn_eps)
    weights = _with_first_shortcut(renamed(weights, DETECTOR), bn_eps)
    for name in ("rpn-box", "box-predict"):
        if name in weights:
            weights[name] = y_first(weights[name])
    rows_to_channels_last(weights, "fc6", FPN_CHANNELS)
    return background_last(weights)


def _with_first_shortcut(weights: Weights, bn_eps: float) -> Weights:
    """Gives a ResNet of pairs of convolutions the projection of its first unit: the identity.

    Ours has one there, as the original's has; torchvision's passes its input on.
    """
    kernel = weights.get("block_1a_conv_2", {}).get("kernel")
    known = {"block_1a_conv_3", "block_1a_conv_shortcut"} & weights.keys()
    if kernel is None or kernel.ndim != 4 or known:
        return weights
    width = kernel.shape[-1]
    identity = np.eye(width, dtype=np.float32)[None, None]
    return {
        **weights,
        "block_1a_conv_shortcut": {"kernel": identity},
        "block_1a_bn_shortcut": folded_batch_norm(np.zeros(width, np.float32), bn_eps),
    }


def from_folded(arrays: Mapping[str, np.ndarray], bn_eps: float) -> Weights:
    """Names numbered convolutions of MobileNet v1 or v2 by their order.

    `NN_conv.w`, `NN_depthwise.w` (out, in/groups, kh, kw) and `.b`; batch norm is folded, so the
    one that follows gets only the bias.
    """
    kinds = {
        int(match["number"]): match["kind"] for name in arrays if (match := _FOLDED.match(name))
    }
    stems = {number: f"{number:02d}_{kinds[number]}" for number in sorted(kinds)}
    if not all(f"{s}.b" in arrays and _ndim(arrays.get(f"{s}.w")) == 4 for s in stems.values()):
        return by_layer(arrays)
    order = [kinds[number] for number in sorted(kinds)]
    # Version 1 repeats (depthwise, pointwise); version 2 has an expansion after its first pair.
    names = _mobilenet_v1(order) if order[1:3] == order[3:5] else _mobilenet_v2(order)
    if len(names) != len(stems):
        return by_layer(arrays)
    weights: Weights = {}
    for stem, (layer, batch_norm) in zip(stems.values(), names, strict=True):
        weights[layer] = {"kernel": arrays[f"{stem}.w"].transpose(2, 3, 1, 0)}
        weights[batch_norm] = folded_batch_norm(arrays[f"{stem}.b"], bn_eps)
    return weights


def _mobilenet_v1(order: list[str]) -> list[tuple[str, str]]:
    """conv1, then pairs of depthwise and pointwise convolutions."""
    names = ["conv1"]
    for index in range(1, len(order)):
        names.append(f"conv_{'dw' if order[index] == 'depthwise' else 'pw'}_{(index + 1) // 2}")
    return [(name, f"{name}_bn") for name in names]


def _mobilenet_v2(order: list[str]) -> list[tuple[str, str]]:
    """conv1, a block without expansion, blocks of three, then conv_1 and the classifier."""
    names = [("conv1", "bn_conv1")]
    blocks = order.count("depthwise")
    for block in range(blocks):
        stem = f"block_{block}" if block else "expanded_conv"
        parts = ("expand", "depthwise", "project") if block else ("depthwise", "project")
        names += [(f"{stem}_{part}", f"{stem}_{part}_bn") for part in parts]
    names += [("conv_1", "conv_1_bn"), ("predictions", "predictions_bn")]
    return names[: len(order)]


def _leaves(module: str, leaves: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Leaves of one torch module in our names and layouts."""
    if "running_mean" in leaves:
        return {_BATCH_NORM[leaf]: array for leaf, array in leaves.items()}
    result = {}
    for leaf, array in leaves.items():
        if leaf == "bias":
            result["bias"] = array
        elif array.ndim == 4:
            # Transposed convolutions are stored in, out, k, k.
            axes = (2, 3, 0, 1) if module.endswith("conv5_mask") else (2, 3, 1, 0)
            result["kernel"] = array.transpose(axes)
        else:
            result["kernel"] = array.T
    return result


def renamed(weights: Weights, rules: Rules) -> Weights:
    """Renames modules, each by the first rule that matches."""
    result = {}
    for module, leaves in weights.items():
        matches = ((re.fullmatch(pattern, module), name) for pattern, name in rules)
        layer = next((name(match) for match, name in matches if match), module)
        result[layer] = leaves
    return result


def _vgg(weights: Weights, bn_eps: float) -> Weights:
    """Names the numbered layers of VGG by their order.

    Our convolutions have no bias of their own: it moves into the batch norm that follows, where the
    file has one as a shift of its mean.
    """
    numbered = {
        int(match[1]): leaves
        for module, leaves in weights.items()
        if (match := re.fullmatch(r"features\.(\d{1,3})", module))
    }
    convolutions = [number for number in sorted(numbered) if "kernel" in numbered[number]]
    # Thirteen convolutions are a VGG-16, sixteen a VGG-19; numbers in a Sequential say no more.
    repeats = _VGG_REPEATS.get(len(convolutions))
    if repeats is None:
        return weights
    units = [(block, i) for block, count in enumerate(repeats, 1) for i in range(count)]
    result: Weights = {}
    for (block, index), number in zip(units, convolutions, strict=True):
        leaves, follower = numbered[number], numbered.get(number + 1)
        bias = leaves.get("bias")
        if bias is None:
            return weights
        if follower is None:
            batch_norm = folded_batch_norm(bias, bn_eps)
            result[f"block{block}_conv{index + 1}"] = leaves  # its name in `vgg16`
        else:
            mean = follower.get("moving_mean")
            same = mean is not None and (mean.shape, mean.dtype) == (bias.shape, bias.dtype)
            if not same or bias.dtype == np.bool_:
                return weights
            # (x + b) - m = x - (m - b): the bias is a shift of the mean, exact but for one
            # rounding.
            batch_norm = {**follower, "moving_mean": mean - bias}
        unit = f"block_{block}{letter(index)}"
        result[f"{unit}_conv_1"] = {"kernel": leaves["kernel"]}
        result[f"{unit}_bn_1"] = batch_norm
    for module, name in (("classifier.0", "fc1"), ("classifier.3", "fc2")):
        if module in weights:
            result[name] = weights[module]
    rows_to_channels_last(result, "fc1", VGG_CHANNELS)
    for name in ("fc1", "fc2"):  # timm writes them as convolutions
        leaves = weights.get(f"pre_logits.{name}", {})
        kernel = leaves.get("kernel")
        if kernel is not None and kernel.ndim == 4:
            rows = math.prod(kernel.shape[:3])
            result[name] = {**leaves, "kernel": kernel.reshape(rows, kernel.shape[3])}
    return result


def _ndim(array: np.ndarray | None) -> int:
    return -1 if array is None else array.ndim
