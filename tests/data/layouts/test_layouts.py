"""Every layout gives the same objects; what the files leave open is decided and said."""

import json

import numpy as np
import pytest

from rcnn_jax.data.layouts.detect import read_collection
from rcnn_jax.errors import DataError
from tests.data.layouts.folders import coco, kitti_line, picture, text, voc_xml

BOX = (4.0, 6.0, 24.0, 36.0)  # y1, x1, y2, x2 in an image of 40 x 60


def kitti(root):
    for split in ("train", "val"):
        picture(root / split / "images" / f"{split}.png")
        text(root / split / "labels" / f"{split}.txt", kitti_line("cat", 6, 4, 36, 24))


def yolo(root):
    for split in ("train", "valid"):
        picture(root / split / "images" / f"{split}.png")
        text(root / split / "labels" / f"{split}.txt", "1 0.35 0.35 0.5 0.5\n")
    text(root / "data.yaml", "names: [dog, cat]\nnc: 2\n")


def voc(root):
    for split in ("train", "val"):
        picture(root / "JPEGImages" / f"{split}.png")
        text(root / "Annotations" / f"{split}.xml", voc_xml("renamed.jpg", ("cat", 7, 5, 36, 24)))
        text(root / "ImageSets" / "Main" / f"{split}.txt", f"{split}\n")


def coco_beside(root):
    for split in ("train", "valid"):
        picture(root / split / f"{split}.png")
        coco(
            root / split / "_annotations.coco.json",
            [f"{split}.png"],
            [(0, 1, [6, 4, 30, 20], {})],
            {0: "animals", 1: "cat"},
        )


def coco_apart(root):
    for split in ("train", "val"):
        picture(root / f"{split}2017" / f"{split}.png")
        coco(
            root / "annotations" / f"instances_{split}2017.json",
            [f"{split}.png"],
            [(0, 1, [6, 4, 30, 20], {})],
            {1: "cat"},
        )


@pytest.mark.parametrize("write", [kitti, yolo, voc, coco_beside, coco_apart])
def test_a_layout_is_recognised_and_read(tmp_path, write):
    write(tmp_path)
    collection = read_collection(tmp_path)
    assert collection.layout == write.__name__.split("_")[0]
    assert collection.splits == {"train": 1, "val": 1}
    for item in collection.items:
        assert item.image.is_file()
        assert item.labels.exists()
        (only,) = item.objects
        assert only.name == "cat"
        np.testing.assert_allclose(only.box, BOX, atol=1e-9)
        assert str(tmp_path) in only.where
    assert collection.problems == ()


def test_one_annotation_file_can_be_named(tmp_path):
    coco_apart(tmp_path)
    collection = read_collection(tmp_path / "annotations" / "instances_val2017.json")
    assert [item.image for item in collection.items] == [tmp_path / "val2017" / "val.png"]
    coco_beside(tmp_path)
    collection = read_collection(tmp_path / "valid" / "_annotations.coco.json")
    assert [item.image.name for item in collection.items] == ["valid.png"]


def test_polygons_of_yolo_are_outlines_and_not_boxes(tmp_path):
    picture(tmp_path / "images" / "a.png")
    text(tmp_path / "labels" / "a.txt", "0 0.1 0.1 0.6 0.1 0.6 0.6\n0 0.5 0.5 0.2 0.2\n")
    text(tmp_path / "classes.txt", "cat\n")
    collection = read_collection(tmp_path)
    outlined, boxed = collection.items[0].objects
    np.testing.assert_allclose(outlined.box, (4, 6, 24, 36))
    np.testing.assert_allclose(outlined.outline, [[6, 4, 36, 4, 36, 24]])
    assert boxed.outline is None
    assert "1 boxes and 1 polygons" in collection.choices


@pytest.mark.parametrize("points", [600, 3000])
def test_outlines_along_every_pixel_are_recognised_as_yolo(tmp_path, points):
    # One line is longer than the part of a file that tells its layout.
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    ring = np.stack([0.5 + 0.25 * np.cos(angles), 0.5 + 0.25 * np.sin(angles)], axis=1)
    picture(tmp_path / "images" / "a.png")
    line = "0 " + " ".join(f"{value:.6f}" for value in ring.ravel())
    text(tmp_path / "labels" / "a.txt", f"{line}\n{line}\n")
    collection = read_collection(tmp_path)
    assert collection.layout == "yolo"
    assert [len(obj.outline[0]) for obj in collection.items[0].objects] == [2 * points] * 2


@pytest.mark.parametrize(
    ("numbers", "names", "expected"),
    [
        ("0 1", "names: {0: cat, 1: dog}", ["cat", "dog"]),
        ("1 2", "names: [cat, dog]", ["cat", "dog"]),  # from 1: 0 never, 2 beyond the last
        ("1 1", "names: [cat, dog]", ["dog", "dog"]),
        ("1 2", "names: {1: cat, 2: dog}", ["cat", "dog"]),  # the keys count from 1 too
        ("2 2", "names: {1: cat, 2: dog}", ["dog", "dog"]),
        ("1 3", "names: {0: cat, 2: dog}", ["cat", "dog"]),  # 1 and 3 are no keys, 0 and 2 are
        ("1 9", "names: {1: cat, 2: dog}", ["cat", "class 9"]),
        ("0 7", "names: [cat, dog]", ["cat", "class 7"]),
        ("0 1", "", ["class 0", "class 1"]),
    ],
)
def test_the_numbering_of_yolo_follows_from_the_files_and_is_said(
    tmp_path, numbers, names, expected
):
    picture(tmp_path / "images" / "a.png")
    lines = "".join(f"{number} 0.5 0.5 0.2 0.2\n" for number in numbers.split())
    text(tmp_path / "labels" / "a.txt", lines)
    if names:
        text(tmp_path / "data.yaml", names)
    collection = read_collection(tmp_path)
    assert [each.name for each in collection.items[0].objects] == expected
    assert any("count from" in choice or "no list" in choice for choice in collection.choices)


def test_voc_counts_from_one_unless_a_box_begins_at_zero(tmp_path):
    picture(tmp_path / "a.png")
    text(tmp_path / "a.xml", voc_xml("a.png", ("my cat", 1, 1, 60, 40)))
    (item,) = read_collection(tmp_path).items
    assert item.objects[0].box == (0.0, 0.0, 40.0, 60.0)
    assert item.objects[0].name == "my cat"
    text(tmp_path / "a.xml", voc_xml("a.png", ("cat", 0, 3, 59, 39)))
    collection = read_collection(tmp_path)
    assert collection.items[0].objects[0].box == (3.0, 0.0, 39.0, 59.0)
    assert "count from 0" in collection.choices[0]


def test_the_box_of_a_part_does_not_decide_from_where_voc_counts(tmp_path):
    picture(tmp_path / "a.png")
    box = "<bndbox><xmin>0.5</xmin><ymin>0</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    part = f"<part><name>head</name>{box}</part></object>"
    content = voc_xml("a.png", ("person", 1, 1, 60, 40)).replace("</object>", part)
    text(tmp_path / "a.xml", content)
    collection = read_collection(tmp_path)
    assert [each.box for each in collection.items[0].objects] == [(0.0, 0.0, 40.0, 60.0)]
    assert "coordinates count from 1, as the format says" in collection.choices


def test_marks_of_voc_are_kept_and_counted_in_one_sentence(tmp_path):
    for stem in "ab":
        picture(tmp_path / f"{stem}.png")
    hard = voc_xml("a.png", ("cat", 1, 1, 9, 9), ("cat", 20, 1, 30, 9), difficult=1)
    text(tmp_path / "a.xml", hard)
    cut = voc_xml("b.png", ("cat", 1, 1, 9, 9)).replace(
        "<bndbox>", "<truncated>1</truncated><bndbox>"
    )
    text(tmp_path / "b.xml", cut)
    collection = read_collection(tmp_path)
    marks = [[each.difficult for each in item.objects] for item in collection.items]
    assert marks == [[True, True], [False]]
    assert (
        "2 objects are marked difficult (as KITTI they train and do not count where a model is judged; "
        "COCO has no such mark) and 1 truncated (taken as any other)" in collection.choices
    )


def test_damaged_parts_are_listed_and_the_rest_is_read(tmp_path):
    for stem in "abcd":
        picture(tmp_path / "images" / f"{stem}.png")
    text(tmp_path / "labels" / "a.txt", kitti_line("cat", 1, 2, 30, 20) + "cat 0 0\n")
    text(tmp_path / "labels" / "b.txt", kitti_line("cat", 1, 2, "nan", 20))
    text(tmp_path / "labels" / "lonely.txt", kitti_line("cat", 1, 2, 30, 20))
    (tmp_path / "labels" / "c.txt").write_bytes(b"\xff\xfe\x00")
    collection = read_collection(tmp_path)
    assert [len(item.objects) for item in collection.items] == [1, 0, 0]
    locations = [problem.where for problem in collection.problems]
    assert f"{tmp_path}/labels/a.txt:2" in locations
    assert f"{tmp_path}/labels/b.txt:1" in locations
    assert f"{tmp_path}/labels/c.txt" in locations
    assert f"{tmp_path}/labels/lonely.txt" in locations
    assert f"{tmp_path}/images/d.png" in locations


def test_a_damaged_annotation_of_coco_leaves_the_others(tmp_path):
    picture(tmp_path / "a.png")
    coco(
        tmp_path / "x.json",
        ["a.png"],
        [
            (0, 1, [1, 1, 5, 5], {}),
            (0, 9, [1, 1, 5, 5], {}),
            (0, 1, ["x"], {}),
            (7, 1, [1, 1, 2, 2], {}),
        ],
        {1: "cat"},
    )
    collection = read_collection(tmp_path)
    assert len(collection.items[0].objects) == 1
    assert len(collection.problems) == 3


def test_masks_drawn_as_crowds_are_named(tmp_path):
    picture(tmp_path / "a.png")
    coco(tmp_path / "x.json", ["a.png"], [(0, 1, [1, 1, 5, 5], {"iscrowd": 1})], {1: "cat"})
    collection = read_collection(tmp_path)
    assert collection.items[0].objects[0].crowd
    assert any("crowds" in choice for choice in collection.choices)


def test_of_two_layouts_the_fuller_one_is_taken_and_said(tmp_path):
    yolo(tmp_path)
    coco(tmp_path / "old.json", ["train.png"], [], {1: "cat"})
    collection = read_collection(tmp_path)
    assert collection.layout == "yolo"
    assert "coco" in collection.choices[0]


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_a_folder_without_annotations_is_refused_with_what_it_holds(tmp_path, name):
    (tmp_path / "empty").mkdir()
    picture(tmp_path / "empty" / "a.png")
    text(tmp_path / "empty" / "notes.txt", "hello world\n")
    with pytest.raises(DataError) as error:
        read_collection(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)
    if name == "empty":
        assert "1 images and 1 .txt" in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        '<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>',
        "<annotation>",
        "<annotation><object><name>cat</name></object></annotation>",
    ],
)
def test_hostile_and_damaged_xml_is_a_problem_and_no_crash(tmp_path, content):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    text(tmp_path / "a.xml", content)
    text(tmp_path / "b.xml", voc_xml("b.png", ("cat", 1, 1, 5, 5)))
    collection = read_collection(tmp_path)
    assert collection.problems
    assert sum(len(item.objects) for item in collection.items) == 1


@pytest.mark.parametrize("content", ["[", "{}", "null", json.dumps({"images": 3}), "[" * 100_000])
def test_other_json_files_are_no_annotations(tmp_path, content):
    kitti(tmp_path)
    text(tmp_path / "other.json", content)
    assert read_collection(tmp_path).layout == "kitti"


def test_links_that_lead_back_up_are_not_followed_for_ever(tmp_path):
    kitti(tmp_path)
    (tmp_path / "train" / "again").symlink_to(tmp_path)
    assert len(read_collection(tmp_path).items) == 2
