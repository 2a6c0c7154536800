"""Suspicious labels: a good model's detections against labels with planted errors."""

import numpy as np
import pytest

from rcnn_jax.evaluate.suspicions import Labelled, of_image, rank


def labelled(labels, detections, crowd=()):
    """labels: (class, box); detections: (class, score, box)."""
    return Labelled(
        boxes=np.array([box for _, _, box in detections], np.float32).reshape(-1, 4),
        scores=np.array([score for _, score, _ in detections], np.float32),
        classes=np.array([label for label, _, _ in detections], np.int32),
        gt_boxes=np.array([box for _, box in labels], np.float32).reshape(-1, 4),
        gt_classes=np.array([label for label, _ in labels], np.int32),
        gt_crowd=np.array([index in crowd for index in range(len(labels))], bool),
    )


BOX, FAR, SHIFTED = (10, 10, 30, 30), (60, 60, 90, 90), (20, 20, 40, 40)


@pytest.mark.parametrize(
    ("labels", "detections", "cause", "label", "strength", "proposed"),
    [
        ([(0, BOX)], [(1, 0.9, BOX)], "class", 0, 0.9, 1),
        ([(0, BOX)], [(0, 0.4, BOX), (1, 0.9, BOX)], "class", 0, 0.9 * 0.6, 1),
        ([(0, SHIFTED)], [(0, 0.8, BOX)], "shifted", 0, 0.8, 0),
        ([(0, SHIFTED)], [(1, 0.8, BOX)], "shifted", 0, 0.8, 1),
        ([(0, BOX)], [(0, 0.9, BOX), (1, 0.7, FAR)], "missing", None, 0.7, 1),
        ([(0, BOX)], [], "nothing", 0, 0.25, -1),
    ],
)
def test_every_kind_of_error_is_the_first_suspicion(
    labels, detections, cause, label, strength, proposed
):
    first = rank([labelled(labels, detections)])[0]
    assert (first.cause, first.label, first.proposed) == (cause, label, proposed)
    assert first.strength == pytest.approx(strength)


def test_a_label_that_the_model_confirms_is_hardly_suspicious():
    assert rank([labelled([(0, BOX)], [(0, 0.9, BOX)])])[0].strength == pytest.approx(0.0)


def test_a_box_that_fits_badly_is_a_little_suspicious():
    (one,) = of_image(0, labelled([(0, (10, 10, 30, 26))], [(0, 1.0, BOX)]))
    assert one.cause == "shifted" and 0 < one.strength < 0.25


def test_a_region_of_many_hides_what_is_in_it():
    assert rank([labelled([(0, (0, 0, 95, 95))], [(0, 0.9, BOX)], crowd=(0,))]) == []


def test_a_detection_beside_a_labelled_object_is_less_than_one_in_the_open():
    beside = rank([labelled([(0, BOX)], [(0, 0.9, BOX), (0, 0.9, SHIFTED)])])[0]
    assert beside.cause == "missing" and beside.strength < 0.9 * 0.8


def test_two_detections_of_one_missing_object_are_one_suspicion():
    suspicions = of_image(0, labelled([], [(0, 0.9, BOX), (1, 0.8, (11, 11, 31, 31))]))
    assert [one.cause for one in suspicions] == ["missing"]
    assert suspicions[0].strength == pytest.approx(0.9)


def test_a_contradicted_label_comes_before_a_missing_one_of_equal_confidence():
    ranked = rank([labelled([(0, BOX)], [(1, 0.8, BOX), (1, 0.95, FAR)])])
    assert [one.cause for one in ranked] == ["class", "missing"]


def test_a_shifted_label_is_one_suspicion_and_not_a_missing_one_too():
    suspicions = of_image(0, labelled([(0, SHIFTED)], [(0, 0.8, BOX)]))
    assert [one.cause for one in suspicions] == ["shifted"]


def test_suspicions_of_all_images_are_ranked_together():
    weak = labelled([(0, BOX)], [(1, 0.3, BOX)])
    strong = labelled([(0, BOX)], [(1, 0.9, BOX)])
    assert [one.image for one in rank([weak, strong])] == [1, 0]
