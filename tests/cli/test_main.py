"""Commands, exit codes and messages; the heavy functions below are replaced by recorders."""

import subprocess
import sys

import pytest

from rcnn_jax.cli import main as cli
from rcnn_jax.cli import train as train_command
from rcnn_jax.errors import DataError, ExportError


def test_help_needs_neither_jax_nor_opencv():
    code = (
        "import sys; from rcnn_jax.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(sorted(m for m in ('jax', 'flax', 'cv2') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for word in ("faster_rcnn", "mask_rcnn", "spec", "decrypt"):
        assert word in done.stdout


@pytest.mark.parametrize("program", [cli.main, cli.faster_rcnn, cli.mask_rcnn])
def test_the_version_is_printed_by_every_program(program, capsys):
    with pytest.raises(SystemExit) as end:
        program(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == "rcnn-jax 0.1.0\n"


@pytest.mark.parametrize(
    ("program", "argv", "choices"),
    [
        (cli.main, ["yolo"], ["faster_rcnn", "mask_rcnn", "spec", "decrypt"]),
        (cli.main, ["mask_rcnn", "prun"], ["dataset_convert", "train", "evaluate", "inference"]),
        (cli.faster_rcnn, ["trian"], ["dataset_convert", "train", "evaluate", "inference"]),
    ],
)
def test_an_unknown_command_lists_the_choices(program, argv, choices, capsys):
    assert program(argv) == 2
    message = capsys.readouterr().err
    assert argv[-1] in message
    assert all(choice in message for choice in choices)
    assert "Traceback" not in message


def test_a_missing_flag_is_one_message_that_names_every_spelling(capsys):
    assert cli.faster_rcnn(["train"]) == 2
    assert capsys.readouterr().err == (
        "error: faster_rcnn train: the following arguments are required: "
        "-e/--experiment_spec_file/--experiment_spec\n"
        "faster_rcnn train --help shows what it accepts\n"
    )


def test_a_flag_before_the_command_is_explained(capsys):
    assert cli.mask_rcnn(["--gpus", "2", "train"]) == 2
    assert "--gpus comes before the command; flags follow it" in capsys.readouterr().err


def test_nothing_at_all_is_a_usage_error(capsys):
    assert cli.main([]) == 2
    assert "COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (DataError("a.png is torn"), 2, "error: a.png is torn\n"),
        (ExportError("graphs differ"), 1, "error: graphs differ\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
    ],
)
def test_known_ends_are_one_line_and_a_code(error, code, message, monkeypatch, capsys):
    def fail(args, kind):
        raise error

    monkeypatch.setattr(train_command, "run", fail)
    assert cli.main(["faster_rcnn", "train", "-e", "a"]) == code
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device", "out/a.png"), "out/a.png: No space left on device"),
        (PermissionError(13, "Permission denied", "/root"), "/root: Permission denied"),
        (OSError(5, "Input/output error"), "Input/output error"),
    ],
)
def test_a_machine_that_refuses_a_file_is_no_bug(error, message, monkeypatch, capsys):
    def fail(args, kind):
        raise error

    monkeypatch.setattr(train_command, "run", fail)
    assert cli.main(["faster_rcnn", "train", "-e", "a"]) == 2
    text = capsys.readouterr().err
    assert text.startswith(f"error: {message} (E")
    assert len(text.splitlines()) == 1


def test_our_own_fault_ends_with_a_traceback_and_code_1(monkeypatch, capsys):
    def fail(args, kind):
        raise ZeroDivisionError("nobody thought of this")

    monkeypatch.setattr(train_command, "run", fail)
    assert cli.faster_rcnn(["train", "-e", "a"]) == 1
    text = capsys.readouterr().err
    assert text.startswith("Traceback")
    assert "nobody thought of this" in text
    assert text.splitlines()[-1].startswith("error: this is a bug in rcnn-jax 0.1.0")


def test_a_success_is_0_and_the_command_learns_its_detector(monkeypatch):
    seen = []
    monkeypatch.setattr(train_command, "run", lambda args, kind: seen.append(kind) or 0)
    assert cli.main(["mask_rcnn", "train", "-e", "a"]) == 0
    assert cli.faster_rcnn(["train", "-e", "a"]) == 0
    assert seen == ["mask_rcnn", "faster_rcnn"]


def test_the_word_error_is_red_only_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert cli.main(["yolo"]) == 2
    assert capsys.readouterr().err.startswith("\x1b[31merror:\x1b[0m ")
