"""A sweep on a real Slurm: one trial's job is killed, all are preempted, and results stay the same."""

import subprocess

import pytest

from rcnn_jax.sweep.trial import LOG, RECORD, folder_of, read_trials
from tests.cluster.jobs import LONGEST, RCNN_JAX, until
from tests.e2e import tiny
from tests.e2e.kills import different, results

pytestmark = pytest.mark.cluster
OWN = (LOG, RECORD)
"""Files of a trial that hold times and ids of jobs."""


def at_work(root):
    return [trial for trial in read_trials(root) if trial.state == "running"]


def has_stored(root, number):
    steps = (folder_of(root, number) / "checkpoints").glob("*")
    return any(path.name.isdigit() for path in steps)


def test_trials_of_a_sweep_are_an_array_and_survive_kills_and_preemption(cluster, tmp_path):
    tiny.write_tiny(tmp_path, epochs=16, training="checkpoint_interval: 1")
    file, root = tmp_path / "sweep_x.py", tmp_path / "sweep"
    # The first two are disturbed; the other two are the same trainings in peace.
    file.write_text(
        'SPEC = "spec.txt"\n'
        "def trials():\n"
        "    for weight in (1e-4, 1e-3, 1e-4, 1e-3):\n"
        '        yield {"training_config.regularizer.weight": weight}\n'
    )
    slurm = ["partition=low", "cpus_per_task=4", "timeout_min=30"]
    words = [*RCNN_JAX, "sweep", file, "-d", root, "--executor", "slurm", "--workers", "2"]
    process = subprocess.Popen(
        [*map(str, words), "--slurm", *slurm],
        env=cluster.variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        until(lambda: process.poll() is not None or len(at_work(root)) == 2)
        jobs = {trial.number: trial.job for trial in at_work(root)}
        assert [job.partition("_")[2] for job in jobs.values()] == ["0", "1"]
        until(lambda: process.poll() is not None or has_stored(root, 0), 0.05)
        # As a machine that fails: no process of the job lives to write an exit code.
        cluster.run("scancel", "--signal=KILL", jobs[0])
        until(lambda: process.poll() is not None or has_stored(root, 1), 0.05)
        cluster.preempt()
        output = process.communicate(timeout=LONGEST)[0]
    finally:
        process.kill()
    assert process.returncode == 0, output
    trials = read_trials(root)
    logs = "\n".join((folder_of(root, n) / LOG).read_text() for n in range(4))
    assert [trial.state for trial in trials] == ["done"] * 4, output + logs
    assert "trial 0: was interrupted and goes on" in output
    assert int(cluster.shown(jobs[1], "Restarts")) >= 1
    for disturbed, quiet in ((0, 2), (1, 3)):
        both = [
            {name: data for name, data in results(folder_of(root, n)).items() if name not in OWN}
            for n in (disturbed, quiet)
        ]
        assert different(*both) == []
        assert trials[disturbed].values["mAP"] == trials[quiet].values["mAP"]
    assert (root / "best.txt").exists()


def test_a_job_that_slurm_refuses_is_one_message(cluster, tmp_path):
    tiny.write_tiny(tmp_path)
    file = tmp_path / "sweep_x.py"
    file.write_text(
        'SPEC = "spec.txt"\ndef trials():\n    yield {"training_config.num_epochs": 1}\n'
    )
    words = ["sweep", file, "-d", tmp_path / "sweep", "--executor", "slurm"]
    done = cluster.run(*RCNN_JAX, *words, "--slurm", "partition=absent")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Slurm does not take the job: sbatch: error: " in done.stderr
    assert "invalid partition" in done.stderr
    assert "Traceback" not in done.stderr
    (trial,) = read_trials(tmp_path / "sweep")
    assert trial.state == "waiting"
