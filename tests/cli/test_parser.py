"""The parser: forgiving spelling, exact flags, messages that name the cause."""

import pytest

from rcnn_jax.cli.parser import Parser
from rcnn_jax.errors import UsageError


@pytest.fixture
def parser():
    """`tool` with two commands of a few flags; `make` is filled when it is asked for."""
    tool = Parser("tool")
    commands = tool.add_subparsers(metavar="command", required=True)

    def fill(made):
        made.add_argument("-m", "--model_path", "--model", required=True)
        made.add_argument("-k", "--key")
        made.add_argument("--gpu_index", type=int, nargs="+")
        made.add_argument("-v", "--verbose", action="store_true")
        made.add_argument("--batch_size", type=int)

    commands.add_parser("make_all", description="make", fill=fill)
    test = commands.add_parser("test", description="test")
    test.add_argument("--images", nargs="*")
    return tool


def message(parser, *words):
    with pytest.raises(UsageError) as error:
        parser.parse_args(words)
    return str(error.value).splitlines()[0]


@pytest.mark.parametrize(
    "words",
    [
        ["make_all", "-m", "a"],
        ["make-all", "--model-path", "a"],
        ["make_all", "--model=a"],
        ["-m", "a", "make_all"],
        ["--model_path", "a", "make_all"],
        ["-k", "", "make_all", "-m", "a"],
        ["make_all", "--key=", "-m", "a", ""],
    ],
)
def test_one_command_line_may_be_written_in_many_ways(parser, words):
    args = parser.parse_args(words)
    assert (args.model_path, args.key, args.verbose) == ("a", None, False)


def test_a_list_of_values_ends_where_the_command_begins(parser):
    args = parser.parse_args(["--gpu_index", "0", "1", "make_all", "-m", "a", "-v"])
    assert args.gpu_index == [0, 1] and args.verbose


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["make_all", "--modle_path", "a"], "there is no flag --modle_path; did you mean --model_path?"),
        (["make_all", "--mod", "a"], "there is no flag --mod; did you mean --model_path or --model?"),
        (["make_all", "-m", "a", "--images", "b"], "there is no flag --images here; it belongs to test"),
        (["make_all", "-m", "a", "b.png"], "'b.png' is one word too many"),
        (["make_all", "-m", "a", "--batch_size", "x"], "argument --batch_size: invalid int value: 'x'"),
        (["make_all"], "the following arguments are required: -m/--model_path/--model"),
        (["mak_all"], "unknown command 'mak_all'; did you mean make_all? there are make_all, test"),
        (["-m", "a"], "command is missing; there are make_all, test"),
        (["--modle", "a", "make_all"], "there is no flag --modle; did you mean --model"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_the_nearest_that_there_is(parser, words, text):
    assert text in message(parser, *words).replace("?;", "?")


def test_what_follows_a_flag_is_its_value_and_no_message_repeats_it(parser):
    text = message(parser, "make_all", "-k", "-secret", "-m", "a")
    assert "secret" not in text and "-k" in text


def test_numbers_and_words_with_blanks_are_no_flags(parser):
    args = parser.parse_args(["test", "--images", "a b", "-"])
    assert args.images == ["a b", "-"]
    assert parser.parse_args(["make_all", "-m", "a", "--batch_size", "-3"]).batch_size == -3


def test_a_command_is_filled_when_it_is_asked_for_and_once():
    filled = []
    tool = Parser("tool")
    commands = tool.add_subparsers(metavar="command")
    commands.add_parser("one", fill=lambda made: filled.append("one"))
    commands.add_parser("two", fill=lambda made: filled.append("two"))
    assert filled == []
    tool.parse_args(["one"])
    tool.parse_args(["one"])
    assert filled == ["one"]
