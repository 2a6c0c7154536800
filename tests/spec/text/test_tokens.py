"""Tokens of a spec: kinds, positions, comments and escapes."""

import pytest

from rcnn_jax.spec.text.tokens import comments, tokenize, top_level_names, unquote
from tests.spec.samples import values_of


def test_tokens_know_their_line_and_column() -> None:
    tokens = tokenize("a: 1 # one\n  b { c: 'x y' }\r\n\rd")
    positions = [(token.text, token.line, token.column) for token in tokens]
    assert positions == [
        ("a", 1, 1),
        (":", 1, 2),
        ("1", 1, 4),
        ("b", 2, 3),
        ("{", 2, 5),
        ("c", 2, 7),
        (":", 2, 8),
        ("'x y'", 2, 10),
        ("}", 2, 16),
        ("d", 4, 1),
        ("", 4, 2),
    ]


def test_a_comment_mark_inside_a_string_is_no_comment() -> None:
    text = "enc_key: '#1' # two"
    assert [text[start:end] for start, end in comments(text)] == ["# two"]


def test_escapes_are_read() -> None:
    assert unquote(r"'a\n\'\\\x41\u00e9'") == "a\n'\\Aé"


@pytest.mark.parametrize("text", [r"'C:\data'", r"'\xff'"])
def test_a_wrong_escape_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"has (a backslash|escapes)"):
        unquote(text)


def test_what_nobody_can_see_separates_words_like_a_space() -> None:
    text = "\ufeffverbose:\u00a0true\u200b \u2028random_seed:\t3"
    assert values_of(text) == {"verbose": True, "random_seed": 3}


def test_top_level_names_are_found_without_a_table() -> None:
    tokens = tokenize("a: b\nc { d: 1 }\ne: [f, g] } h <i: 1>, k: 1")
    assert top_level_names(tokens) == {"a", "c", "e", "h", "k"}
