"""Charts: where points stand, what happens to nothing, to infinities and to long names."""

import math
import re
import xml.etree.ElementTree as ET

import pytest

from rcnn_jax.report import charts
from rcnn_jax.report.charts import Span


def texts(svg):
    return ["".join(node.itertext()) for node in ET.fromstring(svg).iter("text")]


def points(svg):
    """The points of every line."""
    return [
        [tuple(map(float, pair.split(","))) for pair in node.get("points").split()]
        for node in ET.fromstring(svg).iter("polyline")
    ]


def test_a_larger_value_stands_higher_and_further_right():
    ((first, second),) = points(charts.lines({"a": [(0, 0.2), (1, 0.9)]}, "x", "y"))
    assert first[0] < second[0]
    assert first[1] > second[1]


def test_points_that_are_not_finite_are_left_out():
    (line,) = points(charts.lines({"a": [(0, 1), (1, math.nan), (2, math.inf), (3, 2)]}, "x", "y"))
    assert len(line) == 2


def marked(svg):
    """{text: box (left, top, right, bottom)} of labels at marks."""
    labels = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="start">([^<]+)<', svg)
    return {
        text: (float(x), float(y) - 10, float(x) + len(text) * charts._LETTER, float(y) + 3)
        for x, y, text in labels
    }


def test_texts_of_marks_lie_inside_and_cover_nothing():
    near = [(0.40, 57.1), (0.42, 58.1), (0.25, 57.7), (0.60, 57.8), (1.0, 58.0), (0.41, 57.9)]
    marks = [(x, y, f"50% int8 QAT{n}") for n, (x, y) in enumerate(near)]
    boxes = marked(charts.lines({}, "latency", "AP", marks=marks))
    assert len(boxes) == len(marks)
    for name, (left, top, right, bottom) in boxes.items():
        # Left of the plot stand the numbers of the axis.
        assert charts._LEFT <= left < right <= charts._WIDTH
        assert 0 <= top < bottom <= charts._HEIGHT
        for other, box in boxes.items():
            if other != name:
                assert right <= box[0] or box[2] <= left or bottom <= box[1] or box[3] <= top


def test_a_crowd_of_marks_keeps_all_points_and_the_texts_that_fit():
    svg = charts.lines({}, "x", "y", marks=[(1.0, 1.0, f"mark {n}") for n in range(60)])
    assert svg.count("<circle") == 60
    assert 1 <= len(marked(svg)) < 60


def test_long_lines_are_thinned_and_keep_their_end():
    (line,) = points(charts.lines({"a": [(i, i) for i in range(100_001)]}, "x", "y"))
    assert len(line) < 500
    assert line[-1] == points(charts.lines({"a": [(0, 0), (100_000, 100_000)]}, "x", "y"))[0][-1]


@pytest.mark.parametrize(
    "svg",
    [
        charts.lines({}, "x", "y"),
        charts.lines({"a": []}, "x", "y"),
        charts.lines({"a": [(1.0, 3.0)]}, "x", "y"),
        charts.lines({"a": [(1, 0), (2, 0)]}, "x", "y"),
        charts.bars({}),
        charts.bars({"a": 0.0, "b": math.nan}),
        charts.histogram([], [], "x"),
        charts.histogram([0, 0], [1, 2, 4], "x"),
        charts.matrix([], [], [], "empty"),
        charts.matrix([[0]], ["a"], ["a"], "zeros"),
    ],
)
def test_data_without_extent_are_drawn_without_a_number_that_is_none(svg):
    ET.fromstring(svg)
    assert not re.search(r"\b(nan|inf)\b", svg.split("<text")[0])


def test_bars_are_as_long_as_their_values():
    svg = charts.bars({"a": 1.0, "b": 0.25}, spans={"a": Span(0.9, 1.0, 1.0)})
    first, second = (float(node.get("width")) for node in ET.fromstring(svg).iter("rect"))
    assert second == pytest.approx(first / 4, abs=0.1)


def test_cells_of_a_matrix_are_darker_the_larger_their_part_of_the_row():
    svg = charts.matrix([[9, 1], [0, 1]], ["a", "b"], ["a", "b"], "truth by detection")
    shades = [float(node.get("fill-opacity")) for node in ET.fromstring(svg).iter("rect")]
    assert shades[0] > shades[1] > shades[2]
    assert shades[3] == max(shades)


def test_names_are_escaped_and_long_ones_cut():
    svg = charts.bars({"<b>&": 1.0, "x" * 80: 2.0})
    assert "<b>&" in texts(svg)
    assert max(map(len, texts(svg))) <= 28


def test_ticks_are_round_numbers_inside_the_axis():
    assert charts._ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert charts._ticks(-3.0, 17.0) == [0.0, 5.0, 10.0, 15.0]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (-2e6, "-2M"), (500_000, "500k"), (1100, "1,100"), (12_345, "12.35k"), (4e10, "40G")]
    + [(0.025, "0.025"), (2.5e-4, "2.5e-4"), (1e-10, "1e-10"), (3e15, "3e15"), (math.inf, "-")],
)
def test_numbers_beside_an_axis_have_six_letters_at_most(value, text):
    assert charts._compact(value) == text
    assert len(text) <= 6


def test_the_last_number_below_an_axis_ends_with_the_drawing():
    svg = charts.histogram([1, 2], [0.125, 0.25, 0.375], "x")
    (last,) = [node for node in ET.fromstring(svg).iter("text") if node.text == "0.375"]
    assert (last.get("text-anchor"), float(last.get("x"))) == ("end", charts._WIDTH)
