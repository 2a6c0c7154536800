"""Hypotheses on implausible AP: each mistake is planted in arrays of boxes, and must be named."""

from dataclasses import replace

import numpy as np
import pytest

from rcnn_jax.evaluate.hypotheses import diagnose, mean_ap50, restores
from rcnn_jax.evaluate.voc import ImageResult
from rcnn_jax.settings.data import GeometrySettings

NAMES = ("cat", "dog", "fox", "hen")
SIZES = [(240, 320), (300, 200), (200, 400), (256, 256)] * 4
CANVAS = GeometrySettings(mode="keep_aspect", height=512, width=640)


def images_of_a_good_model(seed=0):
    """Detections that are a few pixels off, with some false alarms, in images of four sizes."""
    rng = np.random.default_rng(seed)
    results = []
    for height, width in SIZES:
        count = int(rng.integers(2, 7))
        sides = rng.uniform(18, 60, (count, 2))
        low = rng.uniform(0, 1, (count, 2)) * (np.array([height, width]) - sides)
        truth = np.concatenate([low, low + sides], axis=1).astype(np.float32)
        classes = rng.integers(0, len(NAMES), count)
        noise = rng.normal(0, 1.0, truth.shape).astype(np.float32)
        false = np.array([[1, 1, 12, 15]], np.float32)
        results.append(
            ImageResult(
                boxes=np.concatenate([truth + noise, false]),
                scores=np.append(rng.uniform(0.6, 0.99, count), 0.2).astype(np.float32),
                classes=np.append(classes, 0).astype(np.int32),
                gt_boxes=truth,
                gt_classes=classes.astype(np.int32),
                gt_crowd=np.zeros(count, bool),
            )
        )
    return results


def with_labels(images, move):
    return [
        replace(image, gt_boxes=np.asarray(move(image.gt_boxes, size), np.float32))
        for image, size in zip(images, SIZES, strict=True)
    ]


def with_detections(images, move):
    return [
        replace(image, boxes=np.asarray(move(image.boxes, size), np.float32))
        for image, size in zip(images, SIZES, strict=True)
    ]


def swapped(b, _):
    return b[:, [1, 0, 3, 2]]


def read_as_corners(b, _):
    return np.concatenate([b[:, :2], b[:, 2:] - b[:, :2]], axis=1)


def read_as_size(b, _):
    return np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], axis=1)


def moved_to_centre(b, _):
    return b + np.tile((b[:, 2:] - b[:, :2]) / 2, 2)


def of_canvas(b, size):
    return b * min(CANVAS.height / size[0], CANVAS.width / size[1])


def as_fractions(b, size):
    return b / np.array([*size, *size])


def turned_right(b, size):
    return np.stack([b[:, 1], size[0] - b[:, 2], b[:, 3], size[0] - b[:, 0]], axis=1)


@pytest.mark.parametrize(
    ("plant", "move", "cause"),
    [
        (with_labels, swapped, "x and y of the labels are swapped"),
        (with_labels, read_as_corners, "(x, y, width, height) of the labels is read as corners"),
        (with_labels, read_as_size, "corners of the labels are read as (x, y, width, height)"),
        (with_detections, read_as_corners, "(x, y, width, height) of the detections is read as"),
        (with_detections, read_as_size, "corners of the detections are read as (x, y, width"),
        (with_labels, moved_to_centre, "the centre of a box is read as its top left corner"),
        (with_labels, of_canvas, "the labels are pixels of the canvas instead of the image file"),
        (
            with_detections,
            of_canvas,
            "the detections are pixels of the canvas instead of the image",
        ),
        (with_labels, as_fractions, "the labels are fractions of the image, read as pixels"),
        (with_labels, turned_right, "the labels are turned by 90 degrees"),
        (with_labels, lambda b, s: b * 0.6, "the labels are of another scale or place: x 1.6"),
        (
            with_labels,
            lambda b, s: b + np.array([40, -25, 40, -25]),
            "the labels are of another scale or place: x 1.000 +25 pixels, y 1.000 -40 pixels",
        ),
        (
            with_labels,
            lambda b, s: b * np.array([0.5, 0.75, 0.5, 0.75]) + 30,
            "the labels are of another scale or place: x 1.33",
        ),
    ],
)
def test_a_planted_mistake_of_boxes_is_named(plant, move, cause):
    images = images_of_a_good_model()
    assert mean_ap50(images, len(NAMES)) > 0.9
    diagnosis = diagnose(plant(images, move), SIZES, NAMES, CANVAS)
    assert diagnosis is not None and diagnosis.ap50 < 0.3
    assert diagnosis.best is not None and diagnosis.best.cause.startswith(cause)
    assert diagnosis.best.ap50 > 0.75
    assert f"{diagnosis.best.ap50:.3f} if this is undone" in diagnosis.sentence()


@pytest.mark.parametrize(
    ("order", "cause"),
    [
        ((1, 2, 3, 0), "class numbers are shifted by one (an object of 'cat' is found as 'hen'"),
        ((3, 0, 1, 2), "class numbers are shifted by one (an object of 'cat' is found as 'dog'"),
        ((2, 3, 1, 0), "classes are permuted between labels and model: objects of "),
        ((1, 0, 2, 3), "classes are permuted between labels and model: objects of 'cat' as 'dog'"),
    ],
)
def test_planted_labels_are_named(order, cause):
    """The last case has an AP50 of one half: the gain without classes raises the suspicion."""
    images = [
        replace(image, gt_classes=np.asarray(order, np.int32)[image.gt_classes])
        for image in images_of_a_good_model()
    ]
    diagnosis = diagnose(images, SIZES, NAMES, CANVAS)
    assert diagnosis is not None and diagnosis.best is not None
    assert diagnosis.best.cause.startswith(cause) and diagnosis.best.ap50 > 0.9


def test_two_mistakes_at_once_are_both_named():
    images = [
        replace(image, gt_classes=(image.gt_classes + 1) % 4) for image in images_of_a_good_model()
    ]
    diagnosis = diagnose(with_labels(images, swapped), SIZES, NAMES, CANVAS)
    assert diagnosis is not None and diagnosis.best is not None
    assert diagnosis.best.cause.startswith(
        "x and y of the labels are swapped; and class numbers are"
    )


def test_a_plausible_model_is_left_alone():
    assert diagnose(images_of_a_good_model(), SIZES, NAMES, CANVAS) is None


def test_nothing_is_invented_for_a_model_that_has_learnt_nothing():
    rng = np.random.default_rng(5)
    images = []
    for image, (height, width) in zip(images_of_a_good_model(), SIZES, strict=True):
        low = rng.uniform(0, 0.7, (20, 2)) * (height, width)
        boxes = np.concatenate([low, low + rng.uniform(10, 60, (20, 2))], axis=1)
        images.append(
            replace(
                image,
                boxes=boxes.astype(np.float32),
                scores=rng.uniform(0, 1, 20).astype(np.float32),
                classes=rng.integers(0, 4, 20).astype(np.int32),
            )
        )
    diagnosis = diagnose(images, SIZES, NAMES, CANVAS)
    assert diagnosis is not None and diagnosis.best is None
    assert "none of" in diagnosis.sentence() and diagnosis.to_json()["cause"] is None


def test_images_without_a_detection_are_no_reason_to_guess():
    empty = [
        replace(i, boxes=i.boxes[:0], scores=i.scores[:0], classes=i.classes[:0])
        for i in images_of_a_good_model()
    ]
    diagnosis = diagnose(empty, SIZES, NAMES, CANVAS)
    assert diagnosis is not None and diagnosis.trials == ()


def test_a_gain_must_be_large_to_be_an_explanation():
    assert restores(0.5, 0.1) and not restores(0.25, 0.1) and not restores(0.19, 0.01)
