"""Rules over several fields of a Faster R-CNN or conversion spec.

Each rule yields findings (path, rest of the sentence) and raises nothing; `mask_rules` holds those
of Mask R-CNN, `demands` assigns them to tasks.
"""

from collections.abc import Iterable, Iterator

from rcnn_jax.kinds import SpecKind
from rcnn_jax.spec.checks import Finding
from rcnn_jax.spec.mask_rules import LARGEST_SIDE, mask_rcnn_rules, view_rules
from rcnn_jax.spec.recipes import unexpanded
from rcnn_jax.spec.schema import Node
from rcnn_jax.spec.tables.faster_rcnn_model import FREEZABLE_BLOCKS

SMALLEST_SIDE = 128
SMALLEST_ALLOWED_SIDE = 32


def cross_field_findings(config: Node, kind: SpecKind) -> Iterator[Finding]:
    """Yields the broken rules of all tasks; `demands.task_findings` adds those of one task."""
    rules = {
        "faster_rcnn": faster_rcnn_rules,
        "mask_rcnn": mask_rcnn_rules,
        "dataset_convert": dataset_convert_rules,
    }
    yield from rules[kind](config)
    if kind != "dataset_convert":
        yield from unexpanded(config)


def faster_rcnn_rules(config: Node) -> Iterator[Finding]:
    """Yields broken rules of a Faster R-CNN experiment, for every task."""
    yield from _input_rules(config.model_config.input_image_config)
    yield from _geometry_rules(config)
    yield from _freeze_rules(config.model_config)
    yield from _class_rules(config.dataset_config)
    yield from _tfds_rules(config.dataset_config)
    # A missing key would leave a coordinate unscaled, an additional one is a misspelling.
    if set(config.training_config.classifier_regr_std) != {"x", "y", "w", "h"}:
        keys = ", ".join(config.training_config.classifier_regr_std)
        yield (
            "training_config.classifier_regr_std",
            f"has the keys {keys}; it needs exactly x, y, w, h",
        )
    for section in ("inference_config", "evaluation_config"):
        yield from _proposal_rules(config, section)
        yield from view_rules(config[section].tta, f"{section}.tta")
    span = config.evaluation_config.gt_matching_iou_threshold_range
    if span.enabled and span.start >= span.end:
        yield (
            "evaluation_config.gt_matching_iou_threshold_range.start",
            f"= {span.start} is not below end = {span.end}",
        )


def faster_rcnn_training_rules(config: Node) -> Iterator[Finding]:
    """Yields broken rules of training a Faster R-CNN."""
    yield from _training_rules(config.training_config, config.dataset_config)
    yield from _schedule_rules(config.training_config.learning_rate)
    yield from _proposal_rules(config, "training_config")
    for index, source in enumerate(config.dataset_config.data_sources):
        yield from _source_rules(source, f"dataset_config.data_sources[{index}]")
    yield from validation_source_rules(config.dataset_config)


def validation_source_rules(dataset: Node) -> Iterator[Finding]:
    """Yields broken rules of the validation data source, where there is one."""
    if dataset.validation_data_source.enabled:
        source = dataset.validation_data_source
        yield from _source_rules(source, "dataset_config.validation_data_source")


def one_of(config: Node, names: Iterable[str], path: str) -> Iterator[Finding]:
    """Yields a finding unless one sub-message is given; the oneof of the table reports two."""
    names = tuple(names)
    if not any(config[name].enabled for name in names):
        yield path, f"needs one of {', '.join(names)}"


def _input_rules(image: Node) -> Iterator[Finding]:
    path = "model_config.input_image_config"
    yield from one_of(image, ("size_min", "size_height_width"), path)
    # 32 pixels are two cells of the feature map, whose stride is always 16.
    least = SMALLEST_ALLOWED_SIDE if image.allow_small else SMALLEST_SIDE
    hint = "" if image.allow_small else " (allow_small: true accepts less)"
    for block, names in (("size_min", ("min",)), ("size_height_width", ("height", "width"))):
        for name in names:
            side = image[block][name]
            if image[block].enabled and side is not None and side < least:
                yield f"{path}.{block}.{name}", f"= {side} is below {least} pixels{hint}"
            if image[block].enabled and side is not None and side > LARGEST_SIDE:
                yield f"{path}.{block}.{name}", f"= {side} is above {LARGEST_SIDE} pixels"
    # Three fields describe one thing, so they can contradict each other; weights would run without a
    # complaint and find little.
    grey = image.image_type == "GRAY_SCALE"
    keys = ("l",) if grey else ("r", "g", "b")
    if (image.image_channel_order == "l") != grey:
        wanted = "'l'" if grey else "'bgr' or 'rgb'"
        yield (
            f"{path}.image_channel_order",
            f"= {image.image_channel_order!r} does not fit image_type {image.image_type}, "
            f"which needs {wanted}",
        )
    if set(image.image_channel_mean) != set(keys):
        yield (
            f"{path}.image_channel_mean",
            f"has the keys {', '.join(image.image_channel_mean)}; image_type {image.image_type} "
            f"needs exactly {', '.join(keys)}",
        )


def _geometry_rules(config: Node) -> Iterator[Finding]:
    image = config.model_config.input_image_config
    path, pre = "augmentation_config.preprocessing", config.augmentation_config.preprocessing
    channels = 1 if image.image_type == "GRAY_SCALE" else 3
    if pre.output_image_channel is not None and pre.output_image_channel != channels:
        yield (
            f"{path}.output_image_channel",
            f"= {pre.output_image_channel}, but image_type {image.image_type} has {channels}: write "
            f"{channels}",
        )
    # The canvas stands twice in a spec, in the network and in the preprocessing. 0 is protobuf's
    # absence.
    if image.size_height_width.enabled:
        for name in ("height", "width"):
            out, side = pre[f"output_image_{name}"], image.size_height_width[name]
            if out and side and out != side:
                yield f"{path}.output_image_{name}", f"= {out} is not the model's {name} {side}"
        if pre.output_image_min:
            yield f"{path}.output_image_min", f"= {pre.output_image_min} belongs to size_min"
    if image.size_min.enabled:
        short = image.size_min.min
        if pre.output_image_min and short and pre.output_image_min != short:
            yield f"{path}.output_image_min", f"= {pre.output_image_min} is not size_min {short}"
        if pre.output_image_max and short and pre.output_image_max < short:
            yield f"{path}.output_image_max", f"= {pre.output_image_max} is below size_min {short}"
    for low, high in (("crop_left", "crop_right"), ("crop_top", "crop_bottom")):
        # A crop that is absent is all zeros, as protobuf cannot tell the two apart.
        if (pre[low] or pre[high]) and (pre[low] or 0) >= (pre[high] or 0):
            yield f"{path}.{low}", f"= {pre[low] or 0} is not below {high} = {pre[high] or 0}"
    if config.dataset_config.tile_size and (pre.crop_right or pre.crop_bottom):
        yield (
            "dataset_config.tile_size",
            f"and the crop of {path} exclude each other: a tile is a crop",
        )
    spatial = config.augmentation_config.spatial_augmentation
    for low, high in (("zoom_min", "zoom_max"), ("scale_jitter_min", "scale_jitter_max")):
        if spatial[low] > spatial[high]:
            yield (
                f"augmentation_config.spatial_augmentation.{low}",
                f"= {spatial[low]} is above {high} = {spatial[high]}",
            )


def _freeze_rules(model: Node) -> Iterator[Finding]:
    allowed = FREEZABLE_BLOCKS.get(model.arch.split(":")[0])
    if allowed is None:
        return  # an unknown backbone is reported by its own range
    for index, block in enumerate(model.freeze_blocks):
        if block not in allowed:
            yield (
                f"model_config.freeze_blocks[{index}]",
                f"= {block}: {model.arch} has the blocks {allowed[0]} to {allowed[-1]}",
            )


def _training_rules(training: Node, dataset: Node) -> Iterator[Finding]:
    path = "training_config"
    for low, high in (
        ("rpn_min_overlap", "rpn_max_overlap"),
        ("classifier_min_overlap", "classifier_max_overlap"),
    ):
        # Between the two an anchor is ignored; the wrong way round, one would be positive and negative.
        if training[low] >= training[high]:
            yield f"{path}.{low}", f"= {training[low]} is not below {high} = {training[high]}"
    yield from _stopping_rules(training.early_stopping, f"{path}.early_stopping", dataset)
    yield from one_of(training.optimizer, ("sgd", "adam", "rmsprop", "adamw"), f"{path}.optimizer")
    regularizer = training.regularizer
    # An absent weight is 0 in protobuf, and a penalty of weight 0 is a forgotten line.
    if regularizer.type != "NO_REG" and regularizer.weight == 0:
        yield f"{path}.regularizer.weight", f"= 0, but {regularizer.type} needs more (or NO_REG)"


def _stopping_rules(stopping: Node, path: str, dataset: Node) -> Iterator[Finding]:
    validated = (
        dataset.validation_data_source.enabled
        or dataset.validation_fold is not None
        or dataset.tfds_name
    )
    if stopping.enabled and stopping.monitor == "map" and not validated:
        yield (
            f"{path}.monitor",
            "= 'map' needs validation data: dataset_config.validation_data_source, validation_fold or "
            "tfds_name",
        )


def _schedule_rules(rate: Node) -> Iterator[Finding]:
    path = "training_config.learning_rate"
    yield from one_of(rate, ("soft_start", "step", "cosine"), path)
    for name in ("soft_start", "cosine"):
        part = rate[name]
        if part.enabled and part.start_lr > part.base_lr:
            yield f"{path}.{name}.start_lr", f"= {part.start_lr} is above base_lr = {part.base_lr}"
    if rate.cosine.enabled and rate.cosine.end_lr > rate.cosine.base_lr:
        yield (
            f"{path}.cosine.end_lr",
            f"= {rate.cosine.end_lr} is above base_lr = {rate.cosine.base_lr}",
        )
    points = rate.soft_start.annealing_points
    if not rate.soft_start.enabled:
        return
    for index, (before, after) in enumerate(zip(points, points[1:], strict=False), start=1):
        if before >= after:
            yield (
                f"{path}.soft_start.annealing_points[{index}]",
                f"= {after} is not above the point before it, {before}",
            )
    if points and rate.soft_start.soft_start >= points[0]:
        yield (
            f"{path}.soft_start.soft_start",
            f"= {rate.soft_start.soft_start} is not below the first annealing point {points[0]}",
        )


def _proposal_rules(config: Node, section: str) -> Iterator[Finding]:
    post, pre = config[section].rpn_nms_max_boxes, config[section].rpn_pre_nms_top_N
    if post >= pre:
        yield f"{section}.rpn_nms_max_boxes", f"= {post} is not below rpn_pre_nms_top_N = {pre}"


def _class_rules(dataset: Node) -> Iterator[Finding]:
    path = "dataset_config"
    seen: dict[str, str] = {}
    for key, value in dataset.target_class_mapping.items():
        if not key.strip() or not value.strip():
            yield (
                f"{path}.target_class_mapping.{key}",
                f"= {value!r}: a label and its class need names",
            )
        if "background" in (key.lower(), value.lower()):
            yield f"{path}.target_class_mapping.{key}", "uses the reserved class 'background'"
        # Labels match in any case, so both entries would claim one label.
        if seen.setdefault(key.lower(), value.lower()) != value.lower():
            yield (
                f"{path}.target_class_mapping.{key}",
                f"= {value!r}, but the same label in other case is {seen[key.lower()]!r}",
            )


def _source_rules(source: Node, path: str) -> Iterator[Finding]:
    direct, records = source.kitti_directory_path, source.tfrecords_path
    if bool(direct) == bool(records):
        yield path, "needs either tfrecords_path or kitti_directory_path"
    # Records of the original hold the name of the image, not its pixels.
    elif records and not source.image_directory_path:
        yield path, "needs image_directory_path, the folder of the records' images"


def _tfds_rules(dataset: Node) -> Iterator[Finding]:
    path = "dataset_config"
    if not dataset.tfds_name:
        if dataset.tfds_data_dir:
            yield f"{path}.tfds_data_dir", "needs tfds_name"
        return
    given = {
        "data_sources": bool(dataset.data_sources),
        "validation_data_source": dataset.validation_data_source.enabled,
        "validation_fold": dataset.validation_fold is not None,
    }
    # One finding with all names: each of them is the same mistake.
    names = ", ".join(name for name, is_given in given.items() if is_given)
    if names:
        yield f"{path}.tfds_name", f"excludes {names}: both splits come from it"


def dataset_convert_rules(config: Node) -> Iterator[Finding]:
    """Yields broken rules of a conversion to TFRecords."""
    if not (config.kitti_config.enabled or config.coco_config.enabled):
        yield "kitti_config", "or coco_config must be given"
    kitti, coco = config.kitti_config, config.coco_config
    if kitti.enabled and kitti.partition_mode == "random" and kitti.num_partitions != 2:
        yield (
            "kitti_config.num_partitions",
            f"= {kitti.num_partitions}: mode 'random' makes 2, validation and training",
        )
    if (
        kitti.enabled
        and kitti.partition_mode == "sequence"
        and not kitti.kitti_sequence_to_frames_file
    ):
        yield (
            "kitti_config.kitti_sequence_to_frames_file",
            "must be given for partition_mode 'sequence'",
        )
    if coco.enabled:
        for name in ("img_dir_names", "annotation_files"):
            # An absent list is reported by its own row; here the two contradict each other.
            if coco[name] and len(coco[name]) != coco.num_partitions:
                yield (
                    f"coco_config.{name}",
                    f"has {len(coco[name])} entries, but num_partitions = {coco.num_partitions}",
                )
        if len(coco.num_shards) not in (1, coco.num_partitions):
            yield (
                "coco_config.num_shards",
                f"has {len(coco.num_shards)} entries; it needs 1 or {coco.num_partitions}",
            )
    modifier = config.sample_modifier_config
    targets = set(modifier.source_to_target_class_mapping.values())
    for name in ("filter_samples_containing_only", "dominant_target_classes"):
        for index, label in enumerate(modifier[name]):
            if modifier.enabled and label not in targets:
                yield (
                    f"sample_modifier_config.{name}[{index}]",
                    f"= {label!r} is no value of source_to_target_class_mapping",
                )
