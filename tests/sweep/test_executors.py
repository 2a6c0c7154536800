"""Processes and jobs: exit codes, logs, stopping, and ends that nobody sees."""

import os
import subprocess
import sys
import time

import pytest

from rcnn_jax.errors import UsageError
from rcnn_jax.sweep.executors import Local, Slurm
from rcnn_jax.sweep.trial import LOG, LOST


def wait(executor, job, seconds=60):
    for _ in range(int(seconds / 0.05)):
        code = executor.poll(job)
        if code is not None:
            return code
        time.sleep(0.05)
    raise AssertionError("the job did not end")


def test_a_process_leaves_its_code_and_its_output(tmp_path):
    executor = Local()
    (job,) = executor.start([(tmp_path / "t", ["spec", "check", str(tmp_path / "none.txt")])])
    assert wait(executor, job) == 2
    assert "none.txt" in (tmp_path / "t" / LOG).read_text()
    assert executor.poll("4000000") == LOST


def test_a_stopped_process_ends_by_the_signal(tmp_path):
    executor = Local()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (job,) = executor.start([(tmp_path / "t", ["decrypt", str(fifo), "-o", str(tmp_path / "x")])])
    executor.stop(job)
    assert wait(executor, job) != 0
    executor.close()


def test_workers_share_the_cores(tmp_path):
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("needs two cores")
    executor = Local(workers=2)
    jobs = executor.start([(tmp_path / name, ["spec", "--help"]) for name in "ab"])
    used = [os.sched_getaffinity(int(job)) for job in jobs]
    assert used[0].isdisjoint(used[1])
    assert [wait(executor, job) for job in jobs] == [0, 0]


def test_processes_end_with_the_sweep_that_started_them(tmp_path):
    program = (
        "import os, sys, time\n"
        "from rcnn_jax.sweep import executors\n"
        "executors.PROGRAM = (sys.executable, '-c', 'import time; time.sleep(600)')\n"
        "(job,) = executors.Local().start([(__import__('pathlib').Path(sys.argv[1]), [])])\n"
        "print(job, flush=True)\ntime.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(200):
        if not _alive(child):
            return
        time.sleep(0.05)
    raise AssertionError("the process outlived its sweep")


def test_jobs_of_submitit_run_and_are_found_again(tmp_path):
    pytest.importorskip("submitit", reason="submitit (extra sweep) is not installed")
    executor = Slurm(tmp_path, 1, {"timeout_min": 5}, cluster="local")
    (job,) = executor.start([(tmp_path / "t", ["spec", "check", str(tmp_path / "none.txt")])])
    # another process of the same sweep knows the job by its id alone
    again = Slurm(tmp_path, 1, {"timeout_min": 5}, cluster="local")
    assert wait(executor, job) == 2
    assert wait(again, job) == 2
    assert "none.txt" in (tmp_path / "t" / LOG).read_text()


def test_parameters_that_submitit_does_not_know_are_named(tmp_path):
    pytest.importorskip("submitit", reason="submitit (extra sweep) is not installed")
    with pytest.raises(UsageError, match="--slurm: .*slurm_gpu"):
        Slurm(tmp_path, 1, {"slurm_gpu": 1}, cluster="local")


def test_a_machine_without_slurm_is_told(tmp_path, monkeypatch):
    pytest.importorskip("submitit", reason="submitit (extra sweep) is not installed")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="there is no sbatch on this machine"):
        Slurm(tmp_path, 1, {})


def test_a_job_is_lost_when_it_is_missing_in_the_queue_for_a_while(tmp_path, monkeypatch):
    """And not while Slurm does not answer, or when it answers again."""
    pytest.importorskip("submitit", reason="submitit (extra sweep) is not installed")
    squeue = tmp_path / "squeue"
    for name in ("sbatch", "srun"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)

    def answer(text, code=0):
        squeue.write_text(f"#!/bin/sh\nprintf '{text}'\nexit {code}\n")
        squeue.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    executor = Slurm(tmp_path, 1, {}, look=0.05)
    answer("7_0\\n7_1\\n")
    assert executor.poll("7_0") is None
    answer("", 1)
    for _ in range(10):
        assert executor.poll("7_0") is None
        time.sleep(0.05)
    answer("7_1\\n")
    assert executor.poll("7_0") is None
    assert wait(executor, "7_0") == LOST
    assert executor.poll("7_1") is None


def _alive(pid):
    try:
        state = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]  # noqa: PTH123, SIM115
    except OSError:
        return False
    return state != "Z"
