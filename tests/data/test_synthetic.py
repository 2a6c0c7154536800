import json

import cv2
import numpy as np
import pytest

from rcnn_jax.data.conversion.detectnet import KittiConversion, convert_kitti
from rcnn_jax.data.conversion.mask_rcnn import MaskRcnnConversion, convert_mask_rcnn
from rcnn_jax.data.formats.coco import CocoDataset
from rcnn_jax.data.formats.coco_masks import segmentation_mask
from rcnn_jax.data.formats.kitti import read_labels
from rcnn_jax.data.synthetic import CLASS_NAMES, generate, write_coco, write_kitti
from rcnn_jax.errors import DataError

HEIGHT, WIDTH = 96, 128


@pytest.fixture(scope="module")
def scenes():
    return list(generate(5, 60, HEIGHT, WIDTH))


def test_boxes_are_tight_around_the_visible_pixels(scenes):
    for scene in scenes:
        assert scene.instances.max() == len(scene.boxes)
        for index, box in enumerate(scene.boxes):
            ys, xs = np.nonzero(scene.mask(index))
            assert box.tolist() == [ys.min(), xs.min(), ys.max() + 1, xs.max() + 1]
            assert len(ys) >= 24


def test_shapes_and_types_are_as_documented(scenes):
    for scene in scenes:
        count = len(scene.boxes)
        assert scene.image.shape == (HEIGHT, WIDTH, 3) and scene.image.dtype == np.uint8
        assert scene.boxes.shape == (count, 4) and scene.boxes.dtype == np.float32
        assert scene.classes.shape == (count,) and scene.classes.dtype == np.int32
        assert ((scene.visible >= 0.4) & (scene.visible <= 1)).all()


def test_there_are_all_classes_overlaps_and_empty_scenes(scenes):
    classes = np.concatenate([scene.classes for scene in scenes])
    assert np.bincount(classes).min() > len(classes) / 6 and classes.max() == len(CLASS_NAMES) - 1
    assert min(len(scene.boxes) for scene in scenes) == 0
    assert np.mean(np.concatenate([scene.visible for scene in scenes]) < 0.95) > 0.1


def test_colour_does_not_tell_the_classes_apart(scenes):
    colors = {kind: [] for kind in range(3)}
    for scene in scenes:
        for index, kind in enumerate(scene.classes.tolist()):
            colors[kind].append(scene.image[scene.mask(index) == 1].mean())
    means = [np.mean(values) for values in colors.values()]
    spread = np.std(np.concatenate(list(colors.values())))
    assert max(means) - min(means) < spread


def test_a_scene_depends_on_seed_and_number_only(scenes):
    again = list(generate(5, 3, HEIGHT, WIDTH))
    for a, b in zip(scenes, again, strict=False):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.instances, b.instances)
    other = next(generate(6, 1, HEIGHT, WIDTH))
    assert (other.image != again[0].image).mean() > 0.9


def test_tiny_scenes_are_refused():
    with pytest.raises(ValueError, match="a scene of 20 x 40 pixels is too small"):
        generate(0, 1, 40, 20)


def test_kitti_layout_can_be_read_and_converted(tmp_path):
    files = write_kitti(tmp_path, seed=5, count=6, height=HEIGHT, width=WIDTH)
    scenes = list(generate(5, 6, HEIGHT, WIDTH))
    for path, scene in zip(files, scenes, strict=True):
        objects = read_labels(path)
        boxes = np.array([[o.y1, o.x1, o.y2, o.x2] for o in objects], np.float32).reshape(-1, 4)
        np.testing.assert_array_equal(boxes, scene.boxes)
        assert [CLASS_NAMES.index(o.class_name) for o in objects] == scene.classes.tolist()
        image = cv2.imread(str(tmp_path / "images" / f"{path.stem}.png"))
        np.testing.assert_array_equal(image[..., ::-1], scene.image)
    settings = KittiConversion(
        root=tmp_path, image_dir_name="images", label_dir_name="labels", val_split=50.0
    )
    report = convert_kitti(settings, tmp_path / "records" / "cells")
    assert sum(report.objects.values()) == sum(len(scene.boxes) for scene in scenes)
    assert report.skipped == 0


def test_coco_layout_holds_the_exact_masks_in_both_forms(tmp_path):
    size = {"height": HEIGHT, "width": WIDTH}
    paths = write_coco(tmp_path, seed=5, train_count=6, val_count=3, **size, image_extension=".jpg")
    scenes = list(generate(5, 9, HEIGHT, WIDTH))
    forms = set()
    for split, expected in (("train", scenes[:6]), ("val", scenes[6:])):
        dataset = CocoDataset.load(paths[split], masks=True)
        for image, scene in zip(dataset.images, expected, strict=True):
            for index, item in enumerate(dataset.annotations[image.id]):
                forms.add(type(item.segmentation))
                mask = segmentation_mask(item.segmentation, HEIGHT, WIDTH)
                np.testing.assert_array_equal(mask, scene.mask(index))
                y1, x1, y2, x2 = scene.boxes[index]
                assert item.bbox == (x1, y1, x2 - x1, y2 - y1) and item.area == mask.sum()
                assert dataset.categories[item.category_id] == CLASS_NAMES[scene.classes[index]]
    assert forms == {list, dict}
    ids = [a["id"] for path in paths.values() for a in json.loads(path.read_text())["annotations"]]
    assert len(ids) == len(set(ids))
    settings = MaskRcnnConversion(
        image_dir=tmp_path / "images",
        annotations_file=paths["train"],
        output_dir=tmp_path / "records",
        num_shards=2,
    )
    report = convert_mask_rcnn(settings)
    assert report.images == 6 and report.findings == ()


def test_an_unknown_image_extension_is_refused(tmp_path):
    with pytest.raises(DataError, match="000000.doc: cannot write images with this extension"):
        write_kitti(tmp_path, seed=0, count=1, height=32, width=32, image_extension=".doc")
