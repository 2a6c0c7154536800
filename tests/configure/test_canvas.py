"""Canvas: in the shape of the data, within the budget; what stays too small is found and priced."""

import numpy as np
import pytest

from rcnn_jax.configure.canvas import best_shape, choose_canvas, relief
from rcnn_jax.configure.pace import Pace, pixel_budget, planned_steps

LANDSCAPE = np.array([[480.0, 640.0]] * 20)
PORTRAIT = LANDSCAPE[:, ::-1]


@pytest.mark.parametrize("grid", [16, 64])
@pytest.mark.parametrize("area", [70_000, 150_000, 500_000])
@pytest.mark.parametrize("sizes", [LANDSCAPE, PORTRAIT, np.concatenate([LANDSCAPE, PORTRAIT])])
def test_the_canvas_is_on_the_grid_within_the_area_and_in_the_shape_of_the_images(
    sizes, area, grid
):
    height, width = best_shape(sizes, area, grid)
    assert height % grid == width % grid == 0
    assert height * width <= area
    if sizes is LANDSCAPE:
        assert height <= width
    elif sizes is PORTRAIT:
        assert height >= width
    # What is left over is less than another row or column of the grid on each side.
    assert (height + grid) * (width + grid) > 0.75 * area


def test_the_measured_runs_come_out_again():
    # experiments/faster_rcnn/bccd_resnet18_scratch: 448 x 336, platelets of 40 pixels in 640 x 480.
    canvas = choose_canvas(LANDSCAPE, 40 / np.sqrt(480 * 640), finest=16, grid=16, budget=151_000)
    assert (canvas.height, canvas.width) == (336, 448)
    # experiments/mask_rcnn/nuclei_resnet18_scratch: 384 x 384, half of the nuclei 13 pixels in 256 x 256.
    square = np.array([[256.0, 256.0]] * 20)
    canvas = choose_canvas(square, 8 / 256, finest=4, grid=64, budget=150_000)
    assert (canvas.height, canvas.width) == (384, 384)


def test_large_objects_need_no_large_canvas_and_a_picture_is_not_blown_up():
    large = choose_canvas(LANDSCAPE * 4, 0.5, finest=16, grid=16, budget=800_000)
    assert large.pixels < 70_000
    tiny = choose_canvas(np.array([[200.0, 200.0]]), 0.01, finest=4, grid=64, budget=1_000_000)
    assert tiny.pixels <= 300 * 300


def test_photographs_of_4000_pixels_with_objects_of_20_are_found_before_training():
    sizes = np.array([[3000.0, 4000.0]] * 10)
    sides = np.full(500, 20 / np.sqrt(3000 * 4000))
    proposal = relief((416, 416), sizes, sides, finest=16, grid=16)
    assert proposal is not None
    assert proposal.unseen == 1.0
    assert proposal.side == 16.0
    # 20 pixels must become 16: 0.8 of 3000 x 4000, and its area over that of 416 x 416.
    assert proposal.height == pytest.approx(2400 * 1.05, rel=0.03)
    assert proposal.width == pytest.approx(3200 * 1.05, rel=0.03)
    assert proposal.cost == pytest.approx(2400 * 3200 * 1.1 / 416**2, rel=0.03)
    assert proposal.tile == 520  # 416 / 0.8
    assert proposal.tiles == 7 * 10
    text = " ".join(proposal.sentences)
    assert "100% of the objects are smaller than 16 pixels" in text
    assert "tiles of the original (--tiles, of 520 pixels), about 70 of an image" in text


def test_the_larger_canvas_is_larger_though_sides_are_whole_cells():
    square = np.array([[256.0, 256.0]] * 10)
    sides = np.full(500, 7.9 / 256)
    proposal = relief((256, 256), square, sides, finest=4, grid=64)
    assert proposal is not None
    # 1.1 times what is needed would be 272 pixels a side, and those are 256 on the grid.
    assert (proposal.height, proposal.width) == (320, 320)


def test_objects_that_are_seen_need_no_relief():
    sides = np.full(500, 40 / np.sqrt(480 * 640))
    assert relief((336, 448), LANDSCAPE, sides, finest=16, grid=16) is None
    few = np.concatenate([sides, np.full(40, 0.001)])
    assert relief((336, 448), LANDSCAPE, few, finest=16, grid=16) is None


def test_more_time_and_faster_machines_are_worth_larger_canvases():
    slow, fast = Pace(100.0, False), Pace(10_000.0, True)
    assert pixel_budget(slow, 20.0) == 170_000
    assert pixel_budget(slow, 5.0) == 85_000
    assert pixel_budget(slow, 0.1) == 60_000
    assert pixel_budget(fast, 20.0) == 1_100_000


def test_the_length_is_what_the_time_leaves():
    pace = Pace(100.0, False)
    # 0.72 s a step of 0.3 million pixels; 60 s of start and four validations of 87 images at 0.12 s.
    steps, validations = planned_steps(pace, 20.0, 150_000, 2, 206, 87)
    assert steps == int((1200 - 60 - 4 * 87 * 0.12) / 0.72 / 103) * 103
    assert validations == 4
    assert planned_steps(pace, 1e5, 150_000, 2, 206, 87)[0] == 300 * 103


def test_a_run_that_ends_within_its_first_epoch_is_planned_in_steps():
    pace = Pace(100.0, False)
    # 4000 images of an epoch do not fit into five minutes, and a validation of 800 takes a third of them.
    steps, validations = planned_steps(pace, 5.0, 150_000, 2, 4000, 800)
    assert steps == int((300 - 60 - 800 * 0.12) / 0.72)
    assert validations == 1
    assert planned_steps(pace, 0.1, 150_000, 2, 206, 87) == (20, 1)
