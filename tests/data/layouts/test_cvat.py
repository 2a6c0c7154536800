"""CVAT for images 1.1: every shape by hand; what encloses nothing is counted, what fails listed."""

import numpy as np
import pytest

from rcnn_jax.data.formats.coco_masks import segmentation_mask
from rcnn_jax.data.layouts.detect import read_collection
from tests.data.layouts.folders import picture, text

META = (
    "<version>1.1</version><meta><task><labels><label><name>cat</name></label>"
    "<label><name>skeleton joint</name></label></labels></task><dumped>{dumped}</dumped></meta>"
)


def export(root, *images, name="annotations.xml", dumped="2026-01-01 10:00:00"):
    return text(
        root / name,
        f"<?xml version='1.0'?><annotations>{META.format(dumped=dumped)}{''.join(images)}</annotations>",
    )


def image(name, *shapes, subset="Train"):
    return (
        f'<image id="0" name="{name}" subset="{subset}" width="60" height="40">'
        f"{''.join(shapes)}</image>"
    )


def box(x1=6.0, y1=4.0, x2=36.0, y2=24.0, label="cat", **more):
    extra = "".join(f' {key}="{value}"' for key, value in more.items())
    return f'<box label="{label}" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}"{extra}></box>'


def only(root):
    (item,) = read_collection(root).items
    (obj,) = item.objects
    return obj


def test_a_task_with_subsets_is_read(tmp_path):
    for split in ("Train", "Validation"):
        picture(tmp_path / "images" / f"{split}.png")
    export(
        tmp_path,
        *(
            image(f"{split}.png", box(occluded=1), subset=split)
            for split in ("Train", "Validation")
        ),
    )
    collection = read_collection(tmp_path)
    assert (collection.layout, collection.splits) == ("cvat", {"train": 1, "val": 1})
    assert collection.class_names == ("cat",)
    assert "no object is called skeleton joint: left out" in collection.choices
    for item in collection.items:
        (labelled,) = item.objects
        assert labelled.box == (4.0, 6.0, 24.0, 36.0)
        assert labelled.difficult
        assert item.size == (40, 60)
        assert "annotations.xml: image" in labelled.where


def test_a_box_that_is_turned_by_a_right_angle_changes_its_sides(tmp_path):
    picture(tmp_path / "a.png")
    export(tmp_path, image("a.png", box(10, 10, 30, 20, rotation=90)))
    obj = only(tmp_path)
    np.testing.assert_allclose(obj.box, (5.0, 15.0, 25.0, 25.0), atol=1e-9)
    assert len(obj.outline[0]) == 8


def test_polygons_ellipses_and_masks_keep_their_outlines(tmp_path):
    picture(tmp_path / "a.png")
    export(
        tmp_path,
        image(
            "a.png",
            '<polygon label="cat" points="1,2;11,2;11,8"></polygon>',
            '<ellipse label="cat" cx="30" cy="20" rx="10" ry="5"></ellipse>',
            # Rows of a window of 2 x 3: 0 1 1 / 1 0 0
            '<mask label="cat" rle="1, 3, 2" left="4" top="6" width="3" height="2"></mask>',
        ),
    )
    (item,) = read_collection(tmp_path).items
    polygon, ellipse, mask = item.objects
    assert polygon.box == (2.0, 1.0, 8.0, 11.0)
    assert polygon.outline == [[1.0, 2.0, 11.0, 2.0, 11.0, 8.0]]
    np.testing.assert_allclose(ellipse.box, (15.0, 20.0, 25.0, 40.0), atol=1e-9)
    assert mask.box == (6.0, 4.0, 8.0, 7.0)
    decoded = segmentation_mask(mask.outline, 40, 60)
    assert decoded[6:8, 4:7].tolist() == [[0, 1, 1], [1, 0, 0]]
    assert decoded.sum() == 3


def test_shapes_without_an_area_are_counted(tmp_path):
    picture(tmp_path / "a.png")
    export(
        tmp_path, image("a.png", box(), '<points label="cat" points="1,2"/>', '<tag label="cat"/>')
    )
    collection = read_collection(tmp_path)
    assert "shapes that enclose nothing were left out: 1 points, 1 tag" in collection.choices


def test_of_two_exports_the_newest_counts_and_that_is_said(tmp_path):
    picture(tmp_path / "a.png")
    export(tmp_path, image("a.png", box(x1=1)), name="new.xml", dumped="2026-02-01 10:00:00")
    export(tmp_path, image("a.png", box(x1=2)), name="old.xml", dumped="2026-01-01 10:00:00")
    assert only(tmp_path).box[1] == 1.0
    assert (
        "1 images are in several exports: the newest of them counts"
        in read_collection(tmp_path).choices
    )


@pytest.mark.parametrize(
    "shape",
    [
        '<box label="cat" xtl="a" ytl="1" xbr="5" ybr="5"/>',
        '<box label="cat" xtl="nan" ytl="1" xbr="5" ybr="5"/>',
        '<box label="cat" xtl="1"/>',
        '<polygon label="cat" points="1,2;3,4"/>',
        '<polygon label="cat" points="1;2;3"/>',
        '<mask label="cat" rle="1,-3" left="4" top="6" width="3" height="2"/>',
        '<mask label="cat" rle="1,3" left="4" top="6" width="30000000" height="2"/>',
        '<mask label="cat" rle="1,300" left="4" top="6" width="3" height="2"/>',
        '<mask label="cat" rle="6" left="4" top="6" width="3" height="2"/>',
        "<blob/>",
    ],
)
def test_a_shape_that_cannot_be_read_is_a_problem_and_the_rest_is_kept(tmp_path, shape):
    picture(tmp_path / "a.png")
    export(tmp_path, image("a.png", shape, box()))
    collection = read_collection(tmp_path)
    assert len(collection.items[0].objects) == 1
    assert len(collection.problems) == 1
    assert "shape 1" in collection.problems[0].where


def test_tracks_of_a_film_are_named_with_what_to_do(tmp_path):
    picture(tmp_path / "a.png")
    export(tmp_path, image("a.png", box()), '<track id="0" label="cat"></track>')
    (problem,) = read_collection(tmp_path).problems
    assert "export the task as 'CVAT for images 1.1'" in problem.what
