"""A Mask R-CNN run that is killed ends with the bytes of one that is not."""

import signal

import pytest

from tests.e2e.test_resume import finish, start, wait_for_step, without_run
from tests.e2e.tiny_mask import write_tiny

STEPS = 6
CHANGES = (
    ("num_steps_per_eval: 4", "num_steps_per_eval: 2\nlogging_frequency: 1\nema_decay: 0.9"),
    ("augment_input_data: true", "augment_input_data: true\n  scale_jitter_max: 1.5"),
)


def outcome(workdir):
    weights = without_run((workdir / f"model.step-{STEPS}.tlt").read_bytes())
    return {"metrics": (workdir / "metrics.jsonl").read_bytes(), "weights": weights}


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_bytes(tmp_path):
    spec = write_tiny(tmp_path, *CHANGES)
    finish(start(spec, tmp_path / "whole", "mask_rcnn"))
    process = start(spec, tmp_path / "killed", "mask_rcnn")
    wait_for_step(tmp_path / "killed", 4, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / f"model.step-{STEPS}.tlt").exists()
    assert "resuming" in finish(start(spec, tmp_path / "killed", "mask_rcnn"))
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
