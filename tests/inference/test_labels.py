import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO

from rcnn_jax.evaluate.masks import coco_results, paste_masks
from rcnn_jax.inference.labels import (
    kitti_lines,
    mask_labels,
    write_coco_results,
    write_kitti_detections,
    write_mask_labels,
)

BOXES = np.array([[1.5, 2.25, 30.0, 40.125], [0.0, 0.0, 5.0, 6.0]], np.float32)
SCORES = np.array([0.75, 1 / 3], np.float32)


def test_a_line_has_sixteen_columns_in_the_order_of_kitti():
    lines = kitti_lines(BOXES, SCORES, np.array([1, 0]), ["car", "person"])
    assert lines == [
        "person 0 0 0 2.25 1.50 40.12 30.00 0 0 0 0 0 0 0 0.7500000",
        "car 0 0 0 0.00 0.00 6.00 5.00 0 0 0 0 0 0 0 0.3333333",
    ]
    assert {len(line.split(" ")) for line in lines} == {16}


def test_blanks_in_class_names_do_not_make_columns():
    (line,) = kitti_lines(BOXES[:1], SCORES[:1], np.array([0]), ["traffic  light"])
    assert line.startswith("traffic_light 0 0 0 ")
    assert len(line.split()) == 16


def test_every_line_of_the_file_ends_with_a_newline(tmp_path):
    path = tmp_path / "labels" / "a.txt"
    write_kitti_detections(path, BOXES, SCORES, np.array([0, 0]), ["car"])
    assert path.read_text().endswith("0.3333333\n")
    assert len(path.read_text().splitlines()) == 2


def test_an_image_without_detections_gets_an_empty_file(tmp_path):
    path = tmp_path / "a.txt"
    write_kitti_detections(path, np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), ["car"])
    assert path.read_text() == ""


def test_lengths_that_disagree_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="shorter"):
        write_kitti_detections(tmp_path / "a.txt", BOXES, SCORES[:1], np.array([0, 0]), ["car"])
    assert list(tmp_path.iterdir()) == []


def results():
    masks = paste_masks(np.ones((2, 28, 28)), BOXES, (32, 36))
    return coco_results(5, BOXES, SCORES, [3, 1], masks)


def test_labels_of_an_image_have_whole_boxes_inside_and_the_area_of_the_mask():
    first, second = mask_labels(results(), (32, 36))
    assert set(first) == {
        "area",
        "is_crowd",
        "image_id",
        "bbox",
        "id",
        "category_id",
        "score",
        "segmentation",
    }
    assert first["bbox"] == [2, 2, 34, 28]
    assert (first["id"], second["id"]) == (1, 2)
    assert (first["image_id"], first["category_id"], first["is_crowd"]) == (5, 3, 0)
    assert second["area"] == 30


def test_labels_without_masks_have_the_area_of_the_box():
    _, label = mask_labels(coco_results(5, BOXES, SCORES, [3, 1]), (32, 36))
    assert label["area"] == 30
    assert "segmentation" not in label


def test_labels_of_an_image_are_a_json_list(tmp_path):
    write_mask_labels(tmp_path / "a.json", results(), (32, 36))
    assert json.loads((tmp_path / "a.json").read_text()) == mask_labels(results(), (32, 36))


def test_combined_results_are_read_by_pycocotools(tmp_path):
    path = tmp_path / "results.json"
    write_coco_results(path, results())
    truth = COCO()
    truth.dataset = {
        "images": [{"id": 5}],
        "annotations": [],
        "categories": [{"id": 1, "name": "a"}, {"id": 3, "name": "b"}],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        loaded = truth.loadRes(str(path))
    assert [a["category_id"] for a in loaded.dataset["annotations"]] == [3, 1]
