"""Python literals in strings: parsed, checked, written back; nothing is ever evaluated."""

import pytest

from rcnn_jax.spec.schema import LiteralShape
from rcnn_jax.spec.text.literals import fits, read_literal, write_literal

SIZE = LiteralShape("(", "int", length=2)
STEPS = LiteralShape("[", "int")
RATIOS = LiteralShape("[", "float", inner=2)


@pytest.mark.parametrize(
    ("text", "shape", "value"),
    [
        ("(832, 1344)", SIZE, (832, 1344)),
        (" [832,1344] ", SIZE, (832, 1344)),
        ("[]", STEPS, ()),
        ("", STEPS, ()),
        ("0,1", STEPS, (0, 1)),
        ("[(1, 1.0), (1.4, 0.7)]", RATIOS, ((1.0, 1.0), (1.4, 0.7))),
        ("[-1]", STEPS, (-1,)),
    ],
)
def test_literals_are_read(text: str, shape: LiteralShape, value: tuple) -> None:
    assert read_literal(text, shape) == value
    assert read_literal(write_literal(value, shape), shape) == value


def test_numbers_become_the_type_of_the_shape() -> None:
    ((first, _),) = read_literal("[(1, 2)]", RATIOS)
    assert isinstance(first, float)


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ("(832, 1344", SIZE, "'(' was never closed at character 1"),
        ("(832, )", SIZE, "it has 1 items"),
        ("832", SIZE, "is not a tuple of 2 x whole number"),
        ("(832, 1.5)", SIZE, "1.5 at character 7 is not a whole number"),
        ("(832, True)", SIZE, "True at character 7 is not a whole number"),
        ("[1, open('x')]", STEPS, "no number at character 5"),
        ("[(1, 2, 3)]", RATIOS, "3 numbers in the tuple at character 2"),
        ("[1if]", STEPS, "is not a list of whole number"),
    ],
)
def test_errors_name_the_position(text: str, shape: LiteralShape, message: str) -> None:
    with pytest.raises(ValueError) as error:
        read_literal(text, shape)
    assert message in str(error.value)


def test_one_item_is_written_as_a_tuple() -> None:
    assert write_literal((1,), LiteralShape("(", "int")) == "(1,)"


def test_values_are_compared_with_the_shape() -> None:
    assert fits((1, 2), SIZE)
    assert fits([1, 2], SIZE)
    assert not fits((1,), SIZE)
    assert not fits((1, 2.0), SIZE)
    assert not fits("(1, 2)", SIZE)
    assert not fits(((1.0,),), RATIOS)
