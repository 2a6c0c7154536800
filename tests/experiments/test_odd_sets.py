"""The sets that `init` is tried on: what is drawn is what is labelled."""

import dataclasses

import numpy as np
import pytest

from experiments.init import odd_sets
from experiments.init.odd_sets import SETS, scenes
from rcnn_jax.data.layouts.detect import read_collection


@pytest.mark.parametrize("name", sorted(SETS))
def test_objects_lie_in_their_image_with_the_sizes_of_the_set(name):
    own = SETS[name]
    image, boxes = next(scenes(name))
    assert image.shape[:2] in own.canvases
    assert boxes and len(boxes) <= own.counts[1]
    height, width = image.shape[:2]
    for shape, x1, y1, x2, y2 in boxes:
        assert shape in own.classes
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
        assert np.sqrt((x2 - x1) * (y2 - y1)) <= 1.3 * own.sizes[1]


def test_a_scene_is_the_same_each_time():
    (first, boxes), (again, same) = next(scenes("signs")), next(scenes("signs"))
    assert (first == again).all() and boxes == same


@pytest.mark.parametrize(("name", "layout"), [("mixed", "kitti"), ("classes", "yolo")])
def test_a_written_set_is_read_back(tmp_path, monkeypatch, name, layout):
    monkeypatch.setitem(SETS, name, dataclasses.replace(SETS[name], images=5))
    monkeypatch.setattr("sys.argv", ["odd_sets", str(tmp_path), name])
    odd_sets.main()
    collection = read_collection(tmp_path / name)
    assert collection.layout == layout
    drawn = [boxes for _, boxes in scenes(name)]
    read = sorted(collection.items, key=lambda item: item.image.name)
    for item, boxes in zip(read, drawn, strict=True):
        assert [obj.name for obj in item.objects] == [box[0] for box in boxes]
        corners = [(obj.box[1], obj.box[0], obj.box[3], obj.box[2]) for obj in item.objects]
        np.testing.assert_allclose(corners, [box[1:] for box in boxes], atol=0.02)
