"""Real processes, really ended: what they leave is what an undisturbed run leaves, bit for bit."""

import random
import signal

import pytest

from tests.e2e.kills import (
    different,
    disturbed,
    end_when,
    faster_commands,
    finish,
    logged,
    results,
    start,
    statuses,
    stored,
    undisturbed,
)

KILLS = 3
EPOCHS = 6


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """Every command by name, what `train` leaves, and how often its folder changes on the way."""
    root = tmp_path_factory.mktemp("resume")
    by_task = {command.name.split()[1]: command for command in faster_commands(root, EPOCHS)}
    return root, by_task, *undisturbed(by_task["train"], root / "train")


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(commands):
    root, by_task, expected, changes = commands
    moments = random.Random(11)
    drawn = [moments.randint(0, changes) for _ in range(KILLS)]
    assert disturbed(by_task["train"], root / "killed", drawn, signal.SIGKILL) == []
    assert different(results(root / "killed"), expected) == []


@pytest.mark.slow
def test_a_kill_during_validation_costs_no_step(commands):
    root, by_task, expected, _ = commands
    workdir = root / "killed_in_validation"
    flags = by_task["train"].flags(workdir)
    end_when(start(*flags), lambda: stored(workdir, 6) is not None, signal.SIGKILL)
    assert stored(workdir, 6)["due"]
    assert not (workdir / "eval" / "step-6.json").exists()
    assert "after step 6" in finish(start(*flags))
    assert (workdir / "eval" / "step-6.json").exists()
    assert different(results(workdir), expected) == []


@pytest.mark.slow
def test_sigterm_during_validation_ends_at_once_and_costs_no_step(commands):
    root, by_task, expected, _ = commands
    workdir = root / "terminated_in_validation"
    flags = by_task["train"].flags(workdir)
    process = start(*flags)
    output = end_when(process, lambda: stored(workdir, 6) is not None, signal.SIGTERM)
    assert process.returncode == 143, output
    assert "step 6 of 18 is saved, the same command goes on from there" in output
    assert "after step 6" in finish(start(*flags))
    assert different(results(workdir), expected) == []


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_where_it_is_and_the_run_goes_on_from_there(commands, number, code):
    root, by_task, expected, _ = commands
    workdir = root / f"signal{code}"
    flags = by_task["train"].flags(workdir)
    process = start(*flags)
    output = end_when(process, logged(workdir, 3), number)
    assert process.returncode == code, output
    last = statuses(workdir)[-1]
    assert last["status"] == "FAILURE"
    assert f"train was interrupted by {number.name}: step" in last["message"]
    assert "is saved, the same command goes on from there" in last["message"]
    assert not (workdir / "train.lock").exists()
    finish(start(*flags))
    assert different(results(workdir), expected) == []


@pytest.mark.slow
@pytest.mark.parametrize("task", ["train", "evaluate", "export", "inference", "dataset_convert"])
def test_sigterm_before_a_command_has_done_anything_gives_its_code(commands, task):
    root, by_task, *_ = commands
    out = root / f"early_{task}"
    process = start(*by_task[task].flags(out))
    output = end_when(process, lambda: (out / "status.json").exists(), signal.SIGTERM)
    assert process.returncode == 143, output
    assert "Traceback" not in output
    last = statuses(out)[-1]["message"]
    assert last == f"faster_rcnn {task} was interrupted by SIGTERM: the same command starts again."


@pytest.mark.slow
def test_a_second_run_in_the_folder_is_refused_and_leaves_the_first_alone(commands):
    root, by_task, expected, _ = commands
    workdir = root / "two"
    flags = by_task["train"].flags(workdir)
    first = start(*flags)
    status = workdir / "status.json"  # its first line is written when the lock is held
    while not (status.exists() and status.read_bytes().endswith(b"\n")) and first.poll() is None:
        pass
    first.send_signal(signal.SIGSTOP)
    before = len(statuses(workdir))
    output = finish(start(*flags), code=2)
    assert f"{workdir}: faster_rcnn train (process {first.pid} on " in output
    assert len(statuses(workdir)) == before
    first.send_signal(signal.SIGCONT)
    finish(first)
    assert different(results(workdir), expected) == []


@pytest.mark.slow
def test_the_reader_of_a_pipe_that_goes_away_ends_the_run_in_silence(commands):
    root, by_task, expected, _ = commands
    workdir = root / "piped"
    flags = by_task["train"].flags(workdir)
    process = start(*flags)
    while not logged(workdir, 3)() and process.poll() is None:
        pass
    process.stdout.close()
    assert process.wait(timeout=600) == 141
    assert "interrupted by SIGPIPE: step" in statuses(workdir)[-1]["message"]
    finish(start(*flags))
    assert different(results(workdir), expected) == []


@pytest.mark.slow
def test_resume_from_model_needs_the_bundle_alone(commands):
    root, by_task, expected, _ = commands
    source = root / "train" / "tiny.epoch2.tlt"
    text = (root / "spec.txt").read_text()
    resumed = root / "resume_from.txt"
    resumed.write_text(
        text.replace("num_epochs: ", f'resume_from_model: "{source}"\n  num_epochs: ')
    )
    flags = ["faster_rcnn", "train", "-e", resumed, "-d", root / "elsewhere", "--gpus", 1]
    output = finish(start(*flags))
    name = f"tiny.epoch{EPOCHS}.tlt"
    assert results(root / "elsewhere")[name] == expected[name]
    assert list((root / "elsewhere" / "checkpoints").iterdir())
    assert f"{root / 'elsewhere' / 'best.tlt'}: step " in output
