"""Label Studio: both forms, several annotators, skipped tasks, turned shapes and brushes."""

import json

import numpy as np
import pytest

from rcnn_jax.data.formats.coco_masks import segmentation_mask
from rcnn_jax.data.layouts.detect import read_collection
from tests.data.layouts.folders import picture, text


def region(kind="rectanglelabels", label="cat", **value):
    value = value or {"x": 10, "y": 10, "width": 50, "height": 50}  # of 60 x 40
    return {
        "id": "r1",
        "type": kind,
        "value": {**value, kind: [label]},
        "original_width": 60,
        "original_height": 40,
    }


def annotation(*result, who=1, updated="2026-01-01T10:00:00Z", **more):
    return {"id": 5, "completed_by": who, "result": [*result], "updated_at": updated, **more}


def task(image, *annotations, number=1):
    return {
        "id": number,
        "data": {"image": image},
        "annotations": [*annotations],
        "predictions": [],
    }


def export(root, *tasks):
    return text(root / "export.json", json.dumps(tasks))


def only(root):
    (item,) = read_collection(root).items
    (obj,) = item.objects
    return obj


@pytest.mark.parametrize(
    "reference",
    [
        "/data/upload/3/0a1b2c3d-street%20one.png",
        "/data/local-files/?d=photos/street%20one.png",
        "s3://bucket/photos/street one.png",
        "https://example.org/street%20one.png",
        "C:\\photos\\street one.png",
    ],
)
def test_an_image_is_found_whatever_the_server_called_it(tmp_path, reference):
    picture(tmp_path / "images" / "street one.png")
    export(tmp_path, task(reference, annotation(region())))
    collection = read_collection(tmp_path)
    assert collection.layout == "label_studio"
    assert only(tmp_path).box == (4.0, 6.0, 24.0, 36.0)
    assert collection.items[0].size == (40, 60)


def test_an_upload_is_found_under_the_name_that_its_photograph_had(tmp_path):
    picture(tmp_path / "photo (1).png")
    picture(tmp_path / "photo (2).png")
    export(tmp_path, task("/data/upload/3/0a1b2c3d-photo_2.png", annotation(region())))
    (item,) = read_collection(tmp_path).items
    assert item.image.name == "photo (2).png"


def test_an_upload_that_two_photographs_may_be_belongs_to_none(tmp_path):
    for name in ("a 1.png", "a (1).png", "b.png"):
        picture(tmp_path / name)
    export(
        tmp_path,
        task("/data/upload/3/0a1b2c3d-a_1.png", annotation(region())),
        task("b.png", annotation(region())),
    )
    collection = read_collection(tmp_path)
    assert [item.image.name for item in collection.items] == ["b.png"]
    assert [problem.what for problem in collection.problems] == [
        "there is no image '/data/upload/3/0a1b2c3d-a_1.png'"
    ]


def test_json_min_is_read(tmp_path):
    picture(tmp_path / "a.png")
    shape = {"x": 10, "y": 10, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["cat"]}
    row = {
        "image": "/data/upload/3/0a1b2c3d-a.png",
        "id": 1,
        "label": [{**shape, "original_width": 60, "original_height": 40}],
        "annotator": 1,
        "annotation_id": 7,
        "updated_at": "2026-01-01T10:00:00Z",
    }
    export(tmp_path, row)
    assert read_collection(tmp_path).layout == "label_studio"
    assert only(tmp_path).box == (4.0, 6.0, 24.0, 36.0)


def test_of_several_annotations_the_newest_counts_and_that_is_said(tmp_path):
    picture(tmp_path / "a.png")
    old = annotation(region(label="dog"), who=1, updated="2026-01-01T10:00:00Z")
    new = annotation(region(label="cat"), who=2, updated="2026-01-02T10:00:00Z")
    export(tmp_path, task("a.png", new, old))
    assert only(tmp_path).name == "cat"
    assert (
        "1 images have several annotations (1 by several people): the newest of each counts"
        in read_collection(tmp_path).choices
    )


def test_skipped_and_untouched_tasks_are_left_out_and_an_empty_annotation_is_not(tmp_path):
    for name in "abcd":
        picture(tmp_path / f"{name}.png")
    export(
        tmp_path,
        task("a.png", annotation(region()), number=1),
        task("b.png", annotation(was_cancelled=True), number=2),
        task("c.png", number=3),
        task("d.png", annotation(), number=4),
    )
    collection = read_collection(tmp_path)
    assert [(item.image.stem, len(item.objects)) for item in collection.items] == [
        ("a", 1),
        ("d", 0),
    ]
    assert any(
        "1 tasks were skipped and 1 have no annotation" in sentence
        for sentence in collection.choices
    )


def test_a_cancelled_annotation_does_not_win_by_being_newer(tmp_path):
    picture(tmp_path / "a.png")
    cancelled = annotation(updated="2026-03-01T00:00:00Z", was_cancelled=True)
    export(tmp_path, task("a.png", annotation(region()), cancelled))
    assert only(tmp_path).name == "cat"


def test_a_turned_box_turns_around_its_upper_left_corner(tmp_path):
    picture(tmp_path / "a.png")
    export(
        tmp_path,
        task("a.png", annotation(region(x=50, y=25, width=20, height=10, rotation=90))),
    )
    # From (30, 10), 12 wide and 4 high, turned clockwise: 4 to the left, 12 down.
    np.testing.assert_allclose(only(tmp_path).box, (10.0, 26.0, 22.0, 30.0), atol=1e-9)


def test_polygons_and_ellipses(tmp_path):
    picture(tmp_path / "a.png")
    export(
        tmp_path,
        task(
            "a.png",
            annotation(
                {**region("polygonlabels", points=[[10, 10], [50, 10], [50, 60]]), "id": "p"},
                {**region("ellipselabels", x=50, y=50, radiusX=10, radiusY=25), "id": "e"},
            ),
        ),
    )
    (item,) = read_collection(tmp_path).items
    polygon, ellipse = item.objects
    assert polygon.outline == [[6.0, 4.0, 30.0, 4.0, 30.0, 24.0]]
    np.testing.assert_allclose(ellipse.box, (10.0, 24.0, 30.0, 36.0), atol=1e-9)


def brush(mask):
    """Returns the run lengths of RGBA pixels as a brush stores them, every word for itself."""
    values = np.repeat(mask.astype(np.uint8).ravel() * 255, 4)
    bits = f"{len(values):032b}" + f"{7:05b}" + f"{3:04b}{3:04b}{3:04b}{7:04b}"
    runs = []
    for value in values:  # the worst case: runs that were not joined
        if runs and runs[-1][0] == value and runs[-1][1] < 256:
            runs[-1][1] += 1
        else:
            runs.append([value, 1])
    for number, (value, length) in enumerate(runs):
        if number % 2:
            bits += "1" + "11" + f"{length - 1:08b}" + f"{value:08b}"
        else:
            bits += "0" + "11" + f"{length - 1:08b}" + f"{value:08b}" * length
    bits += "0" * (-len(bits) % 8)
    return [int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)]


def test_a_brush_is_a_mask(tmp_path):
    picture(tmp_path / "a.png")
    mask = np.zeros((40, 60), bool)
    mask[5:9, 7:20] = True
    mask[8, 7] = False
    export(
        tmp_path, task("a.png", annotation(region("brushlabels", format="rle", rle=brush(mask))))
    )
    obj = only(tmp_path)
    assert obj.box == (5.0, 7.0, 9.0, 20.0)
    decoded = segmentation_mask(obj.outline, 40, 60)
    np.testing.assert_array_equal(decoded, mask)


def test_a_label_in_an_entry_of_its_own_joins_its_shape(tmp_path):
    picture(tmp_path / "a.png")
    shape = region()
    shape["type"], shape["value"] = "rectangle", {"x": 10, "y": 10, "width": 50, "height": 50}
    label = {"id": "r1", "type": "labels", "value": {"labels": ["cat"]}}
    export(tmp_path, task("a.png", annotation(shape, label)))
    assert (only(tmp_path).name, only(tmp_path).box) == ("cat", (4.0, 6.0, 24.0, 36.0))


@pytest.mark.parametrize(
    "value",
    [
        {"x": "a", "y": 1, "width": 2, "height": 2},
        {"x": float("nan"), "y": 1, "width": 2, "height": 2},
        {"points": [[1, 2], [3, 4]]},
        {"points": [[1], [2], [3]]},
        {"rle": [1, 2, 3], "format": "rle"},
        {"rle": [0, 0, 37, 128, 255, 255], "format": "rle"},
        {"rle": "abc", "format": "rle"},
        {"radiusX": 1, "x": 3},
    ],
)
def test_a_region_that_cannot_be_read_is_a_problem_and_the_rest_is_kept(tmp_path, value):
    picture(tmp_path / "a.png")
    bad = {**region("rectanglelabels", **value), "id": "bad"}
    export(tmp_path, task("a.png", annotation(bad, region())))
    collection = read_collection(tmp_path)
    assert len(collection.items[0].objects) == 1
    assert len(collection.problems) == 1
    assert "task 1, region 1" in collection.problems[0].where


def test_an_image_that_is_not_there_and_other_rows_are_problems(tmp_path):
    picture(tmp_path / "a.png")
    export(tmp_path, task("a.png", annotation(region())), task("gone.png", annotation(region())), 7)
    whats = [problem.what for problem in read_collection(tmp_path).problems]
    assert whats == ["there is no image 'gone.png'", "is no object"]
