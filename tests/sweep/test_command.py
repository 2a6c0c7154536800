"""`rcnn-jax sweep` on a real tiny training, stopped in the middle and gone on."""

import signal
import time

import pytest

from rcnn_jax.cli.main import main
from rcnn_jax.sweep.trial import read_trials
from tests.e2e.kills import finish, start
from tests.e2e.tiny import write_tiny

FILE = """from rcnn_jax.sweep import Float
SPEC = "spec.txt"
def trials():
    for weight in (1e-4, 1e-3):
        yield {"training_config.regularizer.weight": weight}
"""


@pytest.fixture
def sweep_file(tmp_path):
    spec = write_tiny(tmp_path, images=4)
    text = spec.read_text().replace("num_epochs: 2", "num_epochs: 1")
    spec.write_text(text.replace("period_during_training: 2", "period_during_training: 1"))
    path = tmp_path / "sweep_tiny.py"
    path.write_text(FILE)
    return path


@pytest.mark.long
def test_a_sweep_that_is_stopped_goes_on_with_the_same_command(sweep_file, tmp_path):
    root = tmp_path / "sweep"
    process = start("sweep", sweep_file, "-d", root)
    while process.poll() is None and not (root / "trials" / "0000" / "metrics.jsonl").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    finish(process, 143)
    assert {trial.state for trial in read_trials(root)} <= {"stopped", "done"}
    output = finish(start("sweep", sweep_file, "-d", root))
    trials = read_trials(root)
    assert [trial.state for trial in trials] == ["done", "done"]
    assert (root / "best.txt").exists()
    assert str(root / "sweep.html") in output


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["none.py"], "no such"),
        (["sweep_tiny.py", "--trials", "0"], "--trials 0"),
        (["sweep_tiny.py", "--minutes", "nan"], "--minutes nan"),
        (["sweep_tiny.py", "--sampler", "grid"], "lists its trials"),
        (["sweep_tiny.py", "--slurm", "a=b"], "--executor slurm"),
        (["sweep_tiny.py", "--executor", "slurm", "--slurm", "gpu"], "NAME=VALUE"),
    ],
)
def test_wrong_flags_are_one_message(sweep_file, tmp_path, capsys, monkeypatch, flags, words):
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *flags, "-d", "out"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
