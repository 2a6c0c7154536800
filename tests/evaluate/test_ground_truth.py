"""Ground truth of a source as the content of a COCO file: the same numbers as in the file."""

import json
from dataclasses import replace

import numpy as np
import pytest

from rcnn_jax.data.formats.coco import CocoDataset
from rcnn_jax.data.formats.coco_masks import mask_rle, segmentation_mask
from rcnn_jax.data.sources.masks import CocoFolder
from rcnn_jax.evaluate.ground_truth import coco_content

SQUARE = [2, 1, 5, 1, 5, 4, 2, 4]
ROD = np.zeros((6, 8), np.uint8)
ROD[2, 1:7] = 1
FILE = {
    "images": [
        {"id": 7, "file_name": "b.png", "height": 6, "width": 8},
        {"id": 3, "file_name": "a.png", "height": 6, "width": 8},
    ],
    "categories": [{"id": 2, "name": "disc"}, {"id": 9, "name": "rod"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 2, "bbox": [2.1, 1, 3.3, 3], "area": 9.5,
         "iscrowd": 0, "segmentation": [SQUARE]},
        {"id": 2, "image_id": 7, "category_id": 9, "bbox": [1, 2, 6, 1], "area": 6, "iscrowd": 1,
         "segmentation": mask_rle(ROD)},
    ],
}  # fmt: skip


@pytest.fixture
def source(tmp_path):
    import cv2

    for image in FILE["images"]:
        cv2.imwrite(str(tmp_path / image["file_name"]), ROD)
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(FILE))
    return CocoFolder(CocoDataset.load(path, masks=True), tmp_path, {2: 0, 9: 1}, ("disc", "rod"))


def test_images_and_categories_are_those_of_the_file(source):
    content = coco_content(source, (2, 9), masks=False)
    assert sorted(image["id"] for image in content["images"]) == [3, 7]
    assert content["categories"] == FILE["categories"]
    assert all("segmentation" not in item for item in content["annotations"])


def test_objects_have_the_boxes_areas_and_masks_of_the_file(source):
    first, second = coco_content(source, (2, 9), masks=True)["annotations"]
    assert (first["id"], second["id"]) == (1, 2), "counted through, from 1 on"
    assert (first["image_id"], first["category_id"], second["category_id"]) == (7, 2, 9)
    np.testing.assert_allclose(first["bbox"], [2.1, 1, 3.3, 3], rtol=1e-6)
    assert first["area"] == pytest.approx(9.9), "of the box: the source states none"
    assert (first["iscrowd"], second["iscrowd"]) == (0, 1)
    for item, mask in ((first, segmentation_mask([SQUARE], 6, 8)), (second, ROD)):
        np.testing.assert_array_equal(segmentation_mask(item["segmentation"], 6, 8), mask)


class Stated(CocoFolder):
    """A source that states areas, as TensorFlow Datasets do."""

    def annotation(self, index):
        made = super().annotation(index)
        return replace(made, areas=np.full(len(made.boxes), 9.5, np.float32))


def test_areas_that_the_data_states_decide_the_size_class(source):
    source.__class__ = Stated
    content = coco_content(source, (2, 9), masks=True)
    assert [item["area"] for item in content["annotations"]] == [9.5, 9.5]


def test_a_class_without_an_id_is_no_category(source):
    content = coco_content(source, (2, 0), masks=False)
    assert content["categories"] == [{"id": 2, "name": "disc"}]


def test_the_content_is_json(source):
    content = coco_content(source, (2, 9), masks=True)
    assert json.loads(json.dumps(content)) == content
