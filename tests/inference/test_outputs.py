import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from rcnn_jax.inference.outputs import CocoLabels, KittiLabels, Pictures, image_ids
from rcnn_jax.structures import Detections

DETECTIONS = Detections(
    boxes=np.array([[2.0, 4.0, 10.0, 20.0]], np.float32),
    scores=np.array([0.75], np.float32),
    classes=np.array([1], np.int32),
    valid=np.array([True]),
    masks=np.ones((1, 8, 8), np.float32),
)
SIZE = (16, 24)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "7.png"
    cv2.imwrite(str(path), np.full((*SIZE, 3), 90, np.uint8))
    return path


def test_images_called_by_numbers_keep_them_as_ids():
    paths = [Path("000139.jpg"), Path("000285.jpg")]
    assert image_ids(paths) == {paths[0]: 139, paths[1]: 285}


@pytest.mark.parametrize("names", [("a.jpg", "7.jpg"), ("1.jpg", "1.png")])
def test_images_of_other_names_are_numbered_from_one(names):
    paths = [Path(name) for name in names]
    assert image_ids(paths) == {paths[0]: 1, paths[1]: 2}


def test_coco_labels_have_category_ids_and_are_joined_next_to_the_folder(image, tmp_path):
    writer = CocoLabels(tmp_path / "labels", {image: "7"}, (11, 42))
    writer.write(image, SIZE, DETECTIONS)
    assert writer.close() == [
        ("label files", tmp_path / "labels"),
        ("COCO results", tmp_path / "labels.json"),
    ]
    (label,) = json.loads((tmp_path / "labels" / "7.json").read_text())
    assert (label["category_id"], label["image_id"], label["bbox"]) == (42, 7, [4, 2, 16, 8])
    assert label["area"] > 100  # a full mask, its corners rounded
    (result,) = json.loads((tmp_path / "labels.json").read_text())
    assert result["bbox"] == [4.0, 2.0, 16.0, 8.0]
    assert result["segmentation"]["size"] == [16, 24]


def test_masks_are_drawn_only_when_asked_for(image, tmp_path):
    pictures = []
    for masks in (False, True):
        folder = tmp_path / str(masks)
        writer = Pictures(folder, {image: "7"}, ("a", "b"), captions=False, masks=masks)
        writer.write(image, SIZE, DETECTIONS)
        assert writer.close() == [("annotated images", folder)]
        pictures.append(cv2.imread(str(folder / "7.png")))
    boxed, filled = pictures
    assert (boxed[6, 12] == 90).all()
    assert (filled[6, 12] != 90).any()
    assert (filled[14] == boxed[14]).all()


def test_kitti_labels_are_lines_of_sixteen_columns(image, tmp_path):
    writer = KittiLabels(tmp_path / "kitti", {image: "7"}, ("car", "big van"))
    writer.write(image, SIZE, DETECTIONS)
    line = (tmp_path / "kitti" / "7.txt").read_text().split()
    assert line[0] == "big_van" and len(line) == 16
