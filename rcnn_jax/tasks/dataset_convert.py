"""Conversion of a data set to TFRecords, from the config of a dataset spec. No jax here."""

import os
from pathlib import Path

from rcnn_jax.data.conversion import detectnet as convert
from rcnn_jax.data.conversion.report import ConversionReport
from rcnn_jax.data.conversion.sample_modifier import SampleModifier
from rcnn_jax.spec.inputs import DATA_VARIABLE
from rcnn_jax.tasks.named_files import Config


def convert_detectnet(
    config: Config, output: Path, validation_fold: int | None
) -> ConversionReport:
    """Converts the data set of a dataset spec.

    Args:
      config: spec of kind `dataset_convert`.
      output: path prefix of the TFRecord files.
      validation_fold: the fold that sample_modifier_config leaves alone, or None.
    """
    modifier = _modifier(config)
    fields = config.kitti_config
    if fields.enabled:
        kitti = convert.KittiConversion(
            root=_root(fields),
            image_dir_name=fields.image_dir_name,
            label_dir_name=fields.label_dir_name,
            image_extension=fields.image_extension,
            partition_mode=fields.partition_mode,
            num_partitions=fields.num_partitions,
            num_shards=fields.num_shards,
            val_split=fields.val_split,
            # An absent string is None in a config; below `tasks` the empty one stands for none.
            kitti_sequence_to_frames_file=fields.kitti_sequence_to_frames_file or "",
            point_clouds_dir=fields.point_clouds_dir or "",
            calibrations_dir=fields.calibrations_dir or "",
        )
        return convert.convert_kitti(
            kitti, output, modifier=modifier, validation_fold=validation_fold
        )
    fields = config.coco_config
    coco = convert.CocoConversion(
        root=_root(fields),
        img_dir_names=tuple(fields.img_dir_names),
        annotation_files=tuple(fields.annotation_files),
        num_partitions=fields.num_partitions,
        num_shards=tuple(fields.num_shards),
    )
    return convert.convert_coco(coco, output, modifier=modifier, validation_fold=validation_fold)


def _modifier(config: Config) -> SampleModifier:
    fields = config.sample_modifier_config
    if not fields.enabled:
        return SampleModifier()
    return SampleModifier(
        filter_samples_containing_only=tuple(fields.filter_samples_containing_only),
        dominant_target_classes=tuple(fields.dominant_target_classes),
        minimum_target_class_imbalance=dict(fields.minimum_target_class_imbalance),
        num_duplicates=fields.num_duplicates,
        max_training_samples=fields.max_training_samples,
        source_to_target_class_mapping=dict(fields.source_to_target_class_mapping),
    )


def _root(fields: Config) -> Path:
    """Returns the dataset's folder; a relative one lies below DATA_BASE_PATH where that is set."""
    return Path(os.environ.get(DATA_VARIABLE, "")) / fields.root_directory_path
