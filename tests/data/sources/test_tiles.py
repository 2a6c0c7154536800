import numpy as np
import pytest

from rcnn_jax.data.loader.mask_crops import Polygons, Raster, crop_mask
from rcnn_jax.data.sources.tiles import TiledSource, tiled, windows
from rcnn_jax.settings.data import TilingSettings
from tests.data.loader.test_batching import Memory

HUNDRED = TilingSettings(size=100, overlap=0.2)


@pytest.mark.parametrize("size", [(1, 1), (99, 100), (101, 250), (180, 181), (1000, 33)])
@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.99])
def test_tiles_hold_every_pixel_and_overlap_enough(size, overlap):
    tiling = TilingSettings(size=100, overlap=overlap)
    lying = windows(size, tiling)
    seen = np.zeros(size, int)
    for top, left, bottom, right in lying:
        assert (bottom - top, right - left) == tuple(min(side, 100) for side in size)
        seen[top:bottom, left:right] += 1
    assert (seen > 0).all()
    for axis in (0, 1):
        begins = sorted({window[axis] for window in lying})
        gaps = np.diff(begins)
        assert (gaps <= 100 - round(100 * overlap) + 1).all() if overlap < 0.99 else True


def test_an_image_that_fits_is_one_tile_and_no_more_tiles_are_made_than_needed():
    assert windows((100, 60), HUNDRED) == [(0, 0, 100, 60)]
    assert windows((100, 180), HUNDRED) == [(0, 0, 100, 100), (0, 80, 100, 180)]
    assert len(windows((100, 181), HUNDRED)) == 3


def test_without_tiling_the_source_stays_what_it_is():
    source = Memory([(10, 10)], [[]])
    assert tiled(source, None) is source
    assert isinstance(tiled(source, HUNDRED), TiledSource)


SOURCE = Memory(
    [(100, 180), (50, 50)],
    [[[10, 10, 30, 30], [40, 70, 60, 110], [0, 150, 20, 170]], []],
    [[0, 1, 2], []],
    crowd=[[False, False, True], []],
)


def test_objects_are_those_of_the_tile_in_its_pixels():
    tiles = TiledSource(SOURCE, HUNDRED)
    assert len(tiles) == 3 and [tiles.size(i) for i in range(3)] == [
        (100, 100),
        (100, 100),
        (50, 50),
    ]
    left, right = tiles.annotation(0), tiles.annotation(1)
    # The second object lies in both: three quarters, and three quarters.
    np.testing.assert_array_equal(left.boxes, [[10, 10, 30, 30], [40, 70, 60, 110]])
    np.testing.assert_array_equal(right.boxes, [[40, -10, 60, 30], [0, 70, 20, 90]])
    assert left.classes.tolist() == [0, 1] and right.classes.tolist() == [1, 2]
    assert right.crowd.tolist() == [False, True]
    assert not len(tiles.annotation(2).boxes)
    np.testing.assert_array_equal(tiles.image(1, "rgb"), SOURCE.image(0, "rgb")[:, 80:])
    assert tiles.name(1) == "image-0 (rows 0-100, columns 80-180)"


def test_an_object_of_which_little_lies_in_a_tile_is_left_to_its_neighbour():
    source = Memory([(100, 180)], [[[0, 60, 10, 85]]])
    tiles = TiledSource(source, HUNDRED)
    assert len(tiles.annotation(0).boxes) == 1 and not len(tiles.annotation(1).boxes)


def test_masks_move_with_the_tile():
    ring = np.array([[70.0, 40], [110, 40], [110, 60], [70, 60]])
    pixels = np.zeros((100, 180), np.uint8)
    pixels[40:60, 70:110] = 1
    for mask in (Polygons((ring,)), Raster(lambda: pixels)):
        source = Memory([(100, 180)], [[[40, 70, 60, 110]]], masks=[[mask]])
        tiles = TiledSource(source, HUNDRED)
        (moved,) = tiles.annotation(1).masks
        assert crop_mask(moved, np.eye(2, 3), np.float32([40, 0, 60, 30]), 8).all()
        assert not crop_mask(moved, np.eye(2, 3), np.float32([40, 30, 60, 60]), 8)[:, 1:].any()


def test_the_tiles_of_an_image_decode_it_once():
    class Counted(Memory):
        decoded = 0

        def image(self, index, channel_order):
            self.decoded += 1
            return super().image(index, channel_order)

    source = Counted([(300, 300)] * 2, [[], []])
    tiles = TiledSource(source, HUNDRED)
    for index in range(len(tiles)):
        tiles.image(index, "rgb")
    assert len(tiles) == 32 and source.decoded == 2
