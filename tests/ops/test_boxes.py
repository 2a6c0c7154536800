import jax
import numpy as np

from rcnn_jax.ops import boxes
from tests.reference import boxes as slow


def test_area_has_no_plus_one():
    np.testing.assert_array_equal(boxes.area(np.float32([[0, 0, 2, 3], [1, 1, 1, 9]])), [6.0, 0.0])


def test_iou_of_a_box_with_itself_is_one():
    box = np.float32([[3, 4, 10, 20]])
    np.testing.assert_array_equal(boxes.iou_matrix(box, box), [[1.0]])


def test_iou_of_disjoint_boxes_is_zero():
    a, b = np.float32([[0, 0, 2, 2]]), np.float32([[2, 0, 4, 2], [9, 9, 10, 10]])
    np.testing.assert_array_equal(boxes.iou_matrix(a, b), [[0.0, 0.0]])


def test_iou_of_half_shifted_squares_is_a_seventh():
    a, b = np.float32([[0, 0, 2, 2]]), np.float32([[1, 1, 3, 3]])
    np.testing.assert_allclose(boxes.iou_matrix(a, b), [[1 / 7]], rtol=1e-7)


def test_iou_of_empty_boxes_is_zero_not_nan():
    empty = np.zeros((2, 4), np.float32)
    np.testing.assert_array_equal(boxes.iou_matrix(empty, empty), np.zeros((2, 2)))


def test_iou_equals_the_slow_reading_exactly():
    rng = np.random.default_rng(0)
    a, b = slow.exact_boxes(rng, (17,)), slow.exact_boxes(rng, (9,))
    np.testing.assert_array_equal(jax.jit(boxes.iou_matrix)(a, b), slow.iou_matrix(a, b))


def test_iou_is_symmetric():
    rng = np.random.default_rng(1)
    a, b = slow.exact_boxes(rng, (5,)), slow.exact_boxes(rng, (6,))
    np.testing.assert_array_equal(boxes.iou_matrix(a, b), boxes.iou_matrix(b, a).T)


def test_clip_moves_corners_to_the_border():
    box = np.float32([[-5, -6, 50, 60], [20, 30, 25, 35], [99, 99, 120, 120]])
    expected = [[0, 0, 40, 50], [20, 30, 25, 35], [40, 50, 40, 50]]
    np.testing.assert_array_equal(boxes.clip(box, (40.0, 50.0)), expected)
    np.testing.assert_array_equal(boxes.clip(box, np.float32([40, 50])), expected)


def test_scale_treats_the_axes_apart():
    box = np.float32([[1, 2, 3, 4]])
    np.testing.assert_array_equal(boxes.scale(box, (2.0, 10.0)), [[2, 20, 6, 40]])


def test_wide_enough_needs_both_sides_greater():
    box = np.float32([[0, 0, 2, 2], [0, 0, 1, 2], [0, 0, 2, 1], [0, 0, 0, 0]])
    np.testing.assert_array_equal(boxes.wide_enough(box, 1.0), [True, False, False, False])
    np.testing.assert_array_equal(boxes.wide_enough(box, 0.0), [True, True, True, False])
