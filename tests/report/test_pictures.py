"""Thumbnails: small, whole, and marked where the objects are."""

import cv2
import numpy as np
import pytest

from rcnn_jax.report.page import Beside, Section, Table, html
from rcnn_jax.report.pictures import Mark, around, thumbnail

GRAY = np.full((200, 300, 3), 128, np.uint8)


def decoded(jpeg):
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1), cv2.COLOR_BGR2RGB)


def test_the_longer_side_is_the_one_asked_for_and_small_pictures_stay():
    assert decoded(thumbnail(GRAY, [], 150)).shape == (100, 150, 3)
    assert decoded(thumbnail(GRAY, [], 900)).shape == (200, 300, 3)


def test_a_box_is_drawn_in_its_colour_at_its_place():
    picture = decoded(thumbnail(GRAY, [Mark((40, 60, 120, 180), (255, 0, 0), 3)], 150))
    assert picture[40, 30, 0] > 180 and picture[40, 30, 2] < 90
    assert abs(int(picture[40, 60, 0]) - 128) < 12


def test_outlines_take_the_place_of_the_box():
    ring = np.array([(10, 10), (60, 10), (60, 60), (10, 60)])
    mark = Mark((100, 100, 190, 190), (0, 255, 0), 3, [ring])
    picture = decoded(thumbnail(GRAY, [mark], 300))
    assert picture[10, 30, 1] > 180 and abs(int(picture[100, 150, 1]) - 128) < 12


def test_a_crop_shows_the_surroundings_and_is_clipped():
    window = around([(10, 10, 30, 30), (10, 20, 30, 40)], margin=1.0)
    assert window == (-20.0, -20.0, 60.0, 70.0)
    picture = decoded(thumbnail(GRAY, [], 140, window))
    assert picture.shape == (120, 140, 3)


@pytest.mark.parametrize("far", [1e7, -1e7])
def test_boxes_far_away_do_no_harm(far):
    thumbnail(GRAY, [Mark((far, far, far + 5, far + 5), (0, 0, 0))], 100, (500, 500, 600, 600))


def test_parts_stand_beside_each_other():
    table = Table(["a"], [["1"]])
    text = html("t", "s", [Section("x", [Beside([table, table])])])
    assert text.count('<div class="beside">') == 1 and text.count("<table>") == 2
