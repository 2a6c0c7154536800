from dataclasses import replace

import numpy as np
import pytest

from rcnn_jax.data.loader import batching
from rcnn_jax.data.loader.mask_crops import Polygons
from rcnn_jax.settings.data import AugmentSettings, GeometrySettings, GroundTruthSettings
from tests.data.loader.test_batching import Memory, planned

CANVAS = (48, 64)
SETTINGS = batching.BatchSettings(
    geometry=GeometrySettings(mode="keep_aspect", height=48, width=64),
    gt=GroundTruthSettings(max_objects=40),
    channel_order="rgb",
    augment=AugmentSettings(mosaic_probability=1.0, hflip_probability=0.5),
    seed=3,
)


def boxes_of(seed):
    """Three boxes that share no pixel, in 48 x 64 pixels."""
    rng = np.random.default_rng(seed)
    return [
        [2 + y, x, 12 + y, x + 12] for x, y in zip((3, 24, 45), rng.integers(0, 30, 3), strict=True)
    ]


SOURCE = Memory([CANVAS] * 6, [boxes_of(i) for i in range(6)], [[i] * 3 for i in range(6)])


def white(image):
    return (image[..., 0] > 128).astype(int)


@pytest.mark.parametrize("record", range(6))
def test_boxes_lie_on_their_objects_and_nothing_is_unlabelled(record):
    batch = batching.make_batch(SOURCE, planned([record], canvas=CANVAS), SETTINGS)
    boxes = batch.gt.boxes[0][batch.gt.valid[0]]
    assert len(boxes) and (boxes[:, 2:] <= CANVAS).all() and (boxes >= 0).all()
    labelled = np.zeros(CANVAS, int)
    for y1, x1, y2, x2 in np.rint(boxes).astype(int):
        assert white(batch.images[0])[y1:y2, x1:x2].all()
        labelled[y1:y2, x1:x2] = 1
    # All but rims below a tenth of an object, 12 pixels at most of each of twelve.
    assert (white(batch.images[0]) - labelled).sum() <= 12 * len(SOURCE.boxes[0]) * 4
    np.testing.assert_array_equal(batch.image_size, [CANVAS])


def test_every_quarter_shows_an_image_of_its_own():
    data = Memory([CANVAS] * 50, [[[0, 0, 48, 64]]] * 50, [[i] for i in range(50)])
    batch = batching.make_batch(data, planned([7], canvas=CANVAS), SETTINGS)
    gt = batch.gt
    classes, boxes = gt.classes[0][gt.valid[0]], gt.boxes[0][gt.valid[0]]
    assert len(classes) == 4 and 7 in classes
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    assert areas.sum() == 48 * 64
    corners = {tuple(box[:2]) for box in boxes}
    (y, x) = max(corners)
    assert corners == {(0, 0), (0, x), (y, 0), (y, x)}
    assert 12 <= y <= 36 and 16 <= x <= 48


def test_objects_keep_the_size_at_which_they_are_trained_alone():
    data = Memory([CANVAS] * 4, [[[20, 28, 26, 34]]] * 4)
    batch = batching.make_batch(data, planned([0, 1, 2, 3], canvas=CANVAS), SETTINGS)
    sides = (batch.gt.boxes[..., 2:] - batch.gt.boxes[..., :2])[batch.gt.valid]
    assert sides.max() == 6 and (sides <= 6).all()


def test_an_image_that_would_overflow_the_slots_is_shown_alone():
    few = replace(SETTINGS, gt=GroundTruthSettings(max_objects=3))
    alone = replace(few, augment=replace(few.augment, mosaic_probability=0.0))
    batches = [
        batching.make_batch(SOURCE, planned([1, 2, 3, 4, 5, 0], canvas=CANVAS), settings)
        for settings in (few, alone)
    ]
    same = [np.array_equal(*(batch.images[slot] for batch in batches)) for slot in range(6)]
    assert any(same)
    for slot in np.flatnonzero(same):
        np.testing.assert_array_equal(*(batch.gt.boxes[slot] for batch in batches))


def test_a_smaller_image_lies_in_its_quarter_whole():
    data = Memory([(4, 4)] * 3, [[[0, 0, 4, 4]]] * 3)
    settings = replace(SETTINGS, geometry=GeometrySettings(mode="pad_crop", height=48, width=64))
    batch = batching.make_batch(data, planned([0], canvas=CANVAS), settings)
    boxes = batch.gt.boxes[0][batch.gt.valid[0]]
    np.testing.assert_array_equal(boxes[:, 2:] - boxes[:, :2], np.full((4, 2), 4.0))
    assert white(batch.images[0]).sum() == 64


def test_images_of_other_canvases_are_cut_to_the_quarter():
    geometry = GeometrySettings(mode="short_side", short_side=48, multiple=16)
    data = Memory([(48, 64), (96, 48), (48, 200)], [[[0, 0, 48, 48]]] * 3)
    batch = batching.make_batch(
        data, planned([0] * 4, canvas=CANVAS), replace(SETTINGS, geometry=geometry)
    )
    assert (batch.gt.boxes[..., 2:] <= CANVAS).all()
    np.testing.assert_array_equal(batch.image_size, [CANVAS] * 4)


def test_masks_end_at_the_seams():
    ring = np.array([[0.0, 0], [64, 0], [64, 48], [0, 48]])
    data = Memory([CANVAS] * 5, [[[0, 0, 48, 64]]] * 5, masks=[[Polygons((ring,))]] * 5)
    settings = replace(SETTINGS, gt=GroundTruthSettings(max_objects=8, mask_size=14))
    gt = batching.make_batch(data, planned([0], canvas=CANVAS), settings).gt
    assert gt.valid[0].sum() == 4 and gt.masks[0][gt.valid[0]].all()


def test_crowds_are_kept_or_left_out_as_without_mosaics():
    data = Memory([CANVAS] * 3, [[[0, 0, 48, 64]]] * 3, crowd=[[True]] * 3)
    for skip in (False, True):
        settings = replace(SETTINGS, gt=GroundTruthSettings(max_objects=8, skip_crowd=skip))
        gt = batching.make_batch(data, planned([0], canvas=CANVAS), settings).gt
        assert gt.crowd[0].sum() == gt.valid[0].sum() == (0 if skip else 4)
