"""Names and layouts of detectron2's Faster and Mask R-CNN on ResNet-FPN, brought into ours.

    backbone.bottom_up.res2.0.conv1.weight   -> block_1a_conv_1/kernel
    backbone.bottom_up.res2.0.conv1.norm.*   -> block_1a_bn_1/gamma, beta, moving_mean, moving_variance

Background is last in detectron2's scores, as here. Boxes and masks have no slot for it, so one of zeros
is added. Files are untrusted: what no rule knows keeps its name and will fit no layer.
"""

import re
from collections.abc import Collection, Mapping

import numpy as np

from rcnn_jax.checkpoints.schemes import FPN_CHANNELS, Weights, rows_to_channels_last, y_first
from rcnn_jax.checkpoints.torch_classifiers import Rules, fixed, letter

_LEAVES = {"weight": "kernel", "bias": "bias"}
_NORM_LEAVES = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_LEAF = re.compile(r"\.(weight|bias|running_mean|running_var)$")
# Left by DistributedDataParallel, torch.compile and `{"model": ...}`, in any nesting.
_PREFIX = re.compile(r"^(module\.|_orig_mod\.|model\.)+")
# At most two digits: res4 of R-101 has 23 units, and a forged number would become a name of letters
# without end.
_UNIT = r"backbone\.bottom_up\.res(\d)\.(\d{1,2})\."


def _unit(block: str, unit: str) -> str:
    # Counted from res2, the first stage that has units; the stem is not a block here.
    return f"block_{int(block) - 1}{letter(unit)}"


DETECTRON2: Rules = (
    (r"backbone\.bottom_up\.stem\.conv1", fixed("conv1")),
    (r"backbone\.bottom_up\.stem\.conv1\.norm", fixed("bn_conv1")),
    (_UNIT + r"conv(\d)", lambda m: f"{_unit(m[1], m[2])}_conv_{m[3]}"),
    (_UNIT + r"conv(\d)\.norm", lambda m: f"{_unit(m[1], m[2])}_bn_{m[3]}"),
    (_UNIT + r"shortcut", lambda m: f"{_unit(m[1], m[2])}_conv_shortcut"),
    (_UNIT + r"shortcut\.norm", lambda m: f"{_unit(m[1], m[2])}_bn_shortcut"),
    (r"backbone\.fpn_lateral(\d)", lambda m: f"l{m[1]}"),
    (r"backbone\.fpn_lateral(\d)\.norm", lambda m: f"l{m[1]}_bn"),
    (r"backbone\.fpn_output(\d)", lambda m: f"post_hoc_d{m[1]}"),
    (r"backbone\.fpn_output(\d)\.norm", lambda m: f"post_hoc_d{m[1]}_bn"),
    # With one convolution it is called conv, with more conv.conv0, conv.conv1, ...
    (r"proposal_generator\.rpn_head\.conv(?:\.conv0)?", fixed("rpn")),
    (r"proposal_generator\.rpn_head\.conv\.conv([1-9])", lambda m: f"rpn-conv-l{m[1]}"),
    (r"proposal_generator\.rpn_head\.objectness_logits", fixed("rpn-class")),
    (r"proposal_generator\.rpn_head\.anchor_deltas", fixed("rpn-box")),
    (r"roi_heads\.box_head\.conv(\d)", lambda m: f"box-conv-l{int(m[1]) - 1}"),
    (r"roi_heads\.box_head\.conv(\d)\.norm", lambda m: f"box-conv-l{int(m[1]) - 1}_bn"),
    # fc1 and fc2 there, fc6 and fc7 here: the names of VGG, which TAO kept.
    (r"roi_heads\.box_head\.fc(\d)", lambda m: f"fc{int(m[1]) + 5}"),
    (r"roi_heads\.box_predictor\.cls_score", fixed("class-predict")),
    (r"roi_heads\.box_predictor\.bbox_pred", fixed("box-predict")),
    (r"roi_heads\.mask_head\.mask_fcn(\d)", lambda m: f"mask-conv-l{int(m[1]) - 1}"),
    (r"roi_heads\.mask_head\.mask_fcn(\d)\.norm", lambda m: f"mask-conv-l{int(m[1]) - 1}_bn"),
    (r"roi_heads\.mask_head\.deconv", fixed("conv5-mask")),
    (r"roi_heads\.mask_head\.predictor", fixed("mask_fcn_logits")),
)


def is_detectron2(names: Collection[str]) -> bool:
    """Says whether names of arrays are those of a detectron2 model."""
    # `roi_heads` begins names of both libraries; these two prefixes are detectron2's alone.
    return any(
        _PREFIX.sub("", name).startswith(("backbone.bottom_up.", "proposal_generator."))
        for name in names
    )


def from_detectron2(arrays: Mapping[str, np.ndarray]) -> Weights:
    """Renames and transposes a model's arrays.

    Args:
      arrays: {name: array}, kernels [out in k k].
    """
    weights: Weights = {}
    for name, array in arrays.items():
        match = _LEAF.search(name)
        if match is None:  # anchors, pixel means
            continue
        module = _PREFIX.sub("", name[: match.start()])
        norm = module.endswith(".norm")
        # A norm's `weight` is a vector that must not be transposed, hence two tables.
        leaf = (_NORM_LEAVES if norm else _LEAVES).get(match[1], match[1])
        if leaf == "kernel":
            array = _kernel(array, transposed=module.endswith("mask_head.deconv"))
        weights.setdefault(_layer(module), {})[leaf] = array
    for name in ("rpn-box", "box-predict"):
        if name in weights:
            # Columns of deltas are dx, dy, dw, dh there. Before the padding below, which adds four
            # of zeros.
            weights[name] = y_first(weights[name])
    # A crop is flattened c, h, w there and h, w, c here: the rows of the first dense layer move.
    rows_to_channels_last(weights, "fc6", FPN_CHANNELS)
    for name, columns in (("box-predict", 4), ("mask_fcn_logits", 1)):
        if name in weights:
            weights[name] = {leaf: _padded(a, columns) for leaf, a in weights[name].items()}
    return weights


def _layer(module: str) -> str:
    for pattern, name in DETECTRON2:
        if match := re.fullmatch(pattern, module):
            return name(match)
    # Its own name: the import refuses it by that name, which the user can look up in the library.
    return module


def _kernel(array: np.ndarray, *, transposed: bool) -> np.ndarray:
    if array.ndim == 4:  # transposed convolutions are stored in, out, k, k
        return array.transpose((2, 3, 0, 1) if transposed else (2, 3, 1, 0))
    return array.T


def _padded(array: np.ndarray, columns: int) -> np.ndarray:
    """Appends columns of zeros: the slot of the background, which nothing reads."""
    if not array.ndim:
        return array
    return np.concatenate([array, np.zeros((*array.shape[:-1], columns), array.dtype)], axis=-1)
