"""Evidence of edges: labels that do not lie on their objects are named, without a model."""

import cv2
import numpy as np
import pytest

from rcnn_jax.diagnose.edges import placement

SIZE = (120, 160)


def set_of(count=10, seed=0):
    """Images of bright ellipses and rectangles on a noisy ground, with their boxes."""
    rng = np.random.default_rng(seed)
    images, boxes = [], []
    for _ in range(count):
        image = rng.normal(60, 6, (*SIZE, 3))
        own = []
        for corner in ((6, 8), (8, 64), (60, 20), (64, 90)):
            y, x = np.array(corner) + rng.integers(0, 10, 2)
            h, w = rng.integers(18, 40, 2)
            if rng.uniform() < 0.5:
                center, axes = (int(x + w / 2), int(y + h / 2)), (int(w / 2), int(h / 2))
                cv2.ellipse(image, center, axes, 0, 0, 360, (190, 170, 150), -1)
            else:
                image[y : y + h, x : x + w] = (190, 170, 150)
            own.append((y, x, y + h, x + w))
        images.append(image.clip(0, 255).astype(np.uint8))
        boxes.append(np.array(own, np.float32))
    return images, boxes


def moved(boxes, by):
    return [b + np.array(by, np.float32) for b in boxes]


def test_labels_in_their_place_are_left_alone():
    images, boxes = set_of()
    fit = placement(images, boxes)
    assert fit is not None and (fit.cause, fit.boxes) == ("", 40)


@pytest.mark.parametrize(("dy", "dx"), [(12, 12), (-10, 14), (0, -16)])
def test_shifted_labels_are_named_with_the_way_back(dy, dx):
    images, boxes = set_of()
    fit = placement(images, moved(boxes, (dy, dx, dy, dx)))
    assert fit is not None and fit.gain > 0.1
    words = fit.cause.split()
    assert words[0] == "moved" and words[3] == "pixels"
    assert abs(float(words[2]) + dx) <= 6 and abs(float(words[7]) + dy) <= 6


def test_swapped_axes_are_named():
    images, boxes = set_of()
    images = [image[:, :120] for image in images]
    inside = [b[b[:, 3] <= 120] for b in boxes]
    fit = placement(images, [b[:, [1, 0, 3, 2]] for b in inside])
    assert fit is not None and fit.cause.startswith("with x and y swapped")


def test_mirrored_labels_are_named():
    images, boxes = set_of()
    rotated = [np.stack([b[:, 0], 160 - b[:, 3], b[:, 2], 160 - b[:, 1]], axis=1) for b in boxes]
    fit = placement(images, rotated)
    assert fit is not None and fit.cause.startswith("mirrored left to right")


def test_pictures_without_a_structure_say_nothing():
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 255, (*SIZE, 3)).astype(np.uint8) for _ in range(10)]
    fit = placement(images, set_of()[1])
    assert fit is not None and fit.cause == ""


def test_a_handful_of_boxes_is_too_few():
    images, boxes = set_of(count=2)
    assert placement(images, boxes) is None
