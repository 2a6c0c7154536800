"""Reporters: a console that obeys no text, silence, and warnings of the package passed on."""

import io
import logging

import pytest

from rcnn_jax.reporter import SILENT, SafeConsole, log_to


def printed(*texts, **options):
    screen = io.StringIO()
    console = SafeConsole(file=screen, width=40, **options)
    for text in texts:
        console.print(text)
    return screen.getvalue()


def test_names_in_brackets_and_colons_are_printed_as_they_are():
    assert printed("[red]car[/red] :car:") == "[red]car[/red] :car:\n"


def test_control_characters_are_shown():
    assert "\x1b" not in printed("a\x1b[2Jb", force_terminal=True, no_color=True)


def test_a_long_path_is_not_broken_over_lines():
    assert printed("x" * 100) == "x" * 100 + "\n"


def test_silence_takes_everything_and_passes_items_on(capsys):
    SILENT.note("a")
    SILENT.warn("b")
    SILENT.status("RUNNING", "c", epoch=1)
    SILENT.console.print("d")
    assert list(SILENT.track([1, 2], 2, "e")) == [1, 2]
    assert capsys.readouterr() == ("", "")


class Listener:
    """A reporter that keeps its warnings."""

    def __init__(self):
        self.lines = []

    def warn(self, text):
        self.lines.append(text)


def test_warnings_of_the_package_reach_the_reporter_and_nobody_else(caplog):
    listener, logger = Listener(), logging.getLogger("rcnn_jax.data")
    with log_to(listener):
        logger.warning("%d images", 3)
        logger.info("quiet")
        assert caplog.records == []
    logger.warning("later")
    assert listener.lines == ["3 images"] and [r.message for r in caplog.records] == ["later"]


def test_the_logger_is_as_before_after_an_error():
    logger = logging.getLogger("rcnn_jax")
    before = (logger.propagate, list(logger.handlers))
    with pytest.raises(ValueError), log_to(Listener()):
        raise ValueError
    assert (logger.propagate, list(logger.handlers)) == before
