"""Fields of a Faster R-CNN spec that trained weights and resumed runs depend on.

A path stands for everything below it. The rules are in `tasks.dependence` and
`checkpoints.fingerprint`.
"""

from typing import Any

WEIGHTS_DEPEND_ON = {
    "model_config.input_image_config.image_type": "channels of the first convolution",
    "model_config.input_image_config.image_channel_order": "channels of the first convolution",
    "model_config.input_image_config.image_channel_mean": "values the first convolution saw",
    "model_config.input_image_config.image_scaling_factor": "values the first convolution saw",
    "model_config.arch": "layers",
    "model_config.use_bias": "layers",
    "model_config.use_pooling": "layers",
    "model_config.all_projections": "layers",
    "model_config.activation": "layers",
    "model_config.rpn_conv_depth": "layers",
    "model_config.roi_pooling_config": "what the head saw of a region",
    "model_config.rpn_stride": "positions of the anchors",
    "model_config.anchor_box_config": "boxes that the RPN's deltas are relative to",
    "training_config.std_scaling": "unit of the RPN's deltas",
    "training_config.classifier_regr_std": "unit of the head's deltas",
    "training_config.outside_anchors": "anchors that may propose",
}
"""{path: what in the weights depends on it}."""

FREE = {
    "model_config.input_image_config.size_*": "compared as the canvas, with a warning",
    "model_config.input_image_config.max_objects_num_per_image": "padding of annotations",
    "model_config.input_image_config.allow_small": "a check of the spec",
    "model_config.roi_mini_batch": "training only",
    "model_config.freeze_*": "training only",
    "model_config.dropout_rate": "training only",
    "model_config.drop_connect_rate": "training only",
    "model_config.bn_momentum": "training only",
    "model_config.channel_plan": "the file says its widths, which pruning may have changed",
}
"""{pattern: why the weights do not depend on it} of the network's own messages; all other messages are
about training, data or thresholds. `WEIGHTS_DEPEND_ON` goes first."""

MAY_CHANGE = {
    "verbose": "logging",
    "recipe": "stands for its fields, which are compared",
    "recipe_fields": "the same",
    "inference_config": "inference and export only",
    "evaluation_config": "evaluation only",
    "export": "export only",
    "prune": "pruning only",
    "training_config.num_epochs": "schedule length",
    "training_config.early_stopping": "schedule length",
    "training_config.output_model": "where files go",
    "training_config.checkpoint_interval": "how often files are written",
    "training_config.keep_checkpoints": "how many files stay",
    "training_config.sharding": "where weights lie, not what they are",
    "training_config.model_parallelism": "the same",
    "training_config.remat": "what is kept between passes, not what is computed",
    "training_config.resume_from_model": "where to go on from; the workdir comes first",
    "training_config.visualizer": "logging",
    "training_config.n_workers": "speed of loading",
    "training_config.prefetch_buffer_size": "speed of loading",
    "training_config.min_pretrained_coverage": "a check at the start of a run",
    "model_config.input_image_config.allow_small": "a check of the spec",
    "dataset_config.validation_data_source": "evaluation only",
    "dataset_config.tfds_data_dir": "where the same data lie",
    "dataset_config.tfds_val_split": "evaluation only",
}
"""{path or pattern: why a run may be resumed with another value}."""


def in_effect(values: dict[str, Any]) -> dict[str, Any]:
    """Returns the values that a network is built from, where they are not those of the fields.

    Args:
      values: {path: value} of the fields that weights depend on.
    """
    image, activation = "model_config.input_image_config", "model_config.activation.activation_type"
    order, outside = f"{image}.image_channel_order", "training_config.outside_anchors"
    return {
        **values,
        # Grey images have one channel whatever the order says: equal networks must compare as
        # equal.
        order: "l" if values[f"{image}.image_type"] == "GRAY_SCALE" else values[order],
        # The reader fills the default in; a spec that names it is the same network.
        activation: values[activation] or "swish",
        # All anchors propose under `train` as under `auto`: models of either run with either spec.
        outside: "auto" if values[outside] == "train" else values[outside],
    }
