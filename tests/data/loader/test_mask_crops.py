import cv2
import numpy as np
import pytest

from rcnn_jax.data.loader.mask_crops import Polygons, Raster, crop_mask, fill_polygon

IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])


def inside(point, ring):
    """Even-odd test of one point, edge by edge."""
    x, y = point
    odd = False
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if (y0 <= y) != (y1 <= y) and x0 + (y - y0) / (y1 - y0) * (x1 - x0) <= x:
            odd = not odd
    return odd


@pytest.mark.parametrize("seed", range(5))
def test_polygons_are_filled_like_a_point_by_point_test(seed):
    ring = np.random.default_rng(seed).uniform(-4, 20, (7, 2))  # crosses itself and the border
    filled = fill_polygon(ring, (16, 16))
    for row in range(16):
        for column in range(16):
            assert filled[row, column] == inside((column + 0.5, row + 0.5), ring)


def test_a_rectangle_fills_its_box():
    ring = np.array([[2.0, 3], [10, 3], [10, 9], [2, 9]])
    crop = crop_mask(Polygons((ring,)), IDENTITY, np.float32([3, 2, 9, 10]), 8)
    assert crop.dtype == np.uint8 and crop.all()


def test_half_a_box_is_half_a_mask():
    ring = np.array([[0.0, 0], [4, 0], [4, 8], [0, 8]])
    crop = crop_mask(Polygons((ring,)), IDENTITY, np.float32([0, 0, 8, 8]), 8)
    np.testing.assert_array_equal(crop, np.tile([1, 1, 1, 1, 0, 0, 0, 0], (8, 1)))


def test_several_polygons_are_united_not_cancelled():
    ring = np.array([[0.0, 0], [8, 0], [8, 8], [0, 8]])
    assert crop_mask(Polygons((ring, ring)), IDENTITY, np.float32([0, 0, 8, 8]), 4).all()


def test_masks_follow_the_matrix():
    ring = np.array([[0.0, 0], [4, 0], [4, 8], [0, 8]])  # the left half of 8 x 8
    mirror = np.array([[-2.0, 0, 16], [0, 2, 0]])
    pixels = np.zeros((8, 8), np.uint8)
    pixels[:, :4] = 1
    expected = np.tile([0, 0, 0, 0, 1, 1, 1, 1], (8, 1))
    for mask in (Polygons((ring,)), Raster(lambda: pixels)):
        crop = crop_mask(mask, mirror, np.float32([0, 0, 16, 16]), 8)
        np.testing.assert_array_equal(crop, expected)


def test_polygons_and_pixels_of_one_object_agree():
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    ring = np.stack([60 + 30 * np.cos(angles), 50 + 20 * np.sin(angles)], axis=-1)
    pixels = np.zeros((100, 120), np.uint8)
    cv2.fillPoly(pixels, [np.rint((ring - 0.5) * 256).astype(int)], 1, shift=8)
    turn = np.array([[0.9, -0.3, 20], [0.3, 0.9, -5]])
    box = np.float32([25, 30, 80, 95])
    a = crop_mask(Polygons((ring,)), turn, box, 28)
    b = crop_mask(Raster(lambda: pixels), turn, box, 28)
    assert 100 < a.sum() < 700
    # both are discrete: they may differ along the outline, whose length is about 60 cells
    assert (a != b).sum() < 30


def test_a_raster_that_fills_the_image_fills_its_box_to_the_edge():
    crop = crop_mask(
        Raster(lambda: np.ones((9, 9), np.uint8)), IDENTITY, np.float32([0, 0, 9, 9]), 5
    )
    assert crop.all()
