"""What trained weights take for granted of a spec, field by field, each with its reason.

Weights that learnt with one set of anchors, means or channels run with another one without a
complaint and find little. The rows of `WEIGHTS_DEPEND_ON` are the fields that must stay; what the
detector finds with them in a new place (thresholds, counts, paths, images, batch sizes, the whole
of training) is free. The classes are not here: a spec does not always name them, so they are
compared by name and id. How images come to the canvas is not here either: convolutions take any
size, and a change of it is worth a warning, no more.
"""

from fnmatch import fnmatchcase
from typing import Any

from rcnn_jax.kinds import Kind
from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.schema import walk

Dependence = dict[str, Any]
"""{field of the spec: JSON value}."""

WEIGHTS_DEPEND_ON: dict[Kind, dict[str, str]] = {
    "faster_rcnn": {
        "model_config.input_image_config.image_type": "channels of the first convolution",
        "model_config.input_image_config.image_channel_order": "channels of the first convolution",
        "model_config.input_image_config.image_channel_mean": "values the first convolution saw",
        "model_config.input_image_config.image_scaling_factor": "values the first convolution saw",
        "model_config.arch": "layers",
        "model_config.use_bias": "layers",
        "model_config.use_pooling": "layers",
        "model_config.all_projections": "layers",
        "model_config.activation": "layers",
        "model_config.roi_pooling_config": "what the head saw of a region",
        "model_config.rpn_stride": "places of the anchors",
        "model_config.anchor_box_config": "boxes that the RPN's deltas are relative to",
        "training_config.std_scaling": "unit of the RPN's deltas",
        "training_config.classifier_regr_std": "unit of the head's deltas",
        "training_config.outside_anchors": "anchors that have learnt to propose",
    },
    "mask_rcnn": {
        "data_config.num_classes": "rows of the predictors",
        "maskrcnn_config.arch": "layers",
        "maskrcnn_config.nlayers": "layers",
        "maskrcnn_config.fast_rcnn_mlp_head_dim": "layers",
        "maskrcnn_config.include_mask": "layers",
        "maskrcnn_config.convention": "padding, strides, anchors, values the first convolution saw",
        "maskrcnn_config.mrcnn_resolution": "what the heads saw of a region",
        "maskrcnn_config.min_level": "levels of the pyramid",
        "maskrcnn_config.max_level": "levels of the pyramid",
        "maskrcnn_config.num_scales": "boxes that the RPN's deltas are relative to",
        "maskrcnn_config.anchor_scale": "boxes that the RPN's deltas are relative to",
        "maskrcnn_config.aspect_ratios": "boxes that the RPN's deltas are relative to",
        "maskrcnn_config.bbox_reg_weights": "unit of the head's deltas",
    },
}
"""{kind: {path: what in the weights depends on it}}; a path stands for everything below it."""

FREE: dict[Kind, dict[str, str]] = {
    "faster_rcnn": {
        "model_config.input_image_config.size_*": "compared as the canvas, with a warning",
        "model_config.input_image_config.max_objects_num_per_image": "padding of annotations",
        "model_config.input_image_config.allow_small": "a check of the spec",
        "model_config.roi_mini_batch": "training only",
        "model_config.freeze_*": "training only",
        "model_config.dropout_rate": "training only",
        "model_config.drop_connect_rate": "training only",
        "model_config.bn_momentum": "training only",
        "model_config.channel_plan": "the file says its widths, which pruning may have changed",
    },
    "mask_rcnn": {
        "maskrcnn_config.*_weight*": "training only",
        "maskrcnn_config.freeze_*": "training only",
        "maskrcnn_config.gt_mask_size": "training only",
        "maskrcnn_config.train_*": "training only",
        "maskrcnn_config.test_*": "counts and thresholds",
        "maskrcnn_config.rpn_*": "training only; the smallest proposal is a threshold",
        "maskrcnn_config.batch_size_per_im": "training only",
        "maskrcnn_config.fg_*": "training only",
        "maskrcnn_config.bg_*": "training only",
        "maskrcnn_config.channel_plan": "the file says its widths, which pruning may have changed",
    },
}
"""{kind: {pattern: why the weights do not depend on it}} of the network's own messages; all other
messages are about training, data or thresholds. `WEIGHTS_DEPEND_ON` goes first."""

NETWORK: dict[Kind, str] = {"faster_rcnn": "model_config", "mask_rcnn": "maskrcnn_config"}
"""The message of the spec that describes the network."""


def dependence(config: Any, kind: Kind) -> Dependence:
    """Returns the fields that trained weights depend on, as they take effect.

    Args:
      config: a whole config from `spec.load`.
      kind: which detector's names.
    """
    found = {
        path: _json_value(_at(config, path))
        for path, field in walk(TABLES[kind])
        if field.kind != "message" and not field.no_effect and depends(path, kind)
    }
    return _in_effect(found) if kind == "faster_rcnn" else found


def depends(path: str, kind: Kind) -> bool:
    """Says whether trained weights depend on a field of the spec."""
    return is_below(path, WEIGHTS_DEPEND_ON[kind])


def is_below(path: str, patterns: dict[str, str]) -> bool:
    """Says whether a pattern names the path or something above it."""
    parts = path.split(".")
    above = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in above)


def _in_effect(found: Dependence) -> Dependence:
    """Returns the values that a network is built from, where they are not those of the fields."""
    image, activation = "model_config.input_image_config", "model_config.activation.activation_type"
    if found[f"{image}.image_type"] == "GRAY_SCALE":
        found[f"{image}.image_channel_order"] = "l"
    found[activation] = found[activation] or "swish"
    return found


def _at(config: Any, path: str) -> Any:
    for name in path.split("."):
        config = config[name]
    return config


def _json_value(value: Any) -> Any:
    """What the value is after a round trip through JSON."""
    if hasattr(value, "items"):
        return {name: _json_value(child) for name, child in sorted(value.items())}
    if isinstance(value, list | tuple):
        return [_json_value(child) for child in value]
    return value
