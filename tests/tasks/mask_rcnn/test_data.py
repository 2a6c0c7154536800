"""Which images and classes a Mask R-CNN spec names, and what makes them contradict each other."""

import json

import pytest

from rcnn_jax.data.conversion.mask_rcnn import MaskRcnnConversion, convert_mask_rcnn
from rcnn_jax.errors import DataError
from rcnn_jax.spec.load import parse_spec
from rcnn_jax.tasks.mask_rcnn.data import find_categories, open_training, open_validation
from tests.e2e.tiny_mask import write_tiny


def rename(path, **names):
    """Gives categories of an annotation file other names."""
    content = json.loads(path.read_text())
    for item in content["categories"]:
        item["name"] = names.get(item["name"], item["name"])
    path.write_text(json.dumps(content))


@pytest.fixture
def data(tmp_path):
    """The data_config of a spec that trains and validates on records."""
    folder = tmp_path / "data"
    spec = write_tiny(
        tmp_path,
        (f'coco_train_json: "{folder}/instances_train.json"', ""),
        (f'coco_train_image_dir: "{folder}/images"', ""),
        (
            f'coco_val_image_dir: "{folder}/images"',
            f'training_file_pattern: "{folder}/train-*.tfrecord"\n'
            f'  validation_file_pattern: "{folder}/val-*.tfrecord"',
        ),
    )
    return parse_spec(spec.read_text(), "spec.txt", "mask_rcnn").config.data_config


def convert(folder, part):
    convert_mask_rcnn(
        MaskRcnnConversion(
            image_dir=folder / "images",
            annotations_file=folder / f"instances_{part}.json",
            output_dir=folder,
            tag=part,
            num_shards=1,
        )
    )


def open_both(data):
    categories = find_categories(data, masks=True)
    return (
        open_training(data, categories, masks=True),
        open_validation(data, categories, masks=True),
    )


def test_records_of_the_same_names_are_opened(tmp_path, data):
    for part in ("train", "val"):
        convert(tmp_path / "data", part)
    training, validation = open_both(data)
    assert (len(training), len(validation)) == (6, 3)


def test_records_whose_names_moved_are_refused(tmp_path, data):
    folder = tmp_path / "data"
    rename(folder / "instances_train.json", disc="star", star="disc")
    for part in ("train", "val"):
        convert(folder, part)
    with pytest.raises(DataError) as caught:
        open_both(data)
    assert str(caught.value) == (
        f"{folder}/train-*.tfrecord: category 1 is called 'star' here, but 'disc' in "
        f"{folder}/instances_val.json: use files of one data set, or convert again"
    )


def test_names_may_differ_in_case(tmp_path, data):
    folder = tmp_path / "data"
    rename(folder / "instances_train.json", disc="Disc ")
    for part in ("train", "val"):
        convert(folder, part)
    assert len(open_both(data)[0]) == 6


def test_the_validation_file_is_checked_where_records_hold_the_images(tmp_path, data):
    folder = tmp_path / "data"
    for part in ("train", "val"):
        convert(folder, part)
    path = folder / "instances_val.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = [[1, 2, 1e9, 4, 5, 6]]
    path.write_text(json.dumps(content))
    number = content["annotations"][0]["id"]
    with pytest.raises(DataError, match=f"annotation {number} of image .* lies far outside"):
        open_both(data)
