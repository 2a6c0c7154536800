"""`python -m rcnn_jax.main` from end to end: what the command line does, from a config in Python."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.tiny import write_tiny

ROOT = Path(__file__).parents[2]
KEY = "a-key-of-the-test"


def test_a_config_is_trained_exported_and_used_with_the_flags_of_the_command_line(tmp_path):
    spec = write_tiny(tmp_path)
    out = tmp_path / "out"

    def run(mode, *flags):
        argv = [f"--config={ROOT}/configs/spec.py:{spec}", f"--workdir={out}", f"--mode={mode}"]
        return subprocess.run(
            [sys.executable, "-m", "rcnn_jax.main", *argv, *flags, "-k", KEY],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    steps = (
        ("train", "--config.training_config.num_epochs=1", "--use_amp", "--gpus", "1", "--slim"),
        ("evaluate", "--log_file", str(out / "log.txt")),
        ("export", "--static-batch-size", "2", "--contract=plain"),
        ("inference", "-m", str(out / "best.etlt"), "-i", f"{tmp_path}/data/images/000000.png"),
    )
    for mode, *flags in steps:
        done = run(mode, *flags)
        assert done.returncode == 0, done.stderr
    assert (out / "tiny.epoch1.tlt").exists() and not (tmp_path / "best.etlt").exists()
    assert [path.name for path in (out / "labels").iterdir()] == ["000000.txt"]
    assert "mAP" in (out / "log.txt").read_text()
    ends = [json.loads(line) for line in (out / "status.json").read_text().splitlines()]
    assert [line["status"] for line in ends].count("SUCCESS") == len(steps)
    again = run("export")
    assert (again.returncode, "best.etlt: exists already" in again.stderr) == (2, True)
    for path in out.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
