import numpy as np
import pytest

from rcnn_jax.export.verification.parity import FP32, compare_detections, relative_difference
from rcnn_jax.structures import Detections


def detections(boxes, scores, classes, masks=None):
    count = len(scores)
    return Detections(
        boxes=np.asarray(boxes, np.float32).reshape(1, count, 4),
        scores=np.asarray(scores, np.float32)[None],
        classes=np.asarray(classes, np.int32)[None],
        valid=np.asarray(scores)[None] > 0,
        masks=masks,
    )


A, B = [0, 0, 10, 10], [20, 20, 40, 50]


def test_order_is_no_difference():
    a = detections([A, B], [0.5, 0.5], [0, 1])
    b = detections([B, A], [0.5, 0.5], [1, 0])
    parity = compare_detections(a, b)
    assert (parity.detections, parity.unmatched, parity.box, parity.score) == (2, 0, 0.0, 0.0)
    assert parity.within(FP32)


def test_the_largest_differences_are_found():
    a = detections([A, B], [0.9, 0.5], [0, 1])
    b = detections([[0, 0, 10.25, 10], B], [0.9, 0.502], [0, 1])
    parity = compare_detections(a, b)
    assert (parity.unmatched, parity.box) == (0, 0.25)
    assert parity.score == pytest.approx(0.002, abs=1e-6)
    assert not parity.within(FP32)


@pytest.mark.parametrize(
    "other",
    [
        detections([A, B], [0.9, 0.5], [0, 0]),
        detections([A, [20, 20, 48, 50]], [0.9, 0.5], [0, 1]),
    ],
)
def test_another_class_or_a_far_box_is_no_partner(other):
    parity = compare_detections(detections([A, B], [0.9, 0.5], [0, 1]), other)
    assert parity.unmatched == 2, "one on either side"
    assert not parity.within(FP32)


def test_one_partner_serves_one_detection():
    a = detections([A, A], [0.9, 0.9], [0, 0])
    parity = compare_detections(a, detections([A, B], [0.9, 0.0], [0, 0]))
    assert parity.unmatched == 1


def test_equal_boxes_are_told_apart_by_their_scores():
    a = detections([A, A], [0.9, 0.899], [0, 0])
    b = detections([A, A], [0.899, 0.9], [0, 0])
    assert compare_detections(a, b).score == 0.0


def test_masks_are_compared_between_partners():
    masks = np.zeros((1, 2, 3, 3), np.float32)
    a = detections([A, B], [0.9, 0.5], [0, 1], masks)
    other = masks.copy()
    other[0, 0, 1, 1] = 0.25
    assert compare_detections(a, detections([B, A], [0.5, 0.9], [1, 0], other)).mask == 0.25


def test_nothing_agrees_with_nothing():
    empty = detections([A], [0.0], [0])
    assert compare_detections(empty, empty).within(FP32)


def test_stages_are_compared_by_their_largest_number():
    assert relative_difference(np.asarray([0.0, -4.0]), np.asarray([1.0, -4.0])) == 0.25
    assert np.isnan(relative_difference(np.asarray([1.0]), np.asarray([np.nan])))
