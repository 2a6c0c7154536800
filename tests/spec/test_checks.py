"""Checks of single fields: type, range, presence; they yield (path, sentence) and raise nothing."""

from typing import Any

import pytest

from rcnn_jax.spec.build import build
from rcnn_jax.spec.checks import check_presence, check_ranges, check_types
from rcnn_jax.spec.schema import (
    AT_LEAST_ONE,
    UNIT,
    Choice,
    Field,
    LiteralShape,
    Message,
    boolean,
    count,
    real,
    reals,
    string,
)

SIDES = LiteralShape(bracket="(", item="int", length=2)
INNER = Message("Inner", "A block.", (count("size", 1, None, "Size.", required=True),))
TABLE = Message(
    "Outer",
    "One field of every kind.",
    (
        boolean("flag", 1, False, "A switch."),
        count("steps", 2, 5, "Steps.", allowed=AT_LEAST_ONE),
        real("rate", 3, 0.5, "Rate.", allowed=UNIT),
        reals("rates", 4, (0.5,), "Rates.", allowed=UNIT),
        string("name", 5, None, "Name.", allowed=Choice(("sgd", "adam")), oneof="which"),
        string("key", 6, None, "Key.", secret=True, allowed=Choice(("k",))),
        string("other", 7, None, "Other.", oneof="which"),
        Field(name="mode", number=8, kind="enum", doc="Mode.", values=("ON", "OFF"), default="ON"),
        Field(
            name="sides", number=9, kind="literal", doc="Sides.", shape=SIDES, default=(2, 3),
            allowed=AT_LEAST_ONE,
        ),
        Field(name="counts", number=10, kind="map", doc="Map.", entry="uint32", default={}),
        Field(name="inner", number=11, kind="message", doc="In.", message=INNER, optional=True),
        Field(name="list", number=12, kind="message", doc="In.", message=INNER, repeated=True),
    ),
)  # fmt: skip


def config(**values: Any) -> Any:
    made = build({}, TABLE)
    with made.unlocked(), made.ignore_type():
        for name, value in values.items():
            made[name] = value
    return made


def test_a_config_of_defaults_has_nothing_to_complain_of() -> None:
    made = config()
    assert [
        *check_types(made, TABLE),
        *check_ranges(made, TABLE),
        *check_presence(made, TABLE),
    ] == []


@pytest.mark.parametrize(
    ("values", "path", "sentence"),
    [
        ({"flag": 1}, "flag", "= 1 is not true or false"),
        ({"steps": True}, "steps", "= True is not a whole number from 0 on"),
        ({"steps": 2.5}, "steps", "= 2.5 is not a whole number from 0 on"),
        ({"steps": None}, "steps", "has no value"),
        ({"rate": "0.5"}, "rate", "= '0.5' is not a number"),
        ({"rates": 0.5}, "rates", "= 0.5 is not a tuple"),
        ({"rates": (0.5, "x")}, "rates[1]", "= 'x' is not a number"),
        ({"sides": (1, 2, 3)}, "sides", "= (1, 2, 3) is not a tuple of 2 x whole number"),
        ({"key": 7}, "key", "is not text in quotes"),
    ],
)
def test_a_value_of_a_wrong_type_is_named_and_a_secret_is_not_shown(
    values: dict[str, Any], path: str, sentence: str
) -> None:
    assert list(check_types(config(**values), TABLE)) == [(path, sentence)]


@pytest.mark.parametrize(
    ("values", "path", "sentence"),
    [
        ({"steps": 0}, "steps", "= 0 is not in [1, inf)"),
        ({"steps": -1}, "steps", "= -1 is not in [0, 4294967295]"),
        ({"rate": float("nan")}, "rate", "= nan is not a finite number"),
        ({"rates": (0.5, 1.5)}, "rates[1]", "= 1.5 is not in [0, 1]"),
        ({"name": "adm"}, "name", "= 'adm' is not one of 'sgd', 'adam'; did you mean 'adam'?"),
        ({"mode": "OF"}, "mode", "= 'OF' is not one of ON, OFF; did you mean 'OFF'?"),
        ({"sides": (0, 4)}, "sides", "= '(0, 4)': 0 is not in [1, inf)"),
        ({"other": "a\tb"}, "other", "= 'a\\tb' holds the control character"),
        ({"key": "secret"}, "key", "is not 'k'"),
    ],
)
def test_a_value_out_of_range_is_named_and_a_secret_is_not_shown(
    values: dict[str, Any], path: str, sentence: str
) -> None:
    ((named, text),) = check_ranges(config(**values), TABLE)
    assert named == path and text.startswith(sentence)
    assert "secret" not in text


def test_fields_that_exclude_each_other_are_named_together() -> None:
    made = config(name="sgd", other="x")
    assert list(check_presence(made, TABLE)) == [("other", "and name exclude each other")]


def test_what_is_required_is_required_inside_blocks_that_are_there() -> None:
    assert list(check_presence(build({"inner": {}}, TABLE), TABLE)) == [
        ("inner.size", "must be given")
    ]
    made = build({"list": [{"size": 3}, {}]}, TABLE)
    assert list(check_presence(made, TABLE)) == [("list[1].size", "must be given")]
