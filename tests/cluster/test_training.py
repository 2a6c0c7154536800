"""A training of two tasks on a real Slurm: started, killed, preempted; it leaves the same bytes."""

import os
import signal

import pytest

from tests.cluster.jobs import until
from tests.e2e import tiny
from tests.e2e.jobs import ends, start_job
from tests.e2e.kills import different, results, statuses

pytestmark = pytest.mark.cluster
EPOCHS = 30


@pytest.fixture(scope="module")
def run(cluster, tmp_path_factory):
    """(spec, folder of an undisturbed training by Slurm, its log)."""
    root = tmp_path_factory.mktemp("slurm")
    more = 'ema_decay: 0.9\n  lr_scaling: "none"\n  checkpoint_interval: 2'
    spec = tiny.write_tiny(root, epochs=EPOCHS, training=more)
    spec.write_text(spec.read_text().replace("during_training: 2", "during_training: 6"))
    log = root / "log.txt"
    cluster.wait(cluster.train(log, "normal", *train(spec, root / "whole")), log)
    return spec, root / "whole", log


def train(spec, workdir):
    return ["faster_rcnn", "train", "-e", spec, "-d", workdir]


def stored(workdir):
    """A question: has the run saved a step?"""
    return lambda: any(p.name.isdigit() for p in (workdir / "checkpoints").glob("*"))


def test_tasks_of_slurm_train_as_processes_started_by_hand_do(run, tmp_path):
    spec, whole, log = run
    assert log.read_text().count("effective batch 4 images") == 1
    for code, text in ends(start_job(2, *train(spec, tmp_path / "hand"))):
        assert code == 0, text
    assert different(results(tmp_path / "hand"), results(whole)) == []


def test_a_job_whose_task_is_killed_is_queued_again_and_leaves_the_same_bytes(
    cluster, run, tmp_path
):
    spec, whole, _ = run
    workdir, log = tmp_path / "killed", tmp_path / "log.txt"
    job = cluster.train(log, "normal", *train(spec, workdir))
    until(stored(workdir), 0.05)
    first, second = cluster.processes(job)
    os.kill(second, signal.SIGKILL)
    cluster.wait(job, log)
    assert cluster.shown(job, "Restarts") == "1"
    assert "process 1 on " in log.read_text()
    assert [line["status"] for line in statuses(workdir)].count("FAILURE") == 1
    assert different(results(workdir), results(whole)) == []


def test_a_job_that_is_preempted_saves_its_step_and_leaves_the_same_bytes(cluster, run, tmp_path):
    spec, whole, _ = run
    workdir, log = tmp_path / "preempted", tmp_path / "log.txt"
    job = cluster.train(log, "low", *train(spec, workdir))
    until(stored(workdir), 0.05)
    cluster.preempt()
    cluster.wait(job, log)
    assert int(cluster.shown(job, "Restarts")) >= 1
    assert "is saved, the same command goes on from there" in log.read_text()
    assert "interrupted by SIGTERM: step" in "".join(
        line.get("message", "") for line in statuses(workdir)
    )
    assert different(results(workdir), results(whole)) == []
