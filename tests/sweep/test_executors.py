"""Processes and jobs: exit codes, logs, stopping, and ends that nobody sees."""

import os
import subprocess
import sys
import time

import pytest

from rcnn_jax.errors import UsageError
from rcnn_jax.sweep import executors
from rcnn_jax.sweep.executors import Local, Slurm
from rcnn_jax.sweep.job import Command, code_of
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
    used = [os.sched_getaffinity(pid_of(job)) for job in jobs]
    assert used[0].isdisjoint(used[1])
    assert [wait(executor, job) for job in jobs] == [0, 0]


def killed_sweep(folder, child):
    """Kills a sweep outright, whose only trial runs a program; returns the job."""
    program = (
        "import pathlib, sys, time\n"
        "from rcnn_jax.sweep import executors\n"
        "executors.PROGRAM = (sys.executable, '-c', sys.argv[2])\n"
        "(job,) = executors.Local().start([(pathlib.Path(sys.argv[1]), [])])\n"
        "print(job, flush=True)\ntime.sleep(600)\n"
    )
    words = [sys.executable, "-c", program, str(folder), child]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        job = parent.stdout.readline().strip()
        while "ready" not in (folder / LOG).read_text():
            time.sleep(0.05)
        parent.kill()
    return job


def test_processes_end_with_the_sweep_that_started_them(tmp_path):
    job = killed_sweep(tmp_path, "import time; print('ready', flush=True); time.sleep(600)")
    assert wait(Local(), job, seconds=10) == LOST
    assert not alive(pid_of(job))


def test_a_process_that_outlives_its_sweep_is_lost_when_it_has_ended(tmp_path):
    """A training saves its state upon SIGTERM, and holds the lock of its folder until then."""
    child = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "print('ready', flush=True)\ntime.sleep(5)\n"
    )
    job = killed_sweep(tmp_path, child)
    executor = Local()
    assert executor.poll(job) is None
    assert alive(pid_of(job))
    assert wait(executor, job, seconds=30) == LOST
    assert not alive(pid_of(job))


def test_a_later_process_of_the_same_number_is_another_job():
    executor = Local()
    own = executors._job_of(os.getpid())
    assert executor.poll(own) is None
    pid, machine, started = own.split("-")
    assert executor.poll(f"{pid}-{machine}-{int(started) - 1}") == LOST
    assert executor.poll(f"{pid}-{'0' * 12}-{started}") == LOST
    # as earlier releases and Slurm write ids
    assert executor.poll(pid) == LOST
    assert executor.poll(f"{pid}_0") == LOST


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


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """An executor, and a function that sets what `squeue` answers."""
    pytest.importorskip("submitit", reason="submitit (extra sweep) is not installed")
    for name in ("sbatch", "srun"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)

    def answer(text, code=0):
        squeue = tmp_path / "squeue"
        squeue.write_text(f"#!/bin/sh\nprintf '{text}'\nexit {code}\n")
        squeue.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Slurm(tmp_path, 1, {}, look=0.05), answer


def test_a_job_is_lost_when_it_is_missing_in_the_queue_for_a_while(slurm):
    """And not while Slurm does not answer, or when it answers again."""
    executor, answer = slurm
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


@pytest.mark.parametrize("interruption", [143, -15])
def test_an_interruption_is_believed_once_the_queue_no_longer_has_the_job(
    slurm, tmp_path, interruption
):
    """Slurm queues a job anew after it has ended it; any other exit code is final at once."""
    executor, answer = slurm
    (tmp_path / "jobs").mkdir(exist_ok=True)
    for job, code in (("7_0", interruption), ("7_1", 1), ("7_2", 0)):
        (tmp_path / "jobs" / f"{job}.code").write_text(str(code))
    answer("7_0\\n7_1\\n7_2\\n")
    for _ in range(10):
        assert executor.poll("7_0") is None
        time.sleep(0.05)
    assert executor.poll("7_1") == 1
    assert executor.poll("7_2") == 0
    answer("")
    assert wait(executor, "7_0") == interruption


def test_a_job_that_starts_anew_has_no_exit_code_of_the_last_time(tmp_path, monkeypatch):
    pytest.importorskip("submitit", reason="submitit (extra sweep) is not installed")
    for name, value in {"EXECUTOR": "slurm", "FOLDER": str(tmp_path)}.items():
        monkeypatch.setenv(f"SUBMITIT_{name}", value)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    (tmp_path / "7.code").write_text("143")
    seen = tmp_path / "seen"
    look = f"import pathlib as p; p.Path({str(seen)!r}).write_text(str(p.Path('7.code').exists()))"
    monkeypatch.chdir(tmp_path)
    command = Command([sys.executable, "-c", look], str(tmp_path / LOG), str(tmp_path))
    assert command() == 0
    assert seen.read_text() == "False"
    assert code_of(tmp_path, "7") == 0


def alive(pid):
    try:
        state = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]  # noqa: PTH123, SIM115
    except OSError:
        return False
    return state != "Z"


def pid_of(job):
    return int(job.partition("-")[0])
