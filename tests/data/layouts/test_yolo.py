"""YOLO: the split is the author's, in each form that it is declared in; key points are no outline."""

import numpy as np
import pytest

from rcnn_jax.data.layouts.detect import read_collection
from tests.data.layouts.folders import picture, text

LINE = "0 0.35 0.35 0.5 0.5\n"


def labelled(root, *stems):
    """Writes images such as `part_a/one`, below images/, with their labels."""
    for stem in stems:
        picture(root / "images" / f"{stem}.png")
        text(root / "labels" / f"{stem}.txt", LINE)


def splits(collection):
    return {item.image.stem: item.split for item in collection.items}


def test_folders_called_after_a_split_with_a_year_are_that_split(tmp_path):
    labelled(tmp_path, "train2017/one", "val2017/two")
    assert splits(read_collection(tmp_path)) == {"one": "train", "two": "val"}


@pytest.mark.parametrize(
    "content",
    [
        "train: images/part_a\nval: images/part_b\n",
        "path: .\ntrain: ./images/part_a/\nval: [images/part_b]\n",
        "path: images\ntrain: [part_a]\nval: part_b\n",
        "path: /elsewhere/set\ntrain: images/part_a\nval: images/part_b\n",
        "train: ../images/part_a\nval: ../images/part_b\n",  # as Roboflow writes it
        "train: /elsewhere/set/images/part_a\nval: /elsewhere/set/images/part_b\n",
    ],
)
def test_the_splits_of_a_yaml_file_are_kept_and_said(tmp_path, content):
    labelled(tmp_path, "part_a/one", "part_b/two", "part_c/three")
    text(tmp_path / "data.yaml", f"names: [cat]\n{content}")
    collection = read_collection(tmp_path)
    assert splits(collection) == {"one": "train", "two": "val", "three": ""}
    assert "splits from data.yaml" in collection.choices


def test_a_split_of_several_folders_is_all_of_them(tmp_path):
    labelled(tmp_path, "part_a/one", "part_b/two", "part_c/three")
    content = "names: [cat]\ntrain: [images/part_a, images/part_b]\ntest: images/part_c\n"
    text(tmp_path / "data.yaml", content)
    expected = {"one": "train", "two": "train", "three": "test"}
    assert splits(read_collection(tmp_path)) == expected


def test_list_files_that_a_yaml_file_names_are_its_splits(tmp_path):
    labelled(tmp_path, "one", "two")
    text(tmp_path / "lists" / "first.txt", "./images/one.png\n")
    text(tmp_path / "lists" / "second.txt", "/elsewhere/images/two.png\n")
    text(tmp_path / "data.yaml", "names: [cat]\ntrain: lists/first.txt\nval: lists/second.txt\n")
    assert splits(read_collection(tmp_path)) == {"one": "train", "two": "val"}


@pytest.mark.parametrize("prefix", ["", "autosplit_"])
def test_lists_beside_the_images_are_splits_without_a_yaml_file(tmp_path, prefix):
    labelled(tmp_path, "one", "two", "three")
    text(tmp_path / f"{prefix}train.txt", "./images/one.png\n./images/three.png\n")
    text(tmp_path / f"{prefix}val.txt", "./images/two.png\n")
    collection = read_collection(tmp_path)
    assert splits(collection) == {"one": "train", "two": "val", "three": "train"}
    assert f"splits from {prefix}train.txt, {prefix}val.txt" in collection.choices


def test_notes_and_label_files_that_are_called_after_a_split_are_no_lists(tmp_path):
    labelled(tmp_path, "one", "train")
    text(tmp_path / "val.txt", "validated by hand\n")
    assert splits(read_collection(tmp_path)) == {"one": "", "train": ""}


def test_images_that_are_declared_for_training_and_validation_train(tmp_path):
    labelled(tmp_path, "part/one", "part/two")
    text(tmp_path / "data.yaml", "names: [cat]\ntrain: images/part\nval: images/part\n")
    collection = read_collection(tmp_path)
    assert splits(collection) == {"one": "train", "two": "train"}
    assert any("2 images are in two splits" in choice for choice in collection.choices)


def test_a_split_that_is_not_here_is_named(tmp_path):
    labelled(tmp_path, "part/one")
    text(tmp_path / "data.yaml", "names: [cat]\ntrain: images/part\nval: images/gone\n")
    collection = read_collection(tmp_path)
    assert "'val' of data.yaml is images/gone, which is not here: passed over" in collection.choices


def test_of_two_yaml_files_with_names_the_one_passed_over_is_named(tmp_path):
    labelled(tmp_path, "one")
    text(tmp_path / "a.yaml", "names: [cat]\n")
    text(tmp_path / "b.yaml", "names: [dog]\n")
    text(tmp_path / "args.yaml", "epochs: 3\n")
    collection = read_collection(tmp_path)
    assert collection.class_names == ("cat",)
    sentences = f"of 2 YAML files with names a.yaml counts, not {tmp_path / 'b.yaml'}"
    assert sentences in collection.choices


def test_key_points_of_two_values_are_no_polygon(tmp_path):
    picture(tmp_path / "images" / "a.png")
    text(tmp_path / "labels" / "a.txt", "0 0.35 0.35 0.5 0.5 0.2 0.2 0.3 0.3 0.4 0.4\n")
    text(tmp_path / "data.yaml", "names: [cat]\nkpt_shape: [3, 2]\n")
    collection = read_collection(tmp_path)
    (only,) = collection.items[0].objects
    assert only.outline is None
    np.testing.assert_allclose(only.box, (4, 6, 24, 36))
    assert "'kpt_shape' declares key points, 6 numbers a line: left out" in collection.choices
