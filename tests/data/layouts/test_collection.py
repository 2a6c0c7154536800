"""Annotated folders in one form: splits by the names of folders and files."""

from pathlib import Path

import pytest

from rcnn_jax.data.layouts.collection import (
    Collection,
    Item,
    Labelled,
    split_of,
    split_of_name,
    used_names,
)

ROOT = Path("/data/test")


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train/images/a.png", "train"),
        ("images/Valid/a.png", "val"),
        ("train/val/a.png", "train"),  # the one nearest to the root
        ("images/a.png", ""),
        ("test.png", ""),  # a file is no folder
        ("images/train2017/a.png", "train"),
        ("val_images/a.png", "val"),
        ("test_data/train/a.png", "train"),  # the word alone goes before
        ("train_val/a.png", ""),
        ("crash_test_3/a.png", ""),
    ],
)
def test_the_folder_nearest_to_the_root_names_the_split(path, split):
    assert split_of(ROOT / path, ROOT) == split


def test_the_name_of_the_root_and_files_elsewhere_say_nothing():
    assert split_of(ROOT / "a.png", ROOT) == ""
    assert split_of(Path("/elsewhere/train/a.png"), ROOT) == ""


@pytest.mark.parametrize(
    ("stem", "split"),
    [
        ("instances_val2017", "val"),
        ("train", "train"),
        ("a_test", "test"),
        ("instances_value", ""),
        ("retrained", ""),
    ],
)
def test_a_file_is_named_after_its_split_by_a_whole_word(stem, split):
    assert split_of_name(stem) == split


def item(name, split, *names):
    objects = tuple(Labelled(each, (0.0, 0.0, 1.0, 1.0)) for each in names)
    return Item(Path(name), Path(f"{name}.txt"), objects, split=split)


def test_splits_are_counted_and_taken_apart():
    items = (item("a", "train", "rod"), item("b", "val", "disc", "rod"), item("c", "train"))
    collection = Collection(layout="kitti", root=ROOT, items=items, class_names=used_names(items))
    assert collection.class_names == ("disc", "rod")
    assert collection.splits == {"train": 2, "val": 1}
    assert [each.image.name for each in collection.of_split("val").items] == ["b"]
