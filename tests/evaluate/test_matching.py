import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rcnn_jax.evaluate.matching import best_overlaps, first_matches, iou_matrix


def random_boxes(rng, count, side=100.0):
    corner = rng.uniform(0, side, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(1, side / 2, (count, 2))], axis=1)


def test_iou_of_a_box_with_itself_is_one():
    assert iou_matrix(np.array([[2, 3, 7, 9]]), np.array([[2, 3, 7, 9]])) == 1.0


def test_iou_of_disjoint_boxes_is_zero():
    assert iou_matrix(np.array([[0, 0, 1, 1]]), np.array([[1, 1, 2, 2], [5, 5, 6, 6]])).max() == 0


def test_iou_counts_continuous_area_without_a_plus_one():
    # 2x2 and 2x2 shifted by one column: intersection 2, union 6.
    iou = iou_matrix(np.array([[0, 0, 2, 2]]), np.array([[0, 1, 2, 3]]))
    np.testing.assert_allclose(iou, [[2 / 6]], rtol=1e-15)


def test_iou_of_empty_boxes_is_zero():
    assert iou_matrix(np.zeros((1, 4)), np.zeros((1, 4))) == 0.0


def test_iou_of_no_boxes_has_no_rows():
    assert iou_matrix(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_iou_is_symmetric_and_does_not_change_under_translation(seed):
    rng = np.random.default_rng(seed)
    a, b = random_boxes(rng, 4), random_boxes(rng, 5)
    np.testing.assert_array_equal(iou_matrix(a, b), iou_matrix(b, a).T)
    np.testing.assert_allclose(iou_matrix(a + 8.0, b + 8.0), iou_matrix(a, b), atol=1e-12)


def test_a_box_looks_only_at_objects_of_its_class():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10]])
    gt = np.array([[0, 0, 10, 10], [0, 0, 10, 5]])
    index, overlap = best_overlaps(boxes, np.array([1, 2]), gt, np.array([0, 1]))
    np.testing.assert_array_equal(index, [1, -1])
    np.testing.assert_array_equal(overlap, [0.5, 0.0])


def test_equal_overlaps_go_to_the_lower_index():
    gt = np.array([[0, 0, 10, 10], [0, 0, 10, 10]])
    index, _ = best_overlaps(gt[:1], np.zeros(1, int), gt, np.zeros(2, int))
    assert index[0] == 0


def test_without_objects_nothing_is_overlapped():
    index, overlap = best_overlaps(
        np.ones((3, 4)), np.zeros(3, int), np.zeros((0, 4)), np.zeros(0, int)
    )
    np.testing.assert_array_equal(index, [-1, -1, -1])
    np.testing.assert_array_equal(overlap, [0, 0, 0])


def test_only_the_first_match_of_an_object_counts():
    won = first_matches(np.array([2, -1, 0, 2, 0, 1]), 4)
    np.testing.assert_array_equal(won, [True, False, True, False, False, True])


def test_without_matches_nothing_counts():
    assert not first_matches(np.array([-1, -1]), 0).any()
    assert first_matches(np.zeros(0, int), 3).shape == (0,)
