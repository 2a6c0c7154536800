"""Rules over several fields of a Mask R-CNN spec."""

import re
from collections.abc import Iterator

from rcnn_jax.settings.views import read_views
from rcnn_jax.spec.checks import Finding
from rcnn_jax.spec.schema import Node

# At 128 the coarsest level, of stride 64, has two cells a side. Above the upper bound is a mistyped
# number: a canvas of that size takes 3 GB per image in float32.
SMALLEST_SIDE = 128
LARGEST_SIDE = 16384


def mask_rcnn_rules(config: Node) -> Iterator[Finding]:
    """Yields broken rules of a Mask R-CNN experiment, for every task."""
    yield from _data_rules(config.data_config, config.maskrcnn_config.max_level)
    size = config.maskrcnn_config.mrcnn_resolution
    if size % 4:
        yield "maskrcnn_config.mrcnn_resolution", f"= {size} is not a multiple of 4"
    network = config.maskrcnn_config
    if network.convention == "torchvision" and network.roi_sampling_ratio == 0:
        yield (
            "maskrcnn_config.roi_sampling_ratio",
            "= 0 is for aligned crops; the convention torchvision has a fixed number of samples",
        )
    yield from view_rules(network.test_tta, "maskrcnn_config.test_tta")
    yield from _cascade_rules(network)
    for name in ("pixel_mean", "pixel_std"):
        values = config.maskrcnn_config[name]
        if len(values) not in (0, 3):
            yield f"maskrcnn_config.{name}", f"has {len(values)} items: expected three or none"


def view_rules(text: str | None, path: str) -> Iterator[Finding]:
    """Yields a finding unless a text names views of test-time augmentation."""
    try:
        read_views(text or "")
    except ValueError as error:
        yield path, f"= {text!r}: {error}"


def mask_rcnn_training_rules(config: Node) -> Iterator[Finding]:
    """Yields broken rules of training a Mask R-CNN."""
    yield from _schedule_rules(config)
    yield from _training_data_rules(config.data_config)
    yield from _overlap_rules(config.maskrcnn_config)
    data, stopping = config.data_config, config.early_stopping
    validated = data.coco_val_image_dir or data.validation_file_pattern or data.tfds_name
    if stopping.enabled and stopping.monitor == "map" and not validated:
        yield (
            "early_stopping.monitor",
            "= 'map' needs validation data: data_config.coco_val_image_dir, validation_file_pattern or "
            "tfds_name",
        )
    if config.skip_checkpoint_variables:
        try:
            # Compiled to be checked: otherwise it fails after the data have been indexed.
            re.compile(config.skip_checkpoint_variables)
        except re.error as error:
            yield (
                "skip_checkpoint_variables",
                f"= {config.skip_checkpoint_variables!r} is no regular expression: {error}",
            )


def _schedule_rules(config: Node) -> Iterator[Finding]:
    if not config.total_steps and not config.num_epochs:
        yield "total_steps", "or num_epochs must be given"
    steps, levels = config.learning_rate_steps, config.learning_rate_decay_levels
    if len(steps) != len(levels):
        yield (
            "learning_rate_decay_levels",
            f"has {len(levels)} items, but learning_rate_steps has {len(steps)}",
        )
    for before, after in zip(steps, steps[1:], strict=False):
        # The schedule looks up the last step passed: out of order, factors would be skipped.
        if before >= after:
            yield "learning_rate_steps", f"= {list(steps)} does not rise: {after} follows {before}"


def _data_rules(data: Node, max_level: int) -> Iterator[Finding]:
    stride = 2 ** min(max_level, 10)  # a level out of range is reported by its own check
    for side in data.image_size:
        if side <= 0:
            yield "data_config.image_size", f"= {tuple(data.image_size)}: {side} is not above 0"
        elif side % stride:
            yield (
                "data_config.image_size",
                f"= {tuple(data.image_size)}: {side} is not a multiple of 2^max_level = {stride}",
            )
        elif side < SMALLEST_SIDE and not data.allow_small:
            yield (
                "data_config.image_size",
                f"= {tuple(data.image_size)}: {side} is below {SMALLEST_SIDE} pixels "
                "(allow_small: true accepts less)",
            )
        elif side > LARGEST_SIDE:
            yield (
                "data_config.image_size",
                f"= {tuple(data.image_size)}: {side} is above {LARGEST_SIDE} pixels",
            )
    if (
        data.short_side
        and not SMALLEST_SIDE <= data.short_side <= LARGEST_SIDE
        and not data.allow_small
    ):
        yield (
            "data_config.short_side",
            f"= {data.short_side} is not between {SMALLEST_SIDE} and {LARGEST_SIDE} pixels",
        )
    if data.long_side and data.long_side < data.short_side:
        yield "data_config.long_side", f"= {data.long_side} is below short_side = {data.short_side}"
    if data.long_side and not data.short_side:
        yield "data_config.long_side", "has no effect without short_side"
    # Both splits come from one data set: mixing would map two lists of categories onto one head.
    others = ("validation_file_pattern", "coco_val_image_dir", "val_json_file")
    for name in others if data.tfds_name else ():
        if data[name]:
            yield (
                f"data_config.{name}",
                "and tfds_name exclude each other: both splits come from it",
            )
    if data.tfds_data_dir and not data.tfds_name:
        yield "data_config.tfds_data_dir", "needs tfds_name"
    if data.coco_val_image_dir and not data.val_json_file:
        yield "data_config.coco_val_image_dir", "needs val_json_file"
    if data.coco_val_image_dir and data.validation_file_pattern:
        yield "data_config.coco_val_image_dir", "and validation_file_pattern exclude each other"


def _training_data_rules(data: Node) -> Iterator[Finding]:
    training = [
        name for name in ("training_file_pattern", "coco_train_json", "tfds_name") if data[name]
    ]
    if len(training) > 1:
        yield f"data_config.{training[1]}", f"and {training[0]} exclude each other"
    if bool(data.coco_train_json) != bool(data.coco_train_image_dir):
        yield "data_config.coco_train_json", "and coco_train_image_dir go together"
    if data.scale_jitter_min > data.scale_jitter_max:
        yield (
            "data_config.scale_jitter_min",
            f"= {data.scale_jitter_min} is above scale_jitter_max = {data.scale_jitter_max}",
        )


def _cascade_rules(network: Node) -> Iterator[Finding]:
    overlaps = list(network.cascade_ious)
    if overlaps and not 2 <= len(overlaps) <= 4:
        yield (
            "maskrcnn_config.cascade_ious",
            f"= {overlaps}: expected two to four heads, or none for a single one",
        )
    if any(a > b for a, b in zip(overlaps, overlaps[1:], strict=False)):
        yield "maskrcnn_config.cascade_ious", f"= {overlaps} does not rise"
    if overlaps and network.dynamic_rcnn:
        yield (
            "maskrcnn_config.dynamic_rcnn",
            "and cascade_ious exclude each other: both say what overlap is foreground",
        )


def _overlap_rules(network: Node) -> Iterator[Finding]:
    path = "maskrcnn_config"
    for low, high in (
        ("rpn_negative_overlap", "rpn_positive_overlap"),
        ("bg_thresh_lo", "bg_thresh_hi"),
        ("bg_thresh_hi", "fg_thresh"),
    ):
        # Equal thresholds leave no gap between positives and negatives, which is allowed.
        if network[low] > network[high]:
            yield f"{path}.{low}", f"= {network[low]} is above {high} = {network[high]}"
