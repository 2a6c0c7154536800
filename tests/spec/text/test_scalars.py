"""One value after its name: what is taken as the value, and where errors are placed."""

import pytest

from rcnn_jax.spec.schema import (
    Field,
    LiteralShape,
    Message,
    boolean,
    count,
    real,
    reals,
    string,
)
from rcnn_jax.spec.text.cursor import Block
from rcnn_jax.spec.text.scalars import ScalarReader
from rcnn_jax.spec.text.secrets import hide
from rcnn_jax.spec.text.tokens import tokenize

SIDES = Field(
    name="sides",
    number=5,
    kind="literal",
    doc="Sides.",
    shape=LiteralShape(bracket="(", item="int", length=2),
)
TABLE = Message(
    "T",
    "A table.",
    (
        count("steps", 1, None, "Steps."),
        real("rate", 2, None, "Rate."),
        string("name", 3, None, "Name."),
        reals("rates", 4, (), "Rates."),
        SIDES,
        boolean("flag", 6, False, "A switch."),
    ),
)


def read(text, listed=False):
    """(value, rest of the text, sentences of errors) of an entry `name: value ...`."""
    reader = ScalarReader(hide(tokenize(text)))
    reader.blocks.append(Block("", TABLE))
    token = reader.take()
    row = TABLE.find(token.text)
    colon = reader.colon()
    value = reader.scalar(token, row.kind, row, token.text, colon=colon, listed=listed)
    rest = " ".join(t.text for t in reader.tokens[reader.index : -1])
    return value, rest, [problem.sentence for problem in reader.problems]


@pytest.mark.parametrize(
    ("text", "value", "rest"),
    [
        ("steps: 3 rate: 1", 3, "rate : 1"),
        ("rate: -1e-3", -1e-3, ""),
        ("flag: true steps: 3", True, "steps : 3"),
        ('name: "a" "b"', "ab", ""),
        ("name: 'a'\n  'b'", "ab", ""),
        ('name: "a"\n"steps": 3', "a", '"steps" : 3'),  # the next field, as in JSON
        ('sides: "(2, 3)"', "(2, 3)", ""),
        ("steps: 3 }", 3, "}"),
    ],
)
def test_a_value_ends_where_the_next_field_begins(text, value, rest):
    assert read(text) == (value, rest, [])


@pytest.mark.parametrize(
    ("text", "sentence", "rest"),
    [
        ("steps:", "steps has no value: it needs a whole number from 0 on", ""),
        ("steps: }", "steps has no value: it needs a whole number from 0 on", "}"),
        ("steps:\nrate: 1", "steps has no value: it needs a whole number from 0 on", "rate : 1"),
        ("steps 3", "expected ':' behind steps, found 3", ""),
        ("steps = 3", "expected ':' behind steps, found '='", ""),
        ("steps:: 3", "this ':' is one too many", ""),
        ("steps: { a: 1 } rate: 1", "steps needs a whole number from 0 on, found a block", "rate"),
        ("sides: [2, 3]", "sides needs text in quotes with a tuple of 2 x whole number, found a", ""),
        ("steps: 1,000 rate: 1", "steps = 1,000 is not a whole number from 0 on: write 1000", "rate"),
        ("sides: (2, 3)", 'write "(2, 3)"', ""),
        ("rates: 0.1 0.2", "is no list: write [0.1, 0.2]", ""),
        ("flag: yes please", "is not true or false: it is more than one word", ""),
        ('name: "a', "is not closed: a \" is missing in this line", ""),
        ("name: “a”", "has typographic quotes: write", ""),
    ],
)  # fmt: skip
def test_an_error_is_one_sentence_and_what_follows_is_read(text, sentence, rest):
    _, left, problems = read(text)
    assert len(problems) == 1 and sentence in problems[0], problems
    assert left.startswith(rest)


def test_an_item_of_a_list_ends_at_its_comma():
    assert read("rate: 1,000", listed=True) == (1, ", 000", [])
