"""Sources of a Faster R-CNN: the images and labels that its spec names."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from rcnn_jax.data.sources.annotations import ClassMap
from rcnn_jax.data.sources.boxes import (
    Concatenation,
    DetectNetRecords,
    KittiFolder,
    Source,
    select_shards,
)
from rcnn_jax.data.sources.tfds_boxes import TfdsBoxes
from rcnn_jax.errors import DataError
from rcnn_jax.spec.inputs import DATA_VARIABLE
from rcnn_jax.tasks.named_files import Config
from rcnn_jax.text_file import read_text


def class_map(config: Config) -> ClassMap:
    """Returns which annotated name becomes which class; keys are matched without regard to case."""
    return ClassMap(dict(config.dataset_config.target_class_mapping))


def train_source(config: Config) -> Callable[[], Source]:
    """Returns a function that opens the training images of a config."""
    dataset = config.dataset_config

    # Opened on demand: an index of records takes time to read, and `inference` needs none.
    def open_source() -> Source:
        if dataset.tfds_name:
            return _tfds(config, dataset.tfds_train_split, training=True)
        if not dataset.data_sources:
            raise DataError(
                "the spec names no training data: add data_sources { } or tfds_name to "
                "dataset_config"
            )
        parts = [
            _open(source, config, fold=dataset.validation_fold, training=True)
            for source in dataset.data_sources
        ]
        joined = _join(parts)
        # Over all sources: a key that only one of two uses is no mistake.
        names = frozenset[str]().union(*(part.label_names for part in parts))
        joined.findings = (*joined.findings, *class_map(config).unused_keys(names))
        return joined

    return open_source


def eval_source(config: Config) -> Callable[[], Source] | None:
    """Returns a function that opens the validation images of a config; None where it names none."""
    dataset = config.dataset_config
    if dataset.tfds_name:
        split = dataset.tfds_val_split
        return (lambda: _tfds(config, split, training=False)) if split else None
    if dataset.validation_data_source.enabled:
        return lambda: _open(dataset.validation_data_source, config, fold=None, training=False)
    if dataset.validation_fold is None:
        return None
    return lambda: _join(
        [
            _open(source, config, fold=dataset.validation_fold, training=False)
            for source in dataset.data_sources
        ]
    )


def _join(sources: Sequence[Source]) -> Source:
    return sources[0] if len(sources) == 1 else Concatenation(sources)


def _open(
    source: Config, config: Config, *, fold: int | None, training: bool
) -> DetectNetRecords | KittiFolder:
    """Opens one data source; occluded objects are difficult in evaluation, not in training."""
    classes = class_map(config)
    if source.kitti_directory_path:
        root = Path(source.kitti_directory_path)
        return KittiFolder(
            root / source.kitti_image_dir_name,
            root / source.kitti_label_dir_name,
            classes,
            stems=_stems(source.kitti_split_file),
            # Occluded objects are trained as ordinary ones, as in the original; in evaluation a
            # match with one is dropped (docs/reference/faster_rcnn.md, "Evaluation").
            difficult_is_crowd=not training,
        )
    return DetectNetRecords(
        select_shards([_absolute(source.tfrecords_path)], fold, training=training),
        Path(_absolute(source.image_directory_path)),
        config.dataset_config.image_extension,
        classes,
        difficult_is_crowd=not training,
    )


def _tfds(config: Config, split: str, *, training: bool) -> Source:
    dataset = config.dataset_config
    return TfdsBoxes(
        dataset.tfds_name,
        split,
        dataset.tfds_data_dir,
        class_map(config),
        difficult_is_crowd=not training,
    )


def _absolute(path: str) -> str:
    """Relative paths start at DATA_BASE_PATH where that is set, as in the original."""
    return str(Path(os.environ.get(DATA_VARIABLE, "")) / path)


def _stems(split_file: str | None) -> list[str] | None:
    if not split_file:
        return None
    return read_text(split_file, "file of names (kitti_split_file)").split()
