import numpy as np
import pytest

from rcnn_jax.export.verification.agreement import agreement
from rcnn_jax.structures import Detections

A, B = [0, 0, 10, 10], [20, 20, 40, 50]


def detections(boxes, scores, classes, masks=None):
    count = len(scores)
    return Detections(
        boxes=np.asarray(boxes, np.float32).reshape(1, count, 4),
        scores=np.asarray(scores, np.float32)[None],
        classes=np.asarray(classes, np.int32)[None],
        valid=np.asarray(scores)[None] > 0,
        masks=masks,
    )


BOTH = detections([A, B], [0.8, 0.4], [0, 1])


def test_the_same_in_another_order_agrees_wholly():
    same = agreement(BOTH, detections([B, A], [0.4, 0.8], [1, 0]))
    assert (same.score, same.pairs, same.detections, same.iou) == (1.0, 2, 2, 1.0)


def test_a_missing_detection_costs_its_score():
    """2 * 0.8 of 0.8 + 0.4 + 0.8 agree."""
    assert agreement(BOTH, detections([A], [0.8], [0])).score == pytest.approx(1.6 / 2.0)


def test_a_lower_score_agrees_in_part():
    """min(0.8, 0.2) counts twice: 0.4 + 0.8 of 0.8 + 0.4 + 0.2 + 0.4."""
    assert agreement(BOTH, detections([A, B], [0.2, 0.4], [0, 1])).score == pytest.approx(1.2 / 1.8)


@pytest.mark.parametrize(
    "other",
    [detections([A, B], [0.8, 0.4], [0, 0]), detections([A, [20, 20, 40, 34]], [0.8, 0.4], [0, 1])],
)
def test_another_class_or_less_than_half_an_overlap_is_no_pair(other):
    """More than half of the box is cut off: 14 / 30 of it remain."""
    result = agreement(BOTH, other)
    assert result.pairs == 1 and result.score == pytest.approx(1.6 / 2.4)


def test_the_overlap_of_pairs_is_weighted_by_their_scores():
    """The first pair is exact and weighs 0.8, the second overlaps by 2 / 3 and weighs 0.4."""
    result = agreement(BOTH, detections([A, [20, 20, 40, 40]], [0.8, 0.4], [0, 1]))
    assert result.iou == pytest.approx((0.8 * 1 + 0.4 * 2 / 3) / 1.2)


def test_masks_of_pairs_are_compared():
    masks = np.zeros((1, 2, 2, 2), np.float32)
    other = masks.copy()
    other[0, 0, 0, 0] = 1.0
    ours = detections([A, B], [0.8, 0.4], [0, 1], masks)
    assert agreement(ours, detections([B, A], [0.4, 0.8], [1, 0], other)).mask == pytest.approx(
        0.125
    )


def test_nothing_agrees_with_nothing_and_not_with_something():
    nothing = detections([A], [0.0], [0])
    assert agreement(nothing, nothing).score == 1.0
    assert agreement(nothing, BOTH).score == agreement(BOTH, nothing).score == 0.0


def test_the_score_keeps_its_name_in_reports():
    fields = agreement(BOTH, BOTH).to_json()
    assert list(fields) == ["images", "detections", "pairs", "share", "iou", "mask"]
    assert fields["share"] == 1.0
