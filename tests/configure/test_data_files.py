"""Data where a spec finds it: in place only where the readers of specs take it as it is."""

import json
from pathlib import Path

from rcnn_jax.configure.data_files import Wish, provide_files, with_sizes
from rcnn_jax.data.formats.image_size import read_image_size
from rcnn_jax.data.layouts.detect import read_collection
from tests.data.layouts.folders import coco, kitti_line, picture, text


def wish(collection, form, beside, *, as_found=True, split=None):
    """Wishes for all images of a collection; `split` says which part an image is of."""
    items = with_sizes(collection.items, [read_image_size(item.image) for item in collection.items])
    if split is not None:
        items = tuple(
            type(item)(item.image, item.labels, item.objects, item.size, split(item))
            for item in items
        )
    return Wish(form, items, collection.class_names, as_found, beside)


def provided(*args, **kwargs):
    collection = args[0]
    return provide_files(wish(*args, **kwargs), collection, lambda items, total, label: iter(items))


def kitti(root, *stems, folder="train"):
    for stem in stems:
        picture(root / folder / "images" / f"{stem}.png")
        text(root / folder / "labels" / f"{stem}.txt", kitti_line("cat", 6, 4, 36, 24))


def test_whole_kitti_folders_need_no_list(tmp_path):
    kitti(tmp_path / "d", "a", "b")
    kitti(tmp_path / "d", "c", folder="val")
    data = provided(read_collection(tmp_path / "d"), "kitti", tmp_path / "beside")
    assert not (tmp_path / "beside").exists()
    assert (data.val.images, data.val.listing) == (str(tmp_path / "d" / "val" / "images"), "")


def test_a_part_of_a_folder_is_listed_and_names_with_blanks_are_copied(tmp_path):
    kitti(tmp_path / "d", "a", "b", "c")
    collection = read_collection(tmp_path / "d")

    def split(item):
        return "val" if item.image.stem.endswith("c") else "train"

    data = provided(collection, "kitti", tmp_path / "one", split=split)
    assert Path(data.train[0].listing).read_text().split() == ["a", "b"]
    assert not data.converted
    kitti(tmp_path / "d", "with blank c")
    data = provided(read_collection(tmp_path / "d"), "kitti", tmp_path / "two", split=split)
    assert data.converted
    assert (tmp_path / "two" / "val" / "images" / "with blank c.png").is_file()


def test_several_folders_train_and_one_validates(tmp_path):
    for number in range(2):
        kitti(tmp_path / "d" / f"camera{number}", "a", "b")
        kitti(tmp_path / "d" / f"camera{number}", "c", folder="val")
    collection = read_collection(tmp_path / "d")
    assert provided(collection, "kitti", tmp_path / "one").converted  # two folders validate
    one = provided(
        collection,
        "kitti",
        tmp_path / "two",
        split=lambda item: "val" if "camera0/val" in str(item.image) else "train",
    )
    assert len(one.train) == 3
    assert not one.converted


def test_labels_that_were_not_read_whole_are_written_anew(tmp_path):
    kitti(tmp_path / "d", "a", "b")
    kitti(tmp_path / "d", "c", folder="val")
    data = provided(read_collection(tmp_path / "d"), "kitti", tmp_path / "out", as_found=False)
    assert data.converted
    assert (tmp_path / "out" / "train" / "labels" / "a.txt").is_file()


def two_files(root, *, val_id):
    for split, number in (("train", 1), ("val", val_id)):
        picture(root / split / f"{split}.png")
        coco(
            root / f"instances_{split}.json",
            [f"{split}.png"],
            [(0, number, [6, 4, 30, 20], {})],
            {number: "cat"},
        )
    return read_collection(root)


def test_coco_files_of_one_numbering_stay(tmp_path):
    data = provided(two_files(tmp_path / "d", val_id=1), "coco", tmp_path / "out")
    assert data.train[0].labels == str(tmp_path / "d" / "instances_train.json")
    assert data.val.images == str(tmp_path / "d" / "val")
    assert not (tmp_path / "out").exists()


def test_coco_files_that_number_their_classes_differently_are_written_anew(tmp_path):
    data = provided(two_files(tmp_path / "d", val_id=2), "coco", tmp_path / "out")
    assert data.converted
    for files in (*data.train, data.val):
        content = json.loads(Path(files.labels).read_text())
        assert content["categories"] == [{"id": 1, "name": "cat"}]
        assert [each["category_id"] for each in content["annotations"]] == [1]
        (image,) = content["images"]
        assert (Path(files.images) / image["file_name"]).is_file()


def yolo(root):
    for split in ("train", "val"):
        picture(root / split / "images" / f"{split}.png")
        text(root / split / "labels" / f"{split}.txt", "0 0.5 0.5 0.2 0.2\n")
    collection = read_collection(root)
    assert collection.layout == "yolo"
    return collection


def test_other_layouts_become_a_kitti_tree_with_copies(tmp_path):
    data = provided(yolo(tmp_path / "d"), "kitti", tmp_path / "out")
    assert data.converted
    assert all(Path(files.images).is_relative_to(tmp_path / "out") for files in data.train)
    assert Path(data.val.labels).exists()


def test_other_layouts_become_coco_files_of_images_that_stay(tmp_path):
    data = provided(yolo(tmp_path / "d"), "coco", tmp_path / "out")
    assert data.converted
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".json"}
    for files in (*data.train, data.val):
        content = json.loads(Path(files.labels).read_text())
        assert [each["bbox"][2:] for each in content["annotations"]] == [
            [content["images"][0]["width"] / 5, content["images"][0]["height"] / 5]
        ]
        (image,) = content["images"]
        assert (Path(files.images) / image["file_name"]).is_file()
        assert Path(files.images).is_relative_to(tmp_path / "d")
