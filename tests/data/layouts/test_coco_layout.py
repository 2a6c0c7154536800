"""COCO folders: several files of the same images, crowds that are none, objects without an outline."""

import json
import os

import pytest

from rcnn_jax.data.layouts.detect import read_collection
from tests.data.layouts.folders import coco, picture, text

SQUARE = [[1, 1, 5, 1, 5, 5, 1, 5]]


def version(path, name, *, date=None, age=0, count=1):
    """Writes a file of a.png in which every object is called `name`."""
    boxes = [(0, 1, [1 + n, 1, 5, 5], {}) for n in range(count)]
    coco(path, ["a.png"], boxes, {1: name})
    if date is not None:
        text(path, json.dumps({**json.loads(path.read_text()), "info": {"date_created": date}}))
    os.utime(path, (1_700_000_000 - age, 1_700_000_000 - age))
    return path


def names(collection):
    return [[obj.name for obj in item.objects] for item in collection.items]


@pytest.mark.parametrize(
    "dates", [("2026/02/01", "2026-01-01T10:00:00"), (None, None), ("", "May")]
)
def test_of_two_files_of_the_same_images_the_newest_counts_and_that_is_said(tmp_path, dates):
    picture(tmp_path / "a.png")
    # Its own date goes before that of the file, which a copy changes.
    dated = bool(dates[0])
    version(tmp_path / "v1.json", "new", date=dates[0], age=100 if dated else 0)
    version(tmp_path / "v2.json", "old", date=dates[1], age=0 if dated else 100)
    collection = read_collection(tmp_path)
    assert names(collection) == [["new"]]
    assert collection.class_names == ("new",)
    sentences = "1 images are in several files: the newest of them counts, v1.json, not v2.json"
    assert sentences in collection.choices


def test_of_two_files_of_one_release_the_fuller_one_counts(tmp_path):
    picture(tmp_path / "a.png")
    version(tmp_path / "person_keypoints_val2017.json", "person", date="2017/09/01")
    version(tmp_path / "instances_val2017.json", "all", date="2017/09/01", count=2, age=50)
    collection = read_collection(tmp_path)
    assert names(collection) == [["all", "all"]]
    assert any("with most objects counts, instances_val" in each for each in collection.choices)


def test_a_file_of_all_images_adds_nothing_to_the_files_of_splits(tmp_path):
    picture(tmp_path / "a.png")
    version(tmp_path / "train.json", "cat", age=100)
    version(tmp_path / "all.json", "cat")
    collection = read_collection(tmp_path)
    assert [(item.labels.name, item.split) for item in collection.items] == [
        ("train.json", "train")
    ]
    assert any("the one of a split counts, train.json" in each for each in collection.choices)


def test_an_image_in_training_and_in_validation_stays_in_both(tmp_path):
    picture(tmp_path / "a.png")
    version(tmp_path / "train.json", "cat")
    version(tmp_path / "val.json", "cat")
    assert read_collection(tmp_path).splits == {"train": 1, "val": 1}


@pytest.mark.parametrize(
    ("crowds", "objects", "told"), [(2, 4, True), (1, 12, True), (1, 80, False)]
)
def test_crowds_beside_polygons_are_named_from_one_in_twenty(tmp_path, crowds, objects, told):
    picture(tmp_path / "a.png")
    run = {"size": [40, 60], "counts": [41, 4, 2355]}
    marked = (0, 1, [1, 1, 1, 4], {"iscrowd": 1, "segmentation": run})
    drawn = (0, 1, [1, 1, 4, 4], {"segmentation": SQUARE})
    coco(
        tmp_path / "x.json", ["a.png"], [marked] * crowds + [drawn] * (objects - crowds), {1: "cat"}
    )
    choices = read_collection(tmp_path).choices
    assert any("--crowds-as-objects" in choice for choice in choices) == told
    if told:
        assert any(f"{crowds} of {objects} objects are marked" in choice for choice in choices)


def test_an_object_whose_polygon_has_two_points_does_not_vanish_in_silence(tmp_path):
    picture(tmp_path / "a.png")
    line = (0, 1, [1, 1, 4, 4], {"segmentation": [[1, 1, 5, 5]]})
    coco(tmp_path / "x.json", ["a.png"], [line, (0, 1, [1, 1, 4, 4], {})], {1: "cat"})
    collection = read_collection(tmp_path)
    assert len(collection.items[0].objects) == 1
    (sentences,) = (choice for choice in collection.choices if "left out" in choice)
    assert "1 objects are left out because their mask is empty" in sentences
    assert f"{tmp_path / 'x.json'}: annotation 0" in sentences
