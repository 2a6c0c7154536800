"""Weights of detectron2's `mask_rcnn_R_50_FPN` from a seed: torchvision's under its names."""

import re

import numpy as np

from tests.reference.torchvision_weights import state_dict

_RULES = (
    (r"backbone\.body\.conv1", r"backbone.bottom_up.stem.conv1"),
    (r"backbone\.body\.bn1", r"backbone.bottom_up.stem.conv1.norm"),
    (r"backbone\.body\.layer(\d)\.(\d+)\.conv(\d)", r"backbone.bottom_up.res<\1>.\2.conv\3"),
    (r"backbone\.body\.layer(\d)\.(\d+)\.bn(\d)", r"backbone.bottom_up.res<\1>.\2.conv\3.norm"),
    (r"backbone\.body\.layer(\d)\.(\d+)\.downsample\.0", r"backbone.bottom_up.res<\1>.\2.shortcut"),
    (
        r"backbone\.body\.layer(\d)\.(\d+)\.downsample\.1",
        r"backbone.bottom_up.res<\1>.\2.shortcut.norm",
    ),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.0", r"backbone.fpn_lateral<<\1>>"),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.0", r"backbone.fpn_output<<\1>>"),
    (r"rpn\.head\.conv\.0\.0", r"proposal_generator.rpn_head.conv"),
    (r"rpn\.head\.cls_logits", r"proposal_generator.rpn_head.objectness_logits"),
    (r"rpn\.head\.bbox_pred", r"proposal_generator.rpn_head.anchor_deltas"),
    (r"roi_heads\.box_head\.fc6", r"roi_heads.box_head.fc1"),
    (r"roi_heads\.box_head\.fc7", r"roi_heads.box_head.fc2"),
    (r"roi_heads\.mask_head\.(\d)\.0", r"roi_heads.mask_head.mask_fcn<\1>"),
    (r"roi_heads\.mask_predictor\.conv5_mask", r"roi_heads.mask_head.deconv"),
    (r"roi_heads\.mask_predictor\.mask_fcn_logits", r"roi_heads.mask_head.predictor"),
    (r"(roi_heads\.box_predictor\.\w+)", r"\1"),
)
WITHOUT_BACKGROUND = ("bbox_pred.", "mask_head.predictor.")


def weights(num_classes: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns {name: f32 array}.

    Args:
      num_classes: n, without background.
      seed: of the numbers.
    """
    renamed = {}
    for name, array in state_dict(num_classes, seed).items():
        module, _, leaf = name.rpartition(".")
        pattern, new = next(rule for rule in _RULES if re.fullmatch(rule[0], module))
        new = re.sub(r"<<(\d)>>", lambda m: str(int(m[1]) + 2), re.sub(pattern, new, module))
        new = re.sub(r"<(\d)>", lambda m: str(int(m[1]) + 1), new) + f".{leaf}"
        if any(part in new for part in WITHOUT_BACKGROUND) and "anchor" not in new:
            array = array[: len(array) * num_classes // (num_classes + 1)]
        # Pixels are not divided by their deviation there: the first kernel is that much smaller.
        renamed[new] = array / np.float32(57.0) if "stem.conv1.weight" in new else array
    return renamed
