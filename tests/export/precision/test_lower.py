"""Lowering: thresholds of a precision, and the layers that stay in float until they hold."""

import numpy as np

from rcnn_jax.export.precision.lower import judged
from rcnn_jax.export.verification.accuracy import Accuracy
from rcnn_jax.export.verification.agreement import agreement
from rcnn_jax.structures import Detections

A, B = [0, 0, 10, 10], [20, 20, 40, 50]


def found(boxes, scores, classes, masks=None):
    count = len(scores)
    return Detections(
        boxes=np.asarray(boxes, np.float32).reshape(1, count, 4),
        scores=np.asarray(scores, np.float32)[None],
        classes=np.asarray(classes, np.int32)[None],
        valid=np.asarray(scores)[None] > 0,
        masks=masks,
    )


BOTH = found([A, B], [0.8, 0.4], [0, 1])


def test_the_gate_names_what_is_missed():
    poor = agreement(BOTH, found([A], [0.8], [0]))
    accuracy = Accuracy(
        images=9,
        model={"AP": 0.5, "APs": 0.4, "AP50": -1.0},
        graph={"AP": 0.3, "APs": 0, "AP50": 0},
    )
    assert accuracy.losses() == {"AP": 0.2}, "AP50 could not be judged, APs is not gated"
    assert judged(poor, accuracy, "fp16").problems == [
        "fp16: detections agree to 0.800, at least 0.97 is expected",
        "fp16: AP falls from 0.5000 to 0.3000 on 9 images, a loss of 0.005 is allowed",
    ]
    assert judged(agreement(BOTH, BOTH), None, "int8").problems == []


def test_an_average_precision_that_is_no_number_does_not_pass():
    accuracy = Accuracy(images=9, model={"mAP": 0.5}, graph={"mAP": float("nan")})
    assert len(judged(agreement(BOTH, BOTH), accuracy, "int8").problems) == 1
