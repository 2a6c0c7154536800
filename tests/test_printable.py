"""Names of others are shown, not obeyed."""

import io
import os

import pytest
from rich.table import Table

from rcnn_jax.errors import DataError
from rcnn_jax.printable import printable, reason, shown
from rcnn_jax.reporter import SafeConsole


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain Ünïcode 日本 🚗 name.png", "plain Ünïcode 日本 🚗 name.png"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("a\rb\x7f\x9b31m", "a\\rb\\x7f\\x9b31m"),
        ("txt.\u202egnp", "txt.\\u202egnp"),
        (os.fsdecode(b"caf\xe9.png"), "caf\\xe9.png"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
    ],
)
def test_control_characters_are_shown_as_codes(text, shown):
    assert printable(text) == shown
    shown.encode("utf-8")


def test_no_error_has_raw_control_characters():
    error = DataError("\x1b[2J.png: is empty;\nremove it")
    assert str(error) == "\\x1b[2J.png: is empty;\nremove it"


def test_the_words_of_a_library_are_one_line_that_ends():
    assert reason(ValueError("bad\n  header")) == "bad header"
    assert len(reason(ValueError("é" * 70_000))) == 303


def test_a_name_is_one_line():
    assert shown("a\nerror: b\t.png") == "a\\nerror: b\\t.png"


def test_a_console_prints_names_as_they_are_but_for_control_characters():
    stream = io.StringIO()
    console = SafeConsole(file=stream, width=200)
    console.print("[red]x[/red] :car: [/] \x1b[31m")
    table = Table()
    table.add_column("class")
    table.add_row("[/] \x1b]0;title\x07")
    console.print(table)
    text = stream.getvalue()
    assert text.startswith("[red]x[/red] :car: [/] \\x1b[31m")
    assert "[/] \\x1b]0;title\\x07" in text and "\x1b" not in text
