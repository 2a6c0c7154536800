"""The first images of a source are the images of the source, and that they are not all is noted."""

import json

import cv2
import numpy as np
import pytest

from rcnn_jax.data.formats.coco import CocoDataset
from rcnn_jax.data.sources.first_images import FirstImages
from rcnn_jax.data.sources.masks import CocoFolder


@pytest.fixture
def source(tmp_path):
    images = [
        {"id": 10 + i, "file_name": f"{i}.png", "height": 4, "width": 5 + i} for i in range(3)
    ]
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((4, 5 + i, 3), i, np.uint8))
    box = {"id": 1, "image_id": 11, "category_id": 1, "bbox": [0, 0, 2, 2], "iscrowd": 0}
    content = {"images": images, "annotations": [box], "categories": [{"id": 1, "name": "disc"}]}
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    return CocoFolder(CocoDataset.load(path, masks=False), tmp_path, {1: 0}, ("disc",))


def test_images_are_those_of_the_source(source):
    first = FirstImages(source, 2)
    assert len(first) == 2 and first.class_names == source.class_names
    for i in range(2):
        assert first.name(i) == source.name(i)
        assert (first.source_id(i), first.file_name(i)) == (10 + i, f"{i}.png")
        assert first.size(i) == (4, 5 + i)
        assert first.digest(i) == source.digest(i)
        np.testing.assert_array_equal(first.image(i, "rgb"), source.image(i, "rgb"))
    assert first.annotation(1).boxes.tolist() == [[0, 0, 2, 2]]


def test_that_they_are_not_all_is_noted_once(source):
    *others, note = FirstImages(source, 2).findings
    assert tuple(others) == tuple(source.findings)
    assert note.sentence == "the first 2 of 3 validation images are evaluated (eval_samples)"
    assert note.severity == "note"
