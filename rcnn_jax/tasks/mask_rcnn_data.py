"""Opens the images and annotations that a Mask R-CNN spec names."""

from pathlib import Path

from rcnn_jax.data.categories import Categories, choose_categories, numbered_categories
from rcnn_jax.data.coco import CocoDataset
from rcnn_jax.data.first_images import FirstImages
from rcnn_jax.data.mask_sources import CocoFolder, MaskRcnnRecords, MaskSource
from rcnn_jax.data.sources import select_shards
from rcnn_jax.data.tfds import TfdsSource, read_categories
from rcnn_jax.errors import DataError
from rcnn_jax.tasks.experiment import Config


def find_categories(data: Config) -> Categories:
    """Returns the classes that the annotations name, or numbered ones where nothing tells.

    The validation file comes first: it is the smaller one, and results carry its ids.

    Raises:
      DataError: the file is missing or damaged, or has a category 0.
      SpecError: num_classes does not fit it.
    """
    if data.tfds_name:
        found = read_categories(data.tfds_name, data.tfds_data_dir)
        return choose_categories(found, data.num_classes, data.tfds_name)
    name = data.val_json_file or data.coco_train_json
    if not name:
        return numbered_categories(data.num_classes)
    dataset = _load(name)
    return choose_categories(dataset.categories, data.num_classes, name)


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
        source = _folder(data.coco_train_json, data.coco_train_image_dir, categories)
        source.notes += _surplus(source, data.max_num_instances)
        return source
    if data.training_file_pattern:
        return _records(data.training_file_pattern, "training_file_pattern", categories)
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
      DataError: there are no annotations to hold detections against, or no images.
    """
    if not (data.val_json_file or data.tfds_name):
        raise DataError(
            "evaluation needs the COCO annotations of the validation images: set "
            "data_config.val_json_file"
        )
    if data.tfds_name:
        source = _tfds(data, data.tfds_val_split, categories, masks)
    elif data.coco_val_image_dir:
        source = _folder(data.val_json_file, data.coco_val_image_dir, categories)
    else:
        source = _records(data.validation_file_pattern, "validation_file_pattern", categories)
    if data.eval_samples < len(source):
        return FirstImages(source, data.eval_samples)
    return source


def _surplus(source: CocoFolder, limit: int) -> tuple[str, ...]:
    """Says how many objects are dropped because their images have too many."""
    surplus = [count - limit for count in source.object_counts if count > limit]
    if not surplus:
        return ()
    return (
        f"{len(surplus)} images have more than max_num_instances = {limit} objects: {sum(surplus)} "
        f"objects are dropped; {limit + max(surplus)} would keep all",
    )


def _folder(json_file: str, image_dir: str, categories: Categories) -> CocoFolder:
    dataset = _load(json_file)
    _check_names(dataset, categories)
    folder = Path(image_dir)
    if not folder.is_dir():
        raise DataError(f"{folder}: the image folder does not exist")
    return CocoFolder(dataset, folder, categories.class_ids, categories.names)


def _records(pattern: str, field: str, categories: Categories) -> MaskRcnnRecords:
    return MaskRcnnRecords(
        select_shards([pattern], field=field), categories.class_ids, categories.names
    )


def _tfds(data: Config, split: str, categories: Categories, masks: bool) -> TfdsSource:
    return TfdsSource(
        data.tfds_name,
        split,
        data.tfds_data_dir,
        categories.class_ids,
        categories.names,
        masks=masks,
    )


def _load(json_file: str) -> CocoDataset:
    dataset = CocoDataset.load(Path(json_file))
    dataset.require_positive_categories()
    return dataset


def _check_names(dataset: CocoDataset, categories: Categories) -> None:
    """Refuses files in which one id means two things."""
    for item_id, place in categories.class_ids.items():
        name = dataset.categories.get(item_id)
        if name is not None and name != categories.names[place]:
            raise DataError(
                f"{dataset.path}: category {item_id} is called '{name}' here, but "
                f"'{categories.names[place]}' in the annotations the classes are made from: use "
                "files of one data set"
            )
