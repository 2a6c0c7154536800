import numpy as np
import pytest

from rcnn_jax.ops.anchors import (
    cell_sizes_from_octaves,
    cell_sizes_from_scales,
    cells_inside,
    level_anchors,
)
from rcnn_jax.settings.network import AnchorConvention


def test_scales_are_the_outer_loop_and_ratios_the_inner():
    sizes = cell_sizes_from_scales([64.0, 128.0], [1.0, 4.0])
    np.testing.assert_allclose(sizes, [(64, 64), (32, 128), (128, 128), (64, 256)])


def test_octaves_are_the_outer_loop_and_aspect_ratios_the_inner():
    sizes = cell_sizes_from_octaves(8.0, 4, 2, [(1.0, 1.0), (1.4, 0.7)])
    side = 32 * 2**0.5
    np.testing.assert_allclose(
        sizes, [(32, 32), (0.7 * 32, 1.4 * 32), (side, side), (0.7 * side, 1.4 * side)]
    )


def test_anchors_run_row_column_size():
    anchors = level_anchors((2, 3), 16, ((32.0, 16.0), (8.0, 8.0)), AnchorConvention())
    assert anchors.shape == (12, 4)
    assert anchors.dtype == np.float32
    np.testing.assert_array_equal(anchors[0], [8 - 16, 8 - 8, 8 + 16, 8 + 8])
    np.testing.assert_array_equal(anchors[1], [4, 4, 12, 12])
    np.testing.assert_array_equal(anchors[2], [-8, 16, 24, 32])  # next column
    np.testing.assert_array_equal(anchors[6], [8, 0, 40, 16])  # next row


def test_offset_zero_puts_the_first_centre_at_the_corner():
    anchors = level_anchors((1, 2), 8, ((4.0, 4.0),), AnchorConvention(offset=0.0))
    np.testing.assert_array_equal(anchors, [[-2, -2, 2, 2], [-2, 6, 2, 10]])


def test_rounding_rounds_the_base_box_and_not_the_centre():
    convention = AnchorConvention(offset=0.5, rounding=True)
    anchors = level_anchors((1, 1), 5, ((4.6, 5.4),), convention)
    np.testing.assert_array_equal(anchors, [[0.5, -0.5, 4.5, 5.5]])


@pytest.mark.parametrize("stride", [4, 16])
def test_centres_of_anchors_are_the_middles_of_cells(stride):
    anchors = level_anchors((3, 4), stride, ((7.0, 9.0),), AnchorConvention())
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    cells = np.stack(np.divmod(np.arange(12), 4), axis=1)
    np.testing.assert_allclose(centres, (cells + 0.5) * stride)


def test_cells_whose_anchor_lies_inside_are_counted_by_size():
    # 320 x 320 with stride 16: 256 fits around centres from 128 to 192, four of them a side;
    # 362 x 181 fits nowhere.
    cells = cell_sizes_from_scales((64, 256), (1.0, 0.5))
    counts = cells_inside((20, 20), 16, cells, AnchorConvention(), (320, 320))
    assert counts.tolist() == [16 * 16, 14 * 18, 4 * 4, 0]
