"""Pictures: their statistics, classes that a mirror changes, pictures without an up."""

import numpy as np

from rcnn_jax.configure.pictures import handed_classes, pixel_statistics, upside_down
from rcnn_jax.diagnose.records import Pixels
from rcnn_jax.diagnose.scan import Scan
from tests.configure.test_proposal import item


def test_pixel_statistics_by_hand():
    image = np.zeros((2, 2, 3), np.uint8)
    image[0] = (100, 50, 200)
    image[1] = (140, 90, 240)
    statistics = pixel_statistics([Pixels(image, b"")])
    assert statistics.mean == (120.0, 70.0, 220.0)
    assert statistics.divisor == 20.0


def test_classes_that_are_others_in_a_mirror_are_told_by_their_names():
    names = ["turn_left", "RightHand", "copyright", "leftover", "LEFT", "arrow-right-2", "car"]
    assert handed_classes(names) == ["turn_left", "RightHand", "LEFT", "arrow-right-2"]
    assert handed_classes(["rightmost", "bright", "ball"]) == []


def looks(brighter, count=40):
    random = np.random.default_rng(1)
    small = random.integers(80, 120, (count, 16, 16)).astype(np.uint8)
    small[:, :8] += np.uint8(brighter)
    return [Scan(size=(40, 40), small=each) for each in small]


def test_pictures_have_an_up_where_the_sky_is_brighter_or_near_things_are_lower():
    random = np.random.default_rng(2)
    flat = [item((400, 400), (y, 5, y + 20, 25 + d)) for y, d in random.uniform(0, 380, (900, 2))]
    assert upside_down(flat, looks(0))
    assert upside_down(flat, looks(8))  # a lamp: nine hundred objects lie evenly
    assert not upside_down(flat[:300], looks(8))
    assert not upside_down(flat, looks(40))
    deep = [item((400, 400), (y, 5, y + 5 + y / 8, 25 + y / 4)) for y in random.uniform(0, 300, 40)]
    assert not upside_down(deep, looks(0))
    assert not upside_down(flat[:5], looks(0, 5))
