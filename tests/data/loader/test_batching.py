import logging
from dataclasses import replace

import numpy as np
import pytest

from rcnn_jax.data.loader import batching
from rcnn_jax.data.loader.mask_crops import Polygons
from rcnn_jax.data.loader.plan import PlannedBatch
from rcnn_jax.data.sources.annotations import Annotation
from rcnn_jax.errors import DataError
from rcnn_jax.settings.data import AugmentSettings, GeometrySettings, GroundTruthSettings


class Memory:
    """A source of images in memory whose only object is painted white."""

    class_names = ("thing",)
    findings = ()

    def __init__(self, sizes, boxes, classes=None, crowd=None, masks=None):
        self.sizes, self.boxes = sizes, [np.float32(b).reshape(-1, 4) for b in boxes]
        self.classes, self.crowd, self.masks = classes, crowd, masks

    def __len__(self):
        return len(self.sizes)

    def name(self, index):
        return f"image-{index}"

    def size(self, index):
        return self.sizes[index]

    def image(self, index, channel_order):
        image = np.full((*self.sizes[index], 1 if channel_order == "l" else 3), 10, np.uint8)
        for y1, x1, y2, x2 in self.boxes[index].astype(int):
            image[max(y1, 0) : y2, max(x1, 0) : x2] = 255
        return image

    def annotation(self, index):
        count = len(self.boxes[index])
        return Annotation(
            boxes=self.boxes[index],
            classes=np.int32(self.classes[index]) if self.classes else np.zeros(count, np.int32),
            crowd=np.array(self.crowd[index]) if self.crowd else np.zeros(count, bool),
            masks=self.masks[index] if self.masks else None,
        )


def planned(records, valid=None, canvas=(32, 48), epoch=0):
    n = len(records)
    return PlannedBatch(
        canvas=canvas,
        records=np.array(records),
        epochs=np.full(n, epoch),
        valid=np.ones(n, bool) if valid is None else np.array(valid),
    )


SETTINGS = batching.BatchSettings(
    geometry=GeometrySettings(mode="keep_aspect", height=32, width=48),
    gt=GroundTruthSettings(max_objects=3),
    channel_order="rgb",
)
SOURCE = Memory(
    [(16, 16), (64, 96)], [[[2, 4, 10, 12]], [[0, 0, 20, 20], [-8, 30, 64, 200]]], [[1], [2, 3]]
)


def test_a_batch_has_documented_shapes_types_and_values():
    batch = batching.make_batch(SOURCE, planned([1, 0]), SETTINGS)
    assert batch.images.shape == (2, 32, 48, 3) and batch.images.dtype == np.uint8
    for name in ("image_size", "scale", "source_size"):
        assert getattr(batch, name).dtype == np.float32
    np.testing.assert_array_equal(batch.image_size, [[32, 48], [32, 32]])
    np.testing.assert_array_equal(batch.scale, [[0.5, 0.5], [2, 2]])
    np.testing.assert_array_equal(batch.source_size, [[64, 96], [16, 16]])
    np.testing.assert_array_equal(batch.image_id, [1, 0])
    np.testing.assert_array_equal(batch.example_index, [0, 1])
    assert batch.image_id.dtype == batch.example_index.dtype == np.int32
    gt = batch.gt
    np.testing.assert_array_equal(gt.boxes[0, :2], [[0, 0, 10, 10], [0, 15, 32, 48]])
    np.testing.assert_array_equal(gt.boxes[1, :1], [[4, 8, 20, 24]])
    np.testing.assert_array_equal(gt.valid, [[True, True, False], [True, False, False]])
    np.testing.assert_array_equal(gt.classes, [[2, 3, 0], [1, 0, 0]])
    assert gt.boxes.dtype == np.float32 and gt.classes.dtype == np.int32
    assert gt.valid.dtype == gt.crowd.dtype == bool and gt.masks is None


def test_multi_scale_reaches_the_network_as_the_size_of_the_valid_part():
    augmented = replace(SETTINGS, augment=AugmentSettings(shrink_min=0.5), seed=1)
    batch = batching.make_batch(SOURCE, planned([1, 0], epoch=1), augmented)
    for row, full in enumerate(([32, 48], [32, 32])):
        height, width = batch.image_size[row].astype(int)
        assert 0.5 * full[0] <= height < full[0] and width < full[1]
        assert not batch.images[row, height:].any() and not batch.images[row, :, width:].any()
        assert batch.images[row, :height, :width].all()
        assert (batch.gt.boxes[row] <= [height, width, height, width]).all()
    np.testing.assert_array_equal(batch.scale, [[0.5, 0.5], [2, 2]])


def test_empty_slots_are_invalid_and_finite():
    batch = batching.make_batch(SOURCE, planned([1, 0], [True, False]), SETTINGS)
    np.testing.assert_array_equal(batch.image_valid, [True, False])
    assert not batch.images[1].any() and not batch.gt.valid[1].any()
    assert (batch.image_size[1] > 0).all() and (batch.scale[1] > 0).all()


def test_processes_make_slices_of_the_whole():
    augmented = replace(
        SETTINGS, augment=AugmentSettings(hflip_probability=0.5, translate_max_x=5), seed=3
    )
    whole = batching.make_batch(SOURCE, planned([0, 1, 1, 0], epoch=2), augmented)
    parts = [
        batching.make_batch(
            SOURCE,
            planned([0, 1, 1, 0], epoch=2),
            replace(augmented, process_index=p, process_count=2),
        )
        for p in range(2)
    ]
    for name in ("images", "image_size", "scale", "image_id", "image_valid", "example_index"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(joined, getattr(whole, name))
    np.testing.assert_array_equal(np.concatenate([p.gt.boxes for p in parts]), whole.gt.boxes)


def test_a_batch_that_cannot_be_divided_is_an_error():
    with pytest.raises(ValueError, match="global batch of 3 images cannot be divided among 2"):
        batching.make_batch(SOURCE, planned([0, 0, 0]), replace(SETTINGS, process_count=2))


def test_augmentation_without_effect_gives_the_pixels_of_evaluation():
    plain = batching.make_batch(SOURCE, planned([0, 1]), SETTINGS)
    idle = batching.make_batch(
        SOURCE, planned([0, 1]), replace(SETTINGS, augment=AugmentSettings())
    )
    np.testing.assert_array_equal(plain.images, idle.images)
    np.testing.assert_array_equal(plain.gt.boxes, idle.gt.boxes)


def test_one_image_twice_in_a_batch_differs_by_its_epoch():
    settings = replace(SETTINGS, augment=AugmentSettings(zoom_min=0.5, zoom_max=1.5))
    plan = replace(planned([1, 1]), epochs=np.array([0, 1]))
    batch = batching.make_batch(SOURCE, plan, settings)
    assert not np.array_equal(batch.images[0], batch.images[1])


def test_colours_leave_padding_alone():
    settings = replace(SETTINGS, augment=AugmentSettings(brightness_stddev=0.3), seed=1)
    batch = batching.make_batch(SOURCE, planned([0]), settings)
    assert not batch.images[0, :, 32:].any()
    assert (batch.images[0, :, :32] != 10).any()


@pytest.mark.parametrize("order, channels", [("rgb", 3), ("bgr", 3), ("l", 1)])
def test_channel_orders_reach_the_images(order, channels):
    batch = batching.make_batch(SOURCE, planned([0]), replace(SETTINGS, channel_order=order))
    assert batch.images.shape[-1] == channels


def test_boxes_below_the_smallest_side_are_dropped():
    source = Memory(
        [(32, 48)], [[[0, 0, 0.9, 20], [5, 5, 6, 6], [5, 47.5, 20, 60], [0, 50, 9, 60]]]
    )
    gt = GroundTruthSettings(max_objects=4)
    batch = batching.make_batch(source, planned([0]), replace(SETTINGS, gt=gt))
    np.testing.assert_array_equal(batch.gt.boxes[0, batch.gt.valid[0]], [[5, 5, 6, 6]])
    tiny = replace(SETTINGS, gt=gt, augment=AugmentSettings(min_box_side=0.0))
    assert batching.make_batch(source, planned([0]), tiny).gt.valid.sum() == 3


def test_too_many_objects_are_an_error_that_names_the_field_to_raise():
    source = Memory([(32, 48)], [[[0, 0, 9, 9]] * 4])
    message = (
        "image-0: 4 objects, more than the 3 that max_objects_num_per_image allows: set it to 4 or "
        "more"
    )
    with pytest.raises(DataError, match=message):
        batching.make_batch(source, planned([0]), SETTINGS)
    with pytest.raises(DataError, match=message):
        batching.check_object_counts(source, SETTINGS.gt)


def test_surplus_objects_are_truncated_without_a_line_for_every_image(caplog):
    source = Memory([(32, 48)], [[[0, 0, 9, 9]] * 4])
    settings = replace(SETTINGS, gt=GroundTruthSettings(max_objects=3, on_overflow="truncate"))
    with caplog.at_level(logging.WARNING):
        batch = batching.make_batch(source, planned([0]), settings)
    assert batch.gt.valid.sum() == 3
    assert caplog.records == []  # counted once, see data.census


def test_crowd_is_marked_or_left_out():
    source = Memory([(32, 48)], [[[0, 0, 9, 9], [5, 5, 20, 20]]], crowd=[[True, False]])
    kept = batching.make_batch(source, planned([0]), SETTINGS).gt
    np.testing.assert_array_equal(kept.crowd[0], [True, False, False])
    skipping = replace(SETTINGS, gt=GroundTruthSettings(max_objects=1, skip_crowd=True))
    gt = batching.make_batch(source, planned([0]), skipping).gt
    np.testing.assert_array_equal(gt.boxes[0], [[5, 5, 20, 20]])


def test_images_without_objects_are_ordinary():
    gt = batching.make_batch(Memory([(32, 48)], [[]]), planned([0]), SETTINGS).gt
    assert not gt.valid.any() and not gt.boxes.any()


def test_masks_are_cropped_to_the_clipped_box_after_augmentation():
    triangle = Polygons((np.array([[-16.0, 0], [16, 0], [16, 32]]),))
    source = Memory([(32, 48)], [[[0, -16, 32, 16]]], masks=[(triangle,)])
    settings = replace(
        SETTINGS,
        gt=GroundTruthSettings(max_objects=2, mask_size=4),
        augment=AugmentSettings(hflip_probability=1.0),
    )
    gt = batching.make_batch(source, planned([0]), settings).gt
    np.testing.assert_array_equal(gt.boxes[0, 0], [0, 32, 32, 48])
    assert gt.masks.shape == (1, 2, 4, 4) and gt.masks.dtype == np.uint8
    # mirrored, cell (row, column) lies left of the diagonal: cells are 8 high and 4 wide
    expected = [
        [(column + 0.5) * 4 < 32 - (row + 0.5) * 8 for column in range(4)] for row in range(4)
    ]
    np.testing.assert_array_equal(gt.masks[0, 0], np.array(expected, np.uint8))
    assert not gt.masks[0, 1].any()


def test_an_object_without_a_mask_is_an_error_where_masks_are_needed():
    settings = replace(SETTINGS, gt=GroundTruthSettings(max_objects=2, mask_size=4))
    with pytest.raises(DataError, match="image-0: object 1 has no mask"):
        batching.make_batch(SOURCE, planned([0]), settings)


def test_an_image_that_outgrows_its_planned_canvas_is_an_error():
    geometry = GeometrySettings(mode="short_side", short_side=32, multiple=16)
    settings = replace(SETTINGS, geometry=geometry)
    assert batching.make_batch(SOURCE, planned([1]), settings).image_size.tolist() == [[32, 48]]
    with pytest.raises(DataError, match="image-1: the image is 64x96 .* size its source states"):
        batching.make_batch(SOURCE, planned([1], canvas=(32, 32)), settings)
