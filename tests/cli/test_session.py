"""status.json, log file and the advice for an exhausted device."""

import io
import json
import re

import pytest

from rcnn_jax.cli.session import Session, is_out_of_memory, memory_advice
from rcnn_jax.errors import DataError, TrainingError, UsageError


def lines(folder):
    return [json.loads(line) for line in (folder / "status.json").read_text().splitlines()]


def test_a_command_that_ends_well_starts_and_succeeds(tmp_path):
    with Session("faster_rcnn train", status_folder=tmp_path / "new"):
        pass
    first, last = lines(tmp_path / "new")
    assert (first["status"], first["message"]) == ("STARTED", "Starting faster_rcnn train.")
    assert (last["status"], last["message"]) == (
        "SUCCESS",
        "faster_rcnn train finished successfully.",
    )
    assert list(first) == ["date", "time", "status", "verbosity", "message"]
    assert re.fullmatch(r"[1-9]\d?/[1-9]\d?/\d{4}", first["date"])
    assert re.fullmatch(r"\d{1,2}:\d{1,2}:\d{1,2}", first["time"])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DataError("a.png is torn"), "a.png is torn"),
        (KeyboardInterrupt(), "train was interrupted."),
        (ZeroDivisionError(), "ZeroDivisionError"),
    ],
)
def test_whatever_ends_a_command_is_a_failure_with_its_message(tmp_path, error, message):
    with pytest.raises(type(error)), Session("train", status_folder=tmp_path):
        raise error
    last = lines(tmp_path)[-1]
    assert (last["status"], last["verbosity"], last["message"]) == ("FAILURE", "ERROR", message)


@pytest.mark.parametrize("obstacle", ["file", "link", "below a file"])
def test_a_folder_that_takes_no_results_is_one_message(tmp_path, obstacle):
    folder = tmp_path / "out"
    if obstacle == "link":
        folder.symlink_to(folder)
    else:
        folder.write_text("")
        folder = folder / "deeper" if obstacle == "below a file" else folder
    with pytest.raises(UsageError, match=r"results cannot be written there: .*; name another"):
        Session("train", status_folder=folder, alone=True).__enter__()


def test_a_session_that_must_be_alone_leaves_no_line_beside_another(tmp_path):
    with Session("train", status_folder=tmp_path, alone=True) as first:
        assert first.lock is not None
        with pytest.raises(UsageError, match="is at work in this folder"):
            Session("train", status_folder=tmp_path, alone=True).__enter__()
        late = Session("train", status_folder=None, alone=True)
        with pytest.raises(UsageError, match="is at work in this folder"), late:
            late.keep_status_in(tmp_path)
    assert [line["status"] for line in lines(tmp_path)] == ["STARTED", "SUCCESS"]
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_epoch_lines_hold_numbers_as_text(tmp_path):
    with Session("train", status_folder=tmp_path) as session:
        session.status(
            "RUNNING", "x", kpi={"mAP": 0.5}, graphical={"loss": 1.25}, epoch=3, max_epoch=12
        )
    line = lines(tmp_path)[1]
    assert (line["epoch"], line["max_epoch"]) == (3, 12)
    assert (line["kpi"], line["graphical"]) == ({"mAP": "0.5"}, {"loss": "1.25"})


def test_without_a_folder_no_status_is_written_until_one_is_named(tmp_path):
    with Session("train", status_folder=None) as session:
        session.status("RUNNING", "nobody reads this")
        session.keep_status_in(tmp_path)
        session.keep_status_in(tmp_path / "other")
    assert [line["status"] for line in lines(tmp_path)] == ["STARTED", "SUCCESS"]
    assert not (tmp_path / "other").exists()


def test_the_log_file_is_appended_to_and_has_no_colours(tmp_path, capsys):
    path = tmp_path / "logs" / "run.log"
    for text in ("first", "second"):
        with Session("train", status_folder=None, log_file=path) as session:
            print(f"\x1b[31m{text}\x1b[0m")
            session.warn("careful")
    assert path.read_text() == "first\nwarning: careful\nsecond\nwarning: careful\n"
    assert "\x1b[31mfirst\x1b[0m" in capsys.readouterr().out


def test_the_log_file_says_why_a_command_failed(tmp_path):
    path = tmp_path / "run.log"
    with pytest.raises(DataError), Session("train", status_folder=None, log_file=path):
        raise DataError("a.png is torn")
    with pytest.raises(KeyError), Session("train", status_folder=None, log_file=path):
        raise KeyError("nose")
    text = path.read_text()
    assert text.startswith("a.png is torn\nTraceback")
    assert text.endswith("KeyError: 'nose'\n")


def test_a_log_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(UsageError, match="--log_file .*: cannot be written: Is a directory"):
        Session("train", status_folder=None, log_file=tmp_path).__enter__()


def test_track_passes_every_item_on_and_is_silent_when_quick(capsys):
    with Session("train", status_folder=None) as session:
        assert list(session.track(iter("abc"), 3, "evaluate")) == ["a", "b", "c"]
    assert capsys.readouterr().out == ""


def test_track_shows_a_bar_on_a_terminal():
    session = Session("train", status_folder=None)
    screen = io.StringIO()
    session.console = type(session.console)(file=screen, force_terminal=True, width=60)
    assert list(session.track(range(3), 3, "evaluate")) == [0, 1, 2]
    assert "evaluate" in screen.getvalue()


class XlaRuntimeError(RuntimeError):
    """Stands for the error of jaxlib, which is recognised by its name."""


def test_an_exhausted_device_gives_advice_in_the_order_of_the_documentation(tmp_path):
    with (
        pytest.raises(TrainingError) as error,
        Session("train", status_folder=tmp_path),
        memory_advice("mask_rcnn"),
    ):
        raise XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes")
    text = str(error.value)
    steps = [text.index(word) for word in ("image_size or", "n_workers", "offline")]
    assert steps == sorted(steps)
    assert text.startswith("the device is out of memory. What helps, in this order:\n  1. set a")
    assert lines(tmp_path)[-1]["status"] == "FAILURE"
    assert error.value.exit_code == 1


@pytest.mark.parametrize("kind", ["faster_rcnn", "mask_rcnn"])
def test_other_errors_pass_the_advice_unchanged(kind):
    with pytest.raises(XlaRuntimeError), memory_advice(kind):
        raise XlaRuntimeError("INVALID_ARGUMENT: shapes")
    assert not is_out_of_memory(RuntimeError("RESOURCE_EXHAUSTED"))
