"""Commands, exit codes and messages; the heavy functions below are replaced by recorders."""

import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

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


def test_letters_that_a_terminal_lacks_are_escaped(tmp_path):
    spec = tmp_path / "kühe.txt"
    spec.write_text((Path(__file__).parents[2] / "configs/faster_rcnn/tiny.txt").read_text())
    code = "import sys; from rcnn_jax.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "spec", "check", str(spec)],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "k\\xfche.txt" in done.stdout


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_streams_may_be_closed_from_the_beginning(closed, tmp_path):
    spec = Path(__file__).parents[2] / "configs/faster_rcnn/tiny.txt"
    code = f"import sys; from rcnn_jax.cli.main import main; sys.exit(main(['spec', 'check', '{spec}']))"
    log = tmp_path / "log"
    command = f'exec "{sys.executable}" -c "{code}" >"{log}" 2>&1 {closed}'
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 0
    assert "Traceback" not in log.read_text()


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


@pytest.fixture
def train(tmp_path, monkeypatch):
    """A spec that is there, and the argv that would train it; what trains is replaced."""
    spec = tmp_path / "spec.txt"
    spec.write_text("")
    seen = []
    monkeypatch.setattr(train_command, "run", lambda args, kind: seen.append((args, kind)) or 0)
    return ["train", "-e", str(spec), "-d", str(tmp_path / "run")], seen


@pytest.mark.parametrize(
    "before",
    [
        ["--gpus", "2"],
        ["--gpus=2"],
        ["-k", "train", "--gpus", "2"],
        ["--gpu-index", "1", "0", "--gpus", "2"],
        ["--fresh", "-ktrain", "--gpus", "2"],
    ],
)
def test_flags_may_come_before_the_task(before, train):
    (task, *flags), seen = train
    assert cli.mask_rcnn([*before, task, *flags]) == 0
    assert cli.main([*before, "mask_rcnn", task, *flags]) == 0
    assert [(args.gpus, kind) for args, kind in seen] == [(2, "mask_rcnn")] * 2


def test_an_unknown_flag_before_the_task_is_named(train, capsys):
    (task, *flags), seen = train
    assert cli.faster_rcnn(["--fresch", task, *flags]) == 2
    assert capsys.readouterr().err.startswith(
        "error: faster_rcnn: there is no flag --fresch; did you mean --fresh?\n"
    )
    assert seen == []


@pytest.mark.parametrize(
    "words",
    ["tao", "tlt", "model", "deploy", "tao model", "tao deploy"],
)
def test_the_words_of_the_launchers_are_accepted(words, train):
    argv, seen = train
    assert cli.main([*words.split(), "faster_rcnn", *argv]) == 0
    assert cli.main([*words.split(), "mask-rcnn", *argv], program="tao") == 0
    assert [kind for _, kind in seen] == ["faster_rcnn", "mask_rcnn"]


@pytest.mark.parametrize("word", ["converter", "tao-converter", "tlt-converter"])
def test_the_converter_is_reached_through_the_launcher(word, tmp_path, capsys):
    assert cli.main(["tao", word, str(tmp_path / "a.etlt"), "-k", "key"], program="tao") == 2
    assert f"MODEL {tmp_path}/a.etlt: expected a file, found nothing" in capsys.readouterr().err


def test_dashes_and_underscores_are_one_in_tasks_and_flags(tmp_path, train, capsys):
    (_, *flags), seen = train
    assert cli.main(["faster-rcnn", "train", "--experiment-spec-file", *flags[1:]]) == 0
    assert len(seen) == 1
    assert cli.mask_rcnn(["dataset-convert", "--image-dir", "gone"]) == 2
    assert "the following arguments are required: -a/--annotations_file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (
            ["train", "--modle_dir", "x"],
            "mask_rcnn train: there is no flag --modle_dir; did you mean --model_dir?",
        ),
        (["train", "--fre"], "there is no flag --fre; did you mean --fresh?"),
        (
            ["train", "--num_shards", "4"],
            "no flag --num_shards here; it belongs to dataset_convert",
        ),
        (["inference", "-i", "a.png", "b.png"], "'b.png' is one word too many; a pattern such as"),
        (["train", "-fresh"], "there is no flag -fresh; did you mean --fresh?"),
        (["train", "--image_dir", "x"], "it belongs to dataset_convert, evaluate, inference\n"),
        (["--gpus", "2"], "mask_rcnn: TASK is missing; there are dataset_convert, train"),
        (["prune", "-o", "a.tlt"], "required: -m"),
        (["prun"], "unknown command 'prun'; did you mean prune?; there are dataset_convert"),
        (["trian"], "unknown command 'trian'; did you mean train?"),
    ],
)
def test_what_is_unknown_is_named_with_the_nearest(argv, expected, tmp_path, capsys):
    spec = tmp_path / "spec.txt"
    spec.write_text("")
    required = ["-e", str(spec), "-m", "a"] if argv[0] == "inference" else ["-e", str(spec)]
    assert cli.mask_rcnn([*argv, *(required if argv[0] in ("train", "inference") else [])]) == 2
    message = capsys.readouterr().err
    assert expected in message
    assert f"mask_rcnn{' ' + argv[0] if argv[0] in cli.TASKS else ''} --help shows" in message


def test_every_program_of_the_package_is_a_function_that_is_there():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    scripts = tomllib.loads(text)["project"]["scripts"]
    assert {"rcnn-jax", "tao", "tlt", "faster_rcnn", "mask_rcnn", "tao-converter"} <= set(scripts)
    for target in scripts.values():
        module, _, name = target.partition(":")
        assert callable(getattr(importlib.import_module(module), name)), target


def test_a_fresh_environment_has_what_the_tests_of_the_extras_need():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    extras = project["optional-dependencies"]
    names = set()
    pending = ["dev"]
    while pending:
        for line in extras[pending.pop()]:
            requirement = Requirement(line)
            names.add(requirement.name)
            # An extra may name further ones of the package itself.
            pending += requirement.extras if requirement.name == project["name"] else []
    assert {"cmaes", "openvino", "optuna", "similari-trackers-rs", "submitit"} <= names


def test_a_task_without_its_network_says_where_it_belongs(capsys):
    assert cli.main(["train", "-e", "a"]) == 2
    assert (
        "'train' is a task of a network: rcnn-jax faster_rcnn train or rcnn-jax mask_rcnn train"
        in capsys.readouterr().err
    )


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
def test_known_ends_are_one_line_and_a_code(error, code, message, train, monkeypatch, capsys):
    def fail(args, kind):
        raise error

    monkeypatch.setattr(train_command, "run", fail)
    assert cli.main(["faster_rcnn", *train[0]]) == code
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device", "out/a.png"), "out/a.png: No space left on device"),
        (PermissionError(13, "Permission denied", "/root"), "/root: Permission denied"),
        (OSError(5, "Input/output error"), "Input/output error"),
    ],
)
def test_a_machine_that_refuses_a_file_is_no_bug(error, message, train, monkeypatch, capsys):
    def fail(args, kind):
        raise error

    monkeypatch.setattr(train_command, "run", fail)
    assert cli.main(["faster_rcnn", *train[0]]) == 2
    text = capsys.readouterr().err
    assert text.startswith(f"error: {message} (E")
    assert len(text.splitlines()) == 1


def test_our_own_fault_ends_with_a_traceback_and_code_1(train, monkeypatch, capsys):
    def fail(args, kind):
        raise ZeroDivisionError("nobody thought of this")

    monkeypatch.setattr(train_command, "run", fail)
    assert cli.faster_rcnn(train[0]) == 1
    text = capsys.readouterr().err
    assert text.startswith("Traceback")
    assert "nobody thought of this" in text
    assert text.splitlines()[-1].startswith("error: this is a bug in rcnn-jax 0.1.0")


def test_a_success_is_0_and_the_command_learns_its_detector(train):
    argv, seen = train
    assert cli.main(["mask_rcnn", *argv]) == 0
    assert cli.faster_rcnn(argv) == 0
    assert [kind for _, kind in seen] == ["mask_rcnn", "faster_rcnn"]


def test_the_word_error_is_red_only_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert cli.main(["yolo"]) == 2
    assert capsys.readouterr().err.startswith("\x1b[31merror:\x1b[0m ")
