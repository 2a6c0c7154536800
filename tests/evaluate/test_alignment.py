"""Alignment of labels and detections: the best permutation of classes, scale and shift."""

from dataclasses import replace

import numpy as np
import pytest

from rcnn_jax.evaluate.alignment import best_permutation, search_scale
from tests.evaluate.test_hypotheses import images_of_a_good_model, with_labels


def test_a_permutation_leaves_labels_alone_that_nobody_speaks_for():
    images = images_of_a_good_model()[:1]
    one = replace(images[0], classes=np.full_like(images[0].classes, 2))
    order = best_permutation([one], 4)
    assert sorted(order) == [0, 1, 2, 3]


def test_a_scale_is_found_exactly_where_boxes_are_exact():
    exact = [
        replace(i, boxes=i.gt_boxes, scores=i.scores[:-1], classes=i.classes[:-1])
        for i in images_of_a_good_model()
    ]
    planted = with_labels(exact, lambda b, s: b / 1.5 - 4)
    scale, shift = search_scale(planted, [np.ones(4, np.float32)] * len(planted))
    assert scale == pytest.approx((1.5, 1.5), rel=1e-3)
    assert shift == pytest.approx((6.0, 6.0), abs=0.2)
