"""Numbers as they are shown, and a search by them."""

from hypothesis import given
from hypothesis import strategies as st

from rcnn_jax.compress.report import shown
from rcnn_jax.compress.search import threshold_for
from tests.compress.test_criteria import plain


@given(st.floats(1e-8, 100.0))
def test_a_threshold_that_is_shown_does_as_much_when_it_is_typed(value):
    assert value * (1 - 1e-6) <= float(shown(value)) <= value * 1.0011


def test_thresholds_are_short():
    assert [shown(v) for v in (0.0, 0.1, 0.30000000001, 0.51386)] == [
        "0",
        "0.1",
        "0.3001",
        "0.5139",
    ]


@given(
    values=st.lists(st.floats(0, 1, width=16), min_size=1, max_size=30),
    wanted=st.integers(0, 30),
)
def test_the_threshold_found_is_the_lowest_that_leaves_no_more(values, wanted):
    def left(threshold):
        return sum(value > threshold for value in values)

    lowest = threshold_for([plain(values)], left, wanted)
    good = [value for value in values if left(value) <= wanted]
    assert lowest == min(good)
