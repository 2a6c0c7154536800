"""Contrast, against figures of the standard."""

import pytest

from tests.browser.contrast import contrast, over


def test_contrast_is_that_of_the_standard():
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((118, 118, 118), (255, 255, 255)) == pytest.approx(4.54, abs=0.01)


def test_layers_are_seen_through_each_other():
    assert over([(0, 0, 0, 1), (255, 255, 255, 0.5)]) == [127.5] * 3
    assert over([(9, 9, 9, 1), (0, 100, 200, 1)]) == [0, 100, 200]
