"""Sources of a Mask R-CNN: the images and annotations that its spec names."""

import functools
from collections.abc import Mapping
from pathlib import Path

from rcnn_jax.data.formats.coco import CocoDataset
from rcnn_jax.data.sources.annotations import joined
from rcnn_jax.data.sources.boxes import select_shards
from rcnn_jax.data.sources.categories import (
    Categories,
    choose_categories,
    numbered_categories,
    numbered_name,
)
from rcnn_jax.data.sources.first_images import FirstImages
from rcnn_jax.data.sources.masks import CocoFolder, MaskRcnnRecords, MaskSource
from rcnn_jax.data.sources.tfds import TfdsSource, read_categories
from rcnn_jax.errors import DataError
from rcnn_jax.printable import shown
from rcnn_jax.tasks.named_files import Config


def find_categories(data: Config, *, masks: bool) -> Categories:
    """Returns the classes that the annotations name, or numbered ones where nothing tells.

    The validation file comes first: it is the smaller one, and results carry its ids.

    Args:
      data: the spec's data_config.
      masks: whether the network has a mask head.

    Raises:
      DataError: the file is missing or damaged, or has a category 0.
      SpecError: num_classes does not fit it.
    """
    if data.tfds_name:
        categories = read_categories(data.tfds_name, data.tfds_data_dir)
        return choose_categories(categories, data.num_classes, data.tfds_name)
    name = data.val_json_file or data.coco_train_json
    if not name:
        # Records alone: their ids are numbers without names, and inference still has to write
        # something.
        return numbered_categories(data.num_classes)
    return choose_categories(_load(name, masks).categories, data.num_classes, name)


def open_training(data: Config, categories: Categories, *, masks: bool) -> MaskSource:
    """Returns the training images.

    Args:
      data: the spec's data_config.
      categories: the classes.
      masks: whether the network has a mask head.

    Raises:
      DataError: nothing is named, or what is named cannot be used.
    """
    if data.tfds_name:
        return _tfds(data, data.tfds_train_split, categories, masks)
    if data.coco_train_json:
        return _folder(data.coco_train_json, data.coco_train_image_dir, categories, masks)
    if data.training_file_pattern:
        named_by = data.val_json_file or "the other records"
        return _records(
            data.training_file_pattern, "training_file_pattern", categories, named_by, masks
        )
    raise DataError(
        "the spec names no training data: set data_config.training_file_pattern (TFRecords), "
        "data_config.coco_train_json and coco_train_image_dir, or data_config.tfds_name"
    )


def open_validation(data: Config, categories: Categories, *, masks: bool) -> MaskSource:
    """Returns the validation images, at most eval_samples of them.

    Args:
      data: the spec's data_config.
      categories: the classes.
      masks: whether masks are evaluated.

    Raises:
      DataError: there are no annotations to compare detections with, or no images.
    """
    if not (data.val_json_file or data.tfds_name):
        raise DataError(
            "evaluation needs the COCO annotations of the validation images: set "
            "data_config.val_json_file"
        )
    if data.tfds_name:
        source = _tfds(data, data.tfds_val_split, categories, masks)
    elif data.coco_val_image_dir:
        source = _folder(data.val_json_file, data.coco_val_image_dir, categories, masks)
    else:
        dataset = _load(data.val_json_file, masks)
        _check_names(dataset, categories)
        # Detections are compared with the annotation file, so masks of the records are not read.
        source = _records(
            data.validation_file_pattern,
            "validation_file_pattern",
            categories,
            data.val_json_file,
            masks=False,
        )
        source.findings = dataset.findings
    if data.eval_samples < len(source):
        return FirstImages(source, data.eval_samples)
    return source


def _folder(json_file: str, image_dir: str, categories: Categories, masks: bool) -> CocoFolder:
    dataset = _load(json_file, masks)
    _check_names(dataset, categories)
    folder = Path(image_dir)
    if not folder.is_dir():
        raise DataError(f"{folder}: the image folder does not exist")
    return CocoFolder(dataset, folder, categories.class_ids, categories.names)


def _records(
    pattern: str, field: str, categories: Categories, named_by: str, masks: bool
) -> MaskRcnnRecords:
    source = MaskRcnnRecords(
        select_shards([pattern], field=field), categories.class_ids, categories.names, masks=masks
    )
    _require_same_names(source.category_names, categories, pattern, named_by)
    return source


def _tfds(data: Config, split: str, categories: Categories, masks: bool) -> TfdsSource:
    return TfdsSource(
        data.tfds_name,
        split,
        data.tfds_data_dir,
        categories.class_ids,
        categories.names,
        masks=masks,
    )


def _load(json_file: str, masks: bool) -> CocoDataset:
    """Reads an annotation file once for all who ask for it, and again when it was changed."""
    path = Path(json_file)
    try:
        # Part of the cache's key: in a notebook a file is mended and read again in the same
        # process.
        stamp = (path.stat().st_mtime_ns, path.stat().st_size)
    except (OSError, ValueError):
        stamp = None  # loading says why
    return _load_once(path, masks, stamp)


# Two: the annotations of training and of validation, which are large when parsed.
@functools.lru_cache(maxsize=2)
def _load_once(path: Path, masks: bool, _: tuple[int, int] | None) -> CocoDataset:
    return CocoDataset.load_instances(path, masks=masks)


def _check_names(dataset: CocoDataset, categories: Categories) -> None:
    _require_same_names(
        dataset.categories,
        categories,
        str(dataset.path),
        "the annotations the classes are made from",
    )


def _require_same_names(
    names: Mapping[int, str], categories: Categories, where: str, named_by: str
) -> None:
    """Refuses data in which one id means two things: names would move under trained weights.

    Raises:
      DataError: an id has another name, in another spelling than case and blanks.
    """
    for item_id, index in categories.class_ids.items():
        name, expected = names.get(item_id), categories.names[index]
        # A numbered name is a placeholder, which any name agrees with.
        if not name or expected in (numbered_name(item_id), name):
            continue
        if joined(name) != joined(expected):
            raise DataError(
                f"{where}: category {item_id} is called '{shown(name)}' here, but "
                f"'{shown(expected)}' in {named_by}: use files of one data set, or convert again"
            )
