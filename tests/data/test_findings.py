"""Findings are values that are counted; rows and sentences come from their kinds."""

import pytest

from rcnn_jax.data import findings
from rcnn_jax.data.findings import CROWD, MISSPELT_KEY, TINY, UNMAPPED, Finding, Kind, Tally, merged

KINDS = {name: kind for name, kind in vars(findings).items() if isinstance(kind, Kind)}


def test_a_kind_is_counted_once_and_keeps_its_first_example():
    tally = Tally()
    tally.add(TINY, "a.jpg")
    tally.add(TINY, "b.jpg", 4)
    assert tally.findings == (Finding(TINY, "a.jpg", 5),)
    assert tally.count(TINY) == 5


def test_a_kind_by_name_is_counted_for_every_name():
    tally = Tally()
    for name in ("van", "tram", "van"):
        tally.add(UNMAPPED, name)
    assert tally.findings == (Finding(UNMAPPED, "van", 2), Finding(UNMAPPED, "tram", 1))
    assert tally.count(UNMAPPED) == 3


def test_nothing_is_no_finding():
    tally = Tally()
    tally.add(TINY, "a.jpg", 0)
    assert tally.findings == () and tally.count(TINY) == 0


def test_findings_of_two_sources_add_up():
    first, second = Finding(CROWD, "car", 2), Finding(CROWD, "car", 3)
    assert merged([first, Finding(TINY, "a.jpg"), second]) == (
        Finding(CROWD, "car", 5),
        Finding(TINY, "a.jpg", 1),
    )


def test_rows_and_sentences_name_the_example_and_the_count():
    item = Finding(UNMAPPED, "van", 3)
    assert item.row == "not mapped: van"
    assert item.sentence.startswith("3 objects of class 'van' are left out")
    assert Finding(CROWD, "car").sentence == ""
    assert Finding(MISSPELT_KEY, "'Cra'").severity == "warning"


def test_control_characters_of_a_name_do_not_reach_the_terminal():
    item = Finding(UNMAPPED, "\x1b[31mvan")
    assert "\x1b" not in item.row + item.sentence


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_is_reported_somewhere_and_its_text_can_be_filled(kind):
    item = Finding(kind, "here", 2)
    assert item.row or item.sentence
    assert "{" not in item.row + item.sentence
    if kind.severity != "note":
        assert item.sentence, "what the user should act on is told in a sentence"
