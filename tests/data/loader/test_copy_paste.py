from dataclasses import replace

import numpy as np
import pytest

from rcnn_jax.data.loader import batching, copy_paste, mask_crops, plan
from rcnn_jax.data.loader.layers import Part
from rcnn_jax.data.loader.mask_crops import Polygons, Raster
from rcnn_jax.data.sources.annotations import Annotation
from rcnn_jax.settings.data import AugmentSettings, GeometrySettings, GroundTruthSettings
from tests.data.loader.test_batching import Memory, planned

CANVAS = (64, 64)
IDENTITY = np.eye(2, 3)
SETTINGS = batching.BatchSettings(
    geometry=GeometrySettings(mode="keep_aspect", height=64, width=64),
    gt=GroundTruthSettings(max_objects=12, mask_size=16),
    channel_order="rgb",
    augment=AugmentSettings(copy_paste_probability=1.0),
    seed=5,
)
BOXES = replace(SETTINGS, gt=GroundTruthSettings(max_objects=12))


def diamond(y, x, radius):
    return np.array([[x, y - radius], [x + radius, y], [x, y + radius], [x - radius, y]], float)


class Diamonds(Memory):
    """Images with diamonds, each record in a grey of its own on black, annotated by polygons."""

    def __init__(self, centers, radius=9.0, crowd=None, raster=False):
        self.rings = [[diamond(y, x, radius) for y, x in image] for image in centers]
        boxes = [[[y - radius, x - radius, y + radius, x + radius] for y, x in c] for c in centers]
        masks = [[self.mask(ring, raster) for ring in rings] for rings in self.rings]
        classes = [[i] * len(c) for i, c in enumerate(centers)]
        super().__init__([CANVAS] * len(centers), boxes, classes, crowd, masks)

    @staticmethod
    def mask(ring, raster):
        if not raster:
            return Polygons((ring,))
        return Raster(lambda: mask_crops.fill_polygon(ring, CANVAS).astype(np.uint8))

    def image(self, index, channel_order):
        image = np.zeros((*CANVAS, 3), np.uint8)
        for ring in self.rings[index]:
            image[mask_crops.fill_polygon(ring, CANVAS)] = 50 * (index + 1)
        return image


def donor_of(record, source, epoch=0, seed=5):
    rng = plan.generator(seed, plan.COPY_PASTE, epoch, record)
    rng.uniform()
    return copy_paste.draw_donor(source, rng)


def drawn_mask(gt, slot, row):
    """The mask of a row on the canvas, from its crop."""
    y1, x1, y2, x2 = gt.boxes[slot, row].astype(float)
    scale = np.array([[16 / (x2 - x1), 0, 0], [0, 16 / (y2 - y1), 0]])
    pixels = np.zeros(CANVAS, bool)
    for y in range(int(y1), int(np.ceil(y2))):
        for x in range(int(x1), int(np.ceil(x2))):
            column, line = int((x + 0.5 - x1) * scale[0, 0]), int((y + 0.5 - y1) * scale[1, 1])
            if 0 <= line < 16 and 0 <= column < 16:
                pixels[y, x] = gt.masks[slot, row, line, column]
    return pixels


SCATTERED = Diamonds([[(14, 14), (14, 46)], [(30, 30), (48, 14)], [(20, 20), (48, 48)]])


@pytest.mark.parametrize("raster", [False, True])
@pytest.mark.parametrize("record", range(3))
def test_masks_and_boxes_are_those_of_the_pixels_that_are_seen(record, raster):
    source = Diamonds(
        [[(14, 14), (14, 46)], [(30, 30), (48, 14)], [(20, 20), (48, 48)]], raster=raster
    )
    batch = batching.make_batch(source, planned([record], canvas=CANVAS), SETTINGS)
    gt, grey = batch.gt, batch.images[0, :, :, 0] // 50 - 1
    donor = donor_of(record, source)
    assert (grey == donor).any() and donor in gt.classes[0][gt.valid[0]]
    for row in np.flatnonzero(gt.valid[0]):
        mask = drawn_mask(gt, 0, row)
        # A crop of 16 cells over 18 pixels is off by a pixel along the edge.
        wrong = mask & (batch.images[0, :, :, 0] // 50 - 1 != gt.classes[0, row])
        assert wrong.sum() <= 0.15 * mask.sum()
        y1, x1, y2, x2 = gt.boxes[0, row]
        seen = np.argwhere(
            grey[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] == gt.classes[0, row]
        )
        assert (seen.min(axis=0) <= 1).all()


def part(ring, box, masks=True):
    annotation = Annotation(
        boxes=np.float32([box]),
        classes=np.zeros(1, np.int32),
        crowd=np.zeros(1, bool),
        masks=(Polygons((ring,)),) if masks else None,
    )
    boxes = np.float32([box])
    return Part(annotation=annotation, name="", matrix=IDENTITY, items=np.arange(1), boxes=boxes)


SQUARE = np.array([[10.0, 10], [30, 10], [30, 30], [10, 30]])


@pytest.mark.parametrize("masks", [True, False])
def test_a_side_that_is_hidden_moves_in(masks):
    cover = np.zeros(CANVAS, np.uint8)
    cover[:, 22:40] = 1
    below = copy_paste.uncovered(part(SQUARE, [10, 10, 30, 30], masks), cover, 1.0)
    np.testing.assert_array_equal(below.boxes, [[10, 10, 30, 22]])
    crop = copy_paste.visible_mask(Polygons((SQUARE,)), below, np.float32([10, 10, 30, 30]), 20)
    np.testing.assert_array_equal(crop, np.tile([1] * 12 + [0] * 8, (20, 1)))


def test_a_corner_that_is_hidden_leaves_the_box_and_takes_the_mask():
    cover = np.zeros(CANVAS, np.uint8)
    cover[20:, 20:] = 1
    below = copy_paste.uncovered(part(SQUARE, [10, 10, 30, 30]), cover, 1.0)
    np.testing.assert_array_equal(below.boxes, [[10, 10, 30, 30]])
    crop = copy_paste.visible_mask(Polygons((SQUARE,)), below, below.boxes[0], 10)
    assert crop.sum() == 75 and not crop[5:, 5:].any()


def test_a_side_that_lies_between_pixels_stays_exact():
    cover = np.zeros(CANVAS, np.uint8)
    cover[:, 22:] = 1
    ring = SQUARE + [[0.25, 0.25]]
    below = copy_paste.uncovered(part(ring, [10.25, 10.25, 30.25, 30.25]), cover, 1.0)
    np.testing.assert_array_equal(below.boxes, [[10.25, 10.25, 30.25, 22]])


@pytest.mark.parametrize("hidden, left", [(14, 1), (16, 0), (20, 0)])
def test_what_is_hardly_seen_is_dropped(hidden, left):
    cover = np.zeros(CANVAS, np.uint8)
    cover[10 : 10 + hidden] = 1
    below = copy_paste.uncovered(part(SQUARE, [10, 10, 30, 30]), cover, 1.0)
    assert len(below.items) == len(below.boxes) == left


def test_what_becomes_smaller_than_the_least_side_is_dropped():
    cover = np.zeros(CANVAS, np.uint8)
    cover[10:24] = 1
    assert len(copy_paste.uncovered(part(SQUARE, [10, 10, 30, 30]), cover, 6.0).items) == 1
    assert not len(copy_paste.uncovered(part(SQUARE, [10, 10, 30, 30]), cover, 7.0).items)


def test_no_more_is_pasted_than_there_are_free_slots():
    rng = np.random.default_rng(0)
    source = Diamonds([rng.uniform(4, 60, (8, 2)).tolist() for _ in range(4)], radius=2.0)
    for slots in (8, 9, 12):
        settings = replace(SETTINGS, gt=GroundTruthSettings(max_objects=slots, mask_size=4))
        for epoch in range(4):
            batch = batching.make_batch(
                source, planned([0, 1, 2, 3], canvas=CANVAS, epoch=epoch), settings
            )
            plain = batching.make_batch(
                source,
                planned([0, 1, 2, 3], canvas=CANVAS, epoch=epoch),
                replace(settings, augment=AugmentSettings()),
            )
            pasted = [(batch.gt.valid[i] & (batch.gt.classes[i] != i)).sum() for i in range(4)]
            assert max(pasted) <= slots - 8
            if slots == 8:
                np.testing.assert_array_equal(batch.images, plain.images)
                np.testing.assert_array_equal(batch.gt.boxes, plain.gt.boxes)


def test_crowds_are_never_pasted():
    crowd = [[False, False], [True, False], [True, False]]
    source = Diamonds(
        [[(14, 14), (14, 46)], [(30, 30), (50, 50)], [(30, 30), (50, 14)]], crowd=crowd
    )
    settings = replace(
        SETTINGS, gt=GroundTruthSettings(max_objects=12, mask_size=16, skip_crowd=False)
    )
    for epoch in range(8):
        gt = batching.make_batch(source, planned([0], canvas=CANVAS, epoch=epoch), settings).gt
        assert not gt.crowd.any()
    only = Diamonds([[(14, 14)], [(30, 30)]], crowd=[[True], [True]])
    batch = batching.make_batch(only, planned([0], canvas=CANVAS), settings)
    assert (batch.images[0] <= 50).all() and batch.gt.valid.sum() == 1


def test_images_without_objects_get_some_and_give_none():
    source = Memory([CANVAS] * 4, [[], [], [[20, 20, 34, 34]], []], [[], [], [3], []])
    objects = 0
    for epoch in range(12):
        gt = batching.make_batch(source, planned([0], canvas=CANVAS, epoch=epoch), BOXES).gt
        objects += gt.valid.sum()
        assert set(gt.classes[gt.valid]) <= {3}
    assert objects > 4
    empty = Memory([CANVAS] * 2, [[], []])
    assert not batching.make_batch(empty, planned([0, 1], canvas=CANVAS), BOXES).gt.valid.any()


class Greys(Memory):
    """Images whose background has another grey than those of others; objects are lighter."""

    def image(self, index, channel_order):
        image = super().image(index, channel_order)
        return np.where(image == 255, np.uint8(200 + index), np.uint8(20 * index))


def boxes_at(*corners, side=12):
    return [[y, x, y + side, x + side] for y, x in corners]


@pytest.mark.parametrize("epoch", range(6))
def test_crops_are_whole_and_hide_little_of_others(epoch):
    source = Greys(
        [CANVAS] * 3,
        [
            boxes_at((2, 2), (2, 30), (30, 2)),
            boxes_at((5, 5), (40, 40)),
            boxes_at((20, 20), (44, 4)),
        ],
        [[0] * 3, [1] * 2, [2] * 2],
    )
    batch = batching.make_batch(source, planned([0, 1, 2], canvas=CANVAS, epoch=epoch), BOXES)
    for slot in range(3):
        donor = donor_of(slot, source, epoch)
        gt, grey = batch.gt, batch.images[slot, :, :, 0]
        rows = np.flatnonzero(gt.valid[slot])
        boxes = gt.boxes[slot, rows].astype(int)
        pasted = gt.classes[slot, rows] == donor
        assert pasted[-1]
        for y1, x1, y2, x2 in boxes[pasted & (donor != slot)]:
            # Alpha is 1 in the whole box: every pixel is the donor's.
            assert (grey[y1:y2, x1:x2] == 200 + donor).all()
        for y1, x1, y2, x2 in boxes[~pasted]:
            assert (grey[y1:y2, x1:x2] == 200 + slot).mean() >= 0.4
        # Nothing that the image showed is lost: no rectangle hides more than it may.
        assert (~pasted).sum() == (len(source.boxes[slot]) if donor != slot else 0)


def test_the_edge_of_a_crop_is_soft_and_outside_of_the_box():
    canvas = np.zeros((40, 40, 3), np.uint8)
    picture, cover = np.full_like(canvas, 200), np.zeros((40, 40), np.uint8)
    copy_paste._blend(canvas, cover, picture, np.float32([10, 10, 30, 30]), (2, -3), (0, 0, 40, 40))
    line = canvas[22, :, 0].astype(int)
    assert (line[7:27] == 200).all() and (line[:4] == 0).all() and (line[30:] == 0).all()
    # A pixel beside the box is whole too: it is the one that a box between pixels would touch.
    assert 0 < line[4] < line[5] < line[6] == 200
    assert (cover[12:32, 7:27] == 1).all() and cover.sum() <= 24**2


def test_nothing_outside_of_the_donors_picture_is_blended():
    canvas = np.full((40, 40, 3), 90, np.uint8)
    picture, cover = np.zeros_like(canvas), np.zeros((40, 40), np.uint8)
    copy_paste._blend(canvas, cover, picture, np.float32([8, 8, 20, 20]), (0, 0), (8, 8, 20, 20))
    assert (canvas[8:20, 8:20] == 0).all() and (canvas == 0).sum() == 12 * 12 * 3


def test_objects_with_a_neighbour_in_their_rectangle_are_left_out():
    # Record 1: two boxes that overlap by half; record 0 has none to hide.
    source = Memory([CANVAS] * 2, [[], [[10, 10, 30, 30], [10, 20, 30, 40]]], [[], [1, 1]])
    for epoch in range(6):
        batch = batching.make_batch(source, planned([0], canvas=CANVAS, epoch=epoch), BOXES)
        assert not batch.gt.valid.any() and (batch.images == 10).all()


def test_a_crop_cut_by_the_edge_of_its_image_is_left_out():
    source = Memory([CANVAS] * 2, [[], [[-6, 10, 10, 30]]], [[], [1]])
    for epoch in range(6):
        batch = batching.make_batch(source, planned([0], canvas=CANVAS, epoch=epoch), BOXES)
        assert not batch.gt.valid.any()


def test_padding_stays_padding():
    source = Diamonds([[(14, 14)], [(30, 30)]])
    wide = replace(SETTINGS, geometry=GeometrySettings(mode="keep_aspect", height=64, width=96))
    batch = batching.make_batch(source, planned([0, 1], canvas=(64, 96)), wide)
    np.testing.assert_array_equal(batch.image_size, [[64, 64]] * 2)
    assert not batch.images[:, :, 64:].any() and (batch.gt.boxes[..., 3] <= 64).all()


def test_grey_images_are_pasted_on_too():
    settings = replace(BOXES, channel_order="l")
    source = Memory([CANVAS] * 3, [boxes_at((5, 5)), boxes_at((40, 40)), boxes_at((5, 40))])
    batch = batching.make_batch(source, planned([0, 1, 2], canvas=CANVAS), settings)
    assert batch.images.shape == (3, 64, 64, 1) and batch.gt.valid.sum() > 3
