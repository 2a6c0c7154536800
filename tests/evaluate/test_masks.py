import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from rcnn_jax.evaluate.masks import (
    MaskWindow,
    coco_results,
    decode_window,
    encode_window,
    paste_masks,
    paste_window,
)

# The array wrapper of pycocotools 2.0.11 does not know the copy keyword of NumPy 2 yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def full(window, size):
    canvas = np.zeros(size, np.uint8)
    rows, columns = window.pixels.shape
    canvas[window.top : window.top + rows, window.left : window.left + columns] = window.pixels
    return canvas


def slow_paste(mask, box, size):
    """Bilinear interpolation between cell centres, zeros outside, one pixel at a time."""
    side = mask.shape[0]
    padded = np.pad(mask.astype(np.float64), 1)
    canvas = np.zeros(size, np.uint8)
    y1, x1, y2, x2 = (float(v) for v in box)
    for i in range(size[0]):
        for j in range(size[1]):
            y = (i + 0.5 - y1) / (y2 - y1) * side + 0.5
            x = (j + 0.5 - x1) / (x2 - x1) * side + 0.5
            if not (0 <= y < side + 1 and 0 <= x < side + 1):
                continue
            top, left = int(y), int(x)
            v, u = y - top, x - left
            cell = padded[top : top + 2, left : left + 2]
            value = (1 - v) * ((1 - u) * cell[0, 0] + u * cell[0, 1])
            value += v * ((1 - u) * cell[1, 0] + u * cell[1, 1])
            canvas[i, j] = value > 0.5
    return canvas


def test_a_mask_of_ones_fills_its_box():
    (rle,) = paste_masks(np.ones((1, 28, 28)), np.array([[2.0, 3.0, 7.0, 11.0]]), (20, 30))
    expected = np.zeros((20, 30), np.uint8)
    expected[2:7, 3:11] = 1
    np.testing.assert_array_equal(coco_mask.decode(rle), expected)


def test_a_pixel_belongs_to_a_box_when_its_centre_does():
    (rle,) = paste_masks(np.ones((1, 4, 4)), np.array([[1.4, 1.6, 5.6, 5.4]]), (8, 8))
    expected = np.zeros((8, 8), np.uint8)
    expected[1:6, 2:5] = 1
    np.testing.assert_array_equal(coco_mask.decode(rle), expected)


def test_two_cells_meet_in_the_middle_and_free_corners_are_rounded():
    mask = np.array([[1.0, 0.0], [1.0, 0.0]])
    (rle,) = paste_masks(mask[None], np.array([[0.0, 0.0, 8.0, 8.0]]), (8, 8))
    expected = np.zeros((8, 8), np.uint8)
    expected[:, :4] = 1
    # A corner pixel is 3/8 of a cell from the centre on both axes: (5/8)^2 < 1/2.
    expected[[0, 0, 7, 7], [0, 3, 0, 3]] = 0
    np.testing.assert_array_equal(coco_mask.decode(rle), expected)


@pytest.mark.parametrize("seed", range(12))
def test_pasting_equals_the_numpy_reference(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((7, 7)).astype(np.float32)
    corner = rng.uniform(-6, 20, 2)
    box = np.concatenate([corner, corner + rng.uniform(0.5, 30, 2)])
    np.testing.assert_array_equal(
        full(paste_window(mask, box, (24, 31)), (24, 31)), slow_paste(mask, box, (24, 31))
    )


@pytest.mark.parametrize(
    "box", [(-9.0, -9.0, -1.0, -1.0), (30.0, 2.0, 40.0, 9.0), (3.0, 3.0, 3.0, 3.0)]
)
def test_boxes_without_pixels_give_empty_masks(box):
    (rle,) = paste_masks(np.ones((1, 5, 5)), np.array([box]), (10, 12))
    assert coco_mask.area(rle) == 0
    assert rle["size"] == [10, 12]


def test_no_detections_give_no_masks():
    assert paste_masks(np.zeros((0, 28, 28)), np.zeros((0, 4)), (10, 10)) == []


def test_encodings_are_strings_that_json_can_hold():
    (rle,) = paste_masks(np.ones((1, 5, 5)), np.array([[0.0, 0.0, 4.0, 4.0]]), (10, 12))
    assert json.loads(json.dumps(rle)) == rle


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_encoding_a_window_equals_encoding_the_whole_image(seed):
    rng = np.random.default_rng(seed)
    size = tuple(int(v) for v in rng.integers(1, 9, 2))
    # Windows as high as the image occur often: their runs go on from column to column.
    top = int(rng.integers(0, 2)) if size[0] > 1 else 0
    rows = int(rng.integers(0, size[0] - top + 1)) if rng.random() < 0.5 else size[0] - top
    left = int(rng.integers(0, size[1]))
    columns = int(rng.integers(0, size[1] - left + 1))
    window = MaskWindow(top, left, rng.random((rows, columns)) < rng.choice([0.0, 0.5, 0.9, 1.0]))
    expected = coco_mask.encode(np.asfortranarray(full(window, size)))
    actual = encode_window(window, size)
    assert actual["counts"] == expected["counts"].decode()
    assert actual["size"] == list(expected["size"])


def test_decoding_returns_the_window_of_the_object():
    canvas = np.zeros((9, 12), np.uint8)
    canvas[2:5, 3:9] = 1
    canvas[3, 4] = 0
    window = decode_window(coco_mask.encode(np.asfortranarray(canvas)))
    assert (window.top, window.left, window.pixels.shape) == (2, 3, (3, 6))
    np.testing.assert_array_equal(full(window, (9, 12)), canvas)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_decoding_undoes_encoding(seed):
    rng = np.random.default_rng(seed)
    height, width = (int(v) for v in rng.integers(1, 60, 2))
    pixels = rng.random((height, width)) < rng.choice([0.0, 0.02, 0.5, 0.98, 1.0])
    decoded = decode_window(encode_window(MaskWindow(0, 0, pixels), (height, width)))
    np.testing.assert_array_equal(full(decoded, (height, width)), pixels)


def test_uncompressed_run_lengths_are_decoded_too():
    window = decode_window({"size": [3, 4], "counts": [1, 2, 0, 1, 8]})
    assert (window.top, window.left) == (0, 0)
    np.testing.assert_array_equal(window.pixels, [[False, True], [True, False], [True, False]])


def test_coco_results_hold_x_y_width_height():
    (rle,) = paste_masks(np.ones((1, 5, 5)), np.array([[1.0, 2.0, 4.0, 8.0]]), (10, 12))
    (result,) = coco_results(7, np.array([[1.0, 2.0, 4.0, 8.0]]), np.array([0.5]), [18], [rle])
    assert result == {
        "image_id": 7,
        "category_id": 18,
        "bbox": [2.0, 1.0, 6.0, 3.0],
        "score": 0.5,
        "segmentation": rle,
    }
    assert coco_results(7, np.zeros((0, 4)), np.zeros(0), []) == []
