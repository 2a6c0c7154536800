"""Fields of a Mask R-CNN spec that trained weights and resumed runs depend on.

A path stands for everything below it. The rules are in `tasks.dependence` and
`checkpoints.fingerprint`.
"""

from typing import Any

WEIGHTS_DEPEND_ON = {
    "data_config.num_classes": "rows of the predictors",
    "maskrcnn_config.arch": "layers",
    "maskrcnn_config.nlayers": "layers",
    "maskrcnn_config.fast_rcnn_mlp_head_dim": "layers",
    "maskrcnn_config.include_mask": "layers",
    "maskrcnn_config.convention": "padding, strides, anchors, values the first convolution saw",
    "maskrcnn_config.rpn_conv_depth": "layers",
    "maskrcnn_config.box_head": "layers",
    "maskrcnn_config.cascade_ious": "number of box heads and units of their deltas",
    "maskrcnn_config.fpn_norm": "layers",
    "maskrcnn_config.head_norm": "layers",
    "maskrcnn_config.pixel_order": "values the first convolution saw",
    "maskrcnn_config.pixel_mean": "values the first convolution saw",
    "maskrcnn_config.pixel_std": "values the first convolution saw",
    "maskrcnn_config.bottleneck_stride": "where blocks halve the image",
    "maskrcnn_config.roi_sampling_ratio": "what the heads saw of a region",
    "maskrcnn_config.canonical_box_size": "what the heads saw of a region",
    "maskrcnn_config.mrcnn_resolution": "what the heads saw of a region",
    "maskrcnn_config.min_level": "levels of the pyramid",
    "maskrcnn_config.max_level": "levels of the pyramid",
    "maskrcnn_config.num_scales": "boxes that the RPN's deltas are relative to",
    "maskrcnn_config.anchor_scale": "boxes that the RPN's deltas are relative to",
    "maskrcnn_config.aspect_ratios": "boxes that the RPN's deltas are relative to",
    "maskrcnn_config.bbox_reg_weights": "unit of the head's deltas",
}
"""{path: what in the weights depends on it}."""

FREE = {
    "maskrcnn_config.*_weight*": "training only",
    "maskrcnn_config.freeze_*": "training only",
    "maskrcnn_config.gt_mask_size": "training only",
    "maskrcnn_config.train_*": "training only",
    "maskrcnn_config.test_*": "counts and thresholds",
    "maskrcnn_config.rpn_*": "training only; the smallest proposal is a threshold",
    "maskrcnn_config.batch_size_per_im": "training only",
    "maskrcnn_config.fg_*": "training only",
    "maskrcnn_config.bg_*": "training only",
    "maskrcnn_config.box_loss": "training only",
    "maskrcnn_config.dynamic_*": "training only",
    "maskrcnn_config.prime_samples": "training only",
    "maskrcnn_config.channel_plan": "the file says its widths, which pruning may have changed",
}
"""{pattern: why the weights do not depend on it} of the network's own messages; all other messages are
about training, data or thresholds. `WEIGHTS_DEPEND_ON` goes first."""

MAY_CHANGE = {
    "recipe": "stands for its fields, which are compared",
    "recipe_fields": "the same",
    "early_stopping": "schedule length",
    "export": "export only",
    "prune": "pruning only",
    "num_epochs": "schedule length",
    "total_steps": "schedule length",
    "num_examples_per_epoch": "turns epochs into schedule length, nothing else",
    "learning_rate_steps": "schedule length",
    "learning_rate_decay_levels": "schedule length: one per boundary",
    "num_steps_per_eval": "how often files are written and evaluation runs",
    "keep_checkpoints": "how many files stay",
    "sharding": "where weights lie, not what they are",
    "remat": "what is kept between passes, not what is computed",
    "logging_frequency": "logging",
    "visualize_images_summary": "logging",
    "wandb_config": "logging",
    "clearml_config": "logging",
    "mlflow_config": "logging",
    "eval_batch_size": "evaluation only",
    "data_config.eval_samples": "evaluation only",
    "data_config.validation_file_pattern": "evaluation only",
    "data_config.val_json_file": "evaluation only",
    "data_config.coco_val_image_dir": "evaluation only",
    "data_config.tfds_val_split": "evaluation only",
    "data_config.allow_small": "a check of the spec",
    "min_pretrained_coverage": "a check at the start of a run",
    "data_config.n_workers": "speed of loading",
    "data_config.prefetch_buffer_size": "speed of loading",
    "maskrcnn_config.test_*": "evaluation, inference and export only",
}
"""{path or pattern: why a run may be resumed with another value}."""


def in_effect(values: dict[str, Any]) -> dict[str, Any]:
    """Returns the values that a network is built from, where they are not those of the fields.

    Args:
      values: {path: value} of the fields that weights depend on.
    """
    cascade = "maskrcnn_config.cascade_ious"
    # The number of heads alone: their overlaps say what trained them.
    return {**values, cascade: max(1, len(values[cascade]))}
