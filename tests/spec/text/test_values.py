"""Values of single tokens by type, and the right spelling in the message about a wrong one."""

import pytest

from rcnn_jax.spec.schema import Field, LiteralShape, boolean, count, real, string
from rcnn_jax.spec.text.tokens import tokenize
from rcnn_jax.spec.text.values import (
    MAX_DIGITS,
    MAX_TEXT,
    WrongValueError,
    bare,
    control_complaint,
    did_you_mean,
    in_quotes,
    nearest,
    number_of,
    read_value,
    shown_value,
    wanted,
    written,
)

FLAG, STEPS, RATE = boolean("f", 1, False, "."), count("s", 1, 0, "."), real("r", 1, 0.0, ".")
NAME = string("n", 1, "", ".")
MODE = Field(name="m", number=1, kind="enum", doc=".", values=("SGD", "ADAM"))
WHOLE = Field(name="w", number=1, kind="whole", doc=".")
PAIR = Field(
    name="p",
    number=1,
    kind="literal",
    doc=".",
    shape=LiteralShape(bracket="(", item="int", length=2),
)
LIST = Field(name="l", number=1, kind="double", doc=".", repeated=True)


def read(text, row):
    return read_value(tokenize(text)[:-1], row.kind, row)


@pytest.mark.parametrize(
    ("text", "row", "value"),
    [
        ("true", FLAG, True),
        ("f", FLAG, False),
        ("1", FLAG, True),
        ("17", STEPS, 17),
        ("0x1F", STEPS, 31),
        ("1.5f", RATE, 1.5),
        (".5", RATE, 0.5),
        ("1e3", WHOLE, 1000),
        ("5.0", WHOLE, 5),
        ("ADAM", MODE, "ADAM"),
        ("1", MODE, "ADAM"),
        ("'a' \"b\"", NAME, "ab"),
        ('"\\303\\251"', NAME, "é"),
        ('"(2, 3)"', PAIR, "(2, 3)"),
    ],
)
def test_values_are_read_as_protobuf_reads_them(text, row, value):
    result = read(text, row)
    assert result == value and type(result) is type(value)


@pytest.mark.parametrize(
    ("text", "row", "sentence"),
    [
        ("yes", FLAG, "is not true or false: write true"),
        ('"False"', FLAG, "is not true or false: write false"),
        ("1.5", STEPS, "is not a whole number from 0 on"),
        ("5.0", STEPS, "is not a whole number from 0 on: write 5"),
        ("-3", STEPS, "is not a whole number from 0 on"),
        ("010", STEPS, "has leading zeros: write 10"),
        ("4294967296", STEPS, "is larger than 4294967295"),
        ("inf", RATE, "is not a finite number"),
        ("1e999", RATE, "is not a finite number"),
        ('"0.1"', RATE, "is not a number: write 0.1"),
        ("−1", RATE, "is not a number: write -1"),
        ('"1,5"', RATE, "is not a number: write 1.5"),
        ('"1,500"', RATE, "is not a number: write 1500"),
        ("7" * (MAX_DIGITS + 1), RATE, "is longer than 100 characters"),
        ('"ADAM"', MODE, "is not one of SGD, ADAM: write ADAM, without quotes"),
        ("ADM", MODE, "is not one of SGD, ADAM; did you mean 'ADAM'?"),
        ("2", MODE, "is not one of SGD, ADAM"),
        ("hello", NAME, 'is not text in quotes: write "hello"'),
        ('"\\d"', NAME, "has a backslash that begins no escape; write two for one, or /"),
        (f'"{"a" * (MAX_TEXT + 1)}"', NAME, "is longer than 10000 characters"),
        ("832", PAIR, "is not text in quotes with a tuple of 2 x whole number"),
        ('"[0.1, 0.2]"', LIST, "is not a number: write [0.1, 0.2], without quotes"),
    ],
)
def test_what_is_no_value_is_told_how_it_is_written(text, row, sentence):
    with pytest.raises(WrongValueError) as error:
        read(text, row)
    assert str(error.value) == sentence


def test_the_values_of_every_type_can_be_described():
    rows = (FLAG, STEPS, RATE, NAME, MODE, WHOLE, PAIR)
    assert len({wanted(row.kind, row) for row in rows}) == len(rows) - 1, "whole is as uint32"


def test_names_are_near_whatever_their_case_and_dashes():
    assert nearest("Batch-Size", ("batch_size", "batch")) == "batch_size"
    assert nearest("zzz", ("batch_size",)) == "" and nearest("b" * 999, ("b",)) == ""
    assert nearest("AP", ("ap", "AP")) == "ap", "of two that differ in case the first one"
    assert did_you_mean("batchsize", ["batch_size"]) == "; did you mean 'batch_size'?"
    assert did_you_mean("zzz", ["batch_size"]) == ""


def test_any_value_is_shown_in_one_short_line():
    assert shown_value("a\nb") == "'a\\nb'"
    assert shown_value(10**5000) == "a number of about 10^5000"
    assert len(shown_value("x" * 10_000)) < 200


def test_control_characters_are_named():
    assert control_complaint("C:\temp").startswith("holds the control character")
    assert control_complaint("C:/temp") == control_complaint(3) == ""


def test_tokens_are_put_together_as_they_were_written():
    assert written(tokenize("( 832,1344 )")[:-1]) == "( 832,1344 )"
    assert bare("“a b” ") == "a b" and in_quotes('say "a"') == r'"say \"a\""'


@pytest.mark.parametrize(
    ("text", "kind", "error"),
    [
        ("1.5", "uint32", ValueError),
        ("0x10", "double", ValueError),
        ("-1", "whole", ValueError),
        ("nan", "double", OverflowError),
        ("1e300", "whole", OverflowError),
    ],
)
def test_numbers_of_another_type_are_told_from_those_out_of_range(text, kind, error):
    with pytest.raises(error):
        number_of(text, kind)
