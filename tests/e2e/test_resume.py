"""Real processes, really killed: what they leave is what an undisturbed run leaves, bit for bit."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.tiny import write_tiny

KILLS = 3
EPOCHS = 6
COMMAND = "import sys; from rcnn_jax.cli.main import main; sys.exit(main(sys.argv[1:]))"


def start(spec: Path, workdir: Path, kind: str = "faster_rcnn") -> subprocess.Popen:
    flags = [kind, "train", "-e", str(spec), "-d", str(workdir), "--gpus", "1"]
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    return output


def wait_for_step(workdir: Path, step: int, process: subprocess.Popen) -> None:
    """Returns when the run has logged the step, or is over."""
    metrics = workdir / "metrics.jsonl"
    while process.poll() is None:
        if metrics.exists() and f'"step": {step},' in metrics.read_text():
            return
        time.sleep(0.02)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("resume")
    spec = write_tiny(root, epochs=EPOCHS, training="ema_decay: 0.9")
    finish(start(spec, root / "whole"))
    return root, spec


def outcome(workdir: Path) -> dict[str, bytes]:
    """The files that must not depend on interruptions."""
    bundle = (workdir / f"tiny.epoch{EPOCHS}.tlt").read_bytes()
    return {"metrics": (workdir / "metrics.jsonl").read_bytes(), "weights": without_run(bundle)}


def without_run(bundle: bytes) -> bytes:
    """The arrays of an unsealed bundle; the header names the run, which differs."""
    header = int.from_bytes(bundle[16:24], "little")
    return bundle[24 + header :]


def killed(spec: Path, workdir: Path, step: int, delay: float) -> str:
    """What a run prints until it is killed; a run on a quick machine may be over before the shot."""
    process = start(spec, workdir)
    wait_for_step(workdir, step, process)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    return process.communicate(timeout=300)[0]


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(undisturbed):
    root, spec = undisturbed
    workdir = root / "killed"
    moments = random.Random(11)
    epochs = sorted(moments.sample(range(1, EPOCHS - 1), KILLS))
    printed = [killed(spec, workdir, 3 * epoch, moments.uniform(0.0, 0.2)) for epoch in epochs]
    printed.append(finish(start(spec, workdir)))
    assert any("resuming" in output for output in printed)
    assert outcome(workdir) == outcome(root / "whole")


def stored(workdir: Path, step: int) -> dict | None:
    """What the run remembers in the checkpoint of a step; None as long as there is none."""
    manifest = workdir / "checkpoints" / str(step) / "manifest" / "metadata"
    try:
        return json.loads(manifest.read_text())["run_state"]["run"]
    except FileNotFoundError:
        return None


@pytest.mark.slow
def test_a_kill_during_validation_costs_no_step(undisturbed):
    root, spec = undisturbed
    workdir = root / "killed_in_validation"
    process = start(spec, workdir)
    while stored(workdir, 6) is None and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=300)
    assert stored(workdir, 6)["due"]
    assert not (workdir / "eval" / "step-6.json").exists()
    assert "after step 6" in finish(start(spec, workdir))
    assert (workdir / "eval" / "step-6.json").exists()
    assert outcome(workdir) == outcome(root / "whole")


@pytest.mark.slow
def test_sigterm_saves_where_it_is_and_the_run_goes_on_from_there(undisturbed):
    root, spec = undisturbed
    workdir = root / "terminated"
    process = start(spec, workdir)
    wait_for_step(workdir, 3, process)
    process.send_signal(signal.SIGTERM)
    assert "SIGTERM: saved after step" in finish(process)
    statuses = [json.loads(line) for line in (workdir / "status.json").read_text().splitlines()]
    assert statuses[-1]["status"] in ("SUCCESS", "FAILURE")
    finish(start(spec, workdir))
    assert outcome(workdir) == outcome(root / "whole")


@pytest.mark.slow
def test_resume_from_model_needs_the_bundle_alone(undisturbed):
    root, spec = undisturbed
    source = root / "whole" / "tiny.epoch2.tlt"
    resumed = spec.with_name("resume_from.txt")
    text = spec.read_text()
    line = f'resume_from_model: "{source}"\n  num_epochs: '
    resumed.write_text(text.replace("num_epochs: ", line))
    finish(start(resumed, root / "elsewhere"))
    weights = (root / "elsewhere" / f"tiny.epoch{EPOCHS}.tlt").read_bytes()
    assert without_run(weights) == outcome(root / "whole")["weights"]
    assert list((root / "elsewhere" / "checkpoints").iterdir())
