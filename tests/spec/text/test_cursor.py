"""The cursor over tokens: looking ahead, taking, skipping, and the end of errors."""

import pytest

from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.schema import Field, Message, count
from rcnn_jax.spec.text.cursor import MAX_PROBLEMS, Block, Cursor, TooManyError
from rcnn_jax.spec.text.secrets import hide
from rcnn_jax.spec.text.tokens import tokenize

TABLE = Message("T", "A table.", (count("steps", 1, None, "Steps.", aliases=("num_steps",)),))


def cursor(text, table=TABLE):
    made = Cursor(hide(tokenize(text)))
    made.blocks.append(Block("", table))
    return made


def texts(made):
    taken = []
    while made.here.kind != "end":
        taken.append(made.take().text)
    return taken


def test_tokens_are_taken_one_by_one_and_the_end_stays():
    made = cursor("steps: 3")
    assert made.here.text == "steps" and made.next.text == ":"
    assert texts(made) == ["steps", ":", "3"]
    assert made.take().kind == "end" and made.take().kind == "end"
    assert made.last.text == "3" and made.next.kind == "end"


def test_only_marks_that_are_asked_for_are_skipped():
    made = cursor("{ } x")
    assert made.skip("<", "{") and not made.skip("<")
    assert made.skip("}") and not made.skip("x"), "x is a name and no mark"


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("steps: 3", True),
        ("other: 3", True),  # unknown, but written as a field
        ("other { }", True),
        ("steps 3", True),  # the colon was forgotten, the name is known
        ("num_steps 3", True),
        ("other 3", False),
        ("other\n: 3", False),
        ("3: 4", False),
        ('\n"steps": 3', True),  # as in JSON, in a line of its own
        ("{", False),
    ],
)
def test_the_begin_of_a_field_is_known_by_its_mark_or_its_name(text, begins):
    made = cursor("x\n" + text)
    made.take()
    assert made.begins_entry() is begins


def test_the_entries_of_a_map_are_key_and_value():
    row = Field(name="classes", number=1, kind="map", doc="A map.")
    block = Block("classes.", row=row)
    assert block.knows("key") and block.knows("value") and not block.knows("steps")
    assert (block.name, block.location) == ("the block classes", "in classes")
    assert (Block("").name, Block("").location) == ("the top level", "at the top level")


def test_a_block_is_skipped_with_what_is_in_it():
    made = cursor("{ a [ 1 ] b < > } rest")
    made.skip_brackets()
    assert texts(made) == ["rest"] and made.problems == []


def test_a_block_that_is_never_closed_is_named_by_the_line_that_opens_it():
    made = cursor("\n\n{ a: 3")
    made.skip_brackets()
    (problem,) = made.problems
    assert problem.sentence == "the '{' in line 3 is not closed"
    assert problem.position == (3, 1)


def test_comments_of_other_languages_are_reported_once_and_left_out():
    made = cursor("// one\nsteps: 3 /* two */\n")
    assert texts(made) == ["steps", ":", "3"]
    (problem,) = made.problems
    assert problem.sentence == "comments begin with #, not with //"


def test_slashes_within_a_word_are_no_comment():
    assert cursor("path: s3://bucket").problems == []


def test_there_is_an_end_to_errors_and_to_warnings():
    made = cursor("steps: 3")
    for _ in range(MAX_PROBLEMS - 1):
        made.complain(made.here, "is wrong")
    with pytest.raises(TooManyError):
        made.complain(made.here, "is wrong")
    assert made.problems[-1].sentence == f"only the first {MAX_PROBLEMS} errors are shown"
    assert sorted(made.problems, key=lambda p: p.position)[-1] is made.problems[-1]
    for _ in range(2 * MAX_PROBLEMS):
        made.warn(made.here, "is odd")
    assert len(made.warnings) == MAX_PROBLEMS


def test_keys_are_hidden_from_the_tokens_and_kept_as_originals():
    made = cursor('enc_key: "s3cret"', TABLES["faster_rcnn"])
    assert "s3cret" not in "".join(texts(made))
    assert [token.text for token in made.originals.values()] == ['"s3cret"']
