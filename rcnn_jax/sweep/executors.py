"""Executors of trials: processes of this machine, or jobs of Slurm.

An executor knows command words and a folder, nothing of sweeps. A command that it is told to stop gets
SIGTERM, upon which training saves its state and ends with 143.
"""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rcnn_jax.errors import UsageError
from rcnn_jax.optional import require
from rcnn_jax.processes import Process, is_alive, is_here, process_of
from rcnn_jax.sweep.job import Command, code_of
from rcnn_jax.sweep.trial import INTERRUPTED, LOG, LOST

PROGRAM = (sys.executable, "-c", "from rcnn_jax.cli.program import rcnn_jax; rcnn_jax()")
"""Not the console script: the environment of a job may lack the PATH of this process."""

_PR_SET_PDEATHSIG = 1
_JOB = re.compile(r"(?P<pid>\d+)-(?P<machine>[0-9a-f]{12})-(?P<started>\d+)")
# Time to write a checkpoint, also on a busy network disk.
_GRACE = 60.0
# A day, where `--slurm timeout_min=` says nothing; a job out of time saves itself and is queued again.
_MINUTES = 1440
# Times that a job may run out of it: not submitit's three, for only the budget of a sweep ends a trial.
_TIMEOUTS = 1000


class Executor(Protocol):
    """Starts, watches and stops commands."""

    slots: int

    def start(self, commands: Sequence[tuple[Path, Sequence[str]]]) -> list[str]:
        """Starts commands, the output of each goes to `log.txt` in its folder; returns ids of jobs."""
        ...

    def poll(self, job: str) -> int | None:
        """Returns the exit code of a job, None while it runs, and `LOST` where nobody knows it."""
        ...

    def fate(self, job: str) -> str:
        """Reason for the end of a job beside its exit code; mostly empty."""
        ...

    def stop(self, job: str) -> None:
        """Asks a job to save its state and end."""
        ...

    def close(self) -> None:
        """Stops all jobs that end with this process, and waits for them."""
        ...


class Local:
    """Processes on this machine, each with its part of the cores and GPUs."""

    def __init__(self, workers: int = 1):
        """Takes the number of trials at a time."""
        self.slots = workers
        self._processes: dict[str, subprocess.Popen] = {}
        self._slot_of: dict[str, int] = {}
        # Not cpu_count(): a container or a Slurm step may use a few of the machine's cores.
        self._cores = sorted(os.sched_getaffinity(0))

    def start(self, commands: Sequence[tuple[Path, Sequence[str]]]) -> list[str]:
        """Starts processes."""
        return [self._start(folder, words) for folder, words in commands]

    def _start(self, folder: Path, words: Sequence[str]) -> str:
        slot = min(set(range(self.slots)) - set(self._slot_of.values()))
        # Interleaved, so that slots differ by one core at most; all cores where there are more
        # slots.
        cores = self._cores[slot :: self.slots] or self._cores
        gpus = _visible_gpus()[slot :: self.slots]
        # Only where there are GPUs: an empty CUDA_VISIBLE_DEVICES would hide what JAX finds
        # otherwise.
        environment = {**os.environ, **({"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {})}
        folder.mkdir(parents=True, exist_ok=True)
        # Appended: a trial that goes on adds to the log of its first start.
        with (folder / LOG).open("ab") as log:
            process = subprocess.Popen(
                [*PROGRAM, *words],
                # A question of a library would otherwise wait for an answer at the sweep's
                # terminal.
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                preexec_fn=lambda: _settle(cores),
            )
        job = _job_of(process.pid)
        self._processes[job], self._slot_of[job] = process, slot
        return job

    def poll(self, job: str) -> int | None:
        """Returns the exit code; `LOST` once a process of an earlier sweep is gone."""
        process = self._processes.get(job)
        if process is None:
            # Told to end with its sweep, it saves its state first, and holds the lock of its folder.
            return None if _still_runs(job) else LOST
        code = process.poll()
        if code is not None:
            self._slot_of.pop(job, None)
        return code

    def fate(self, job: str) -> str:
        """Returns nothing: the exit code of a process says all."""
        return ""

    def stop(self, job: str) -> None:
        """Sends SIGTERM, but not to a process of an earlier sweep: a second one would end its saving."""
        if job in self._processes and self._processes[job].poll() is None:
            self._processes[job].send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Stops what runs; a process that does not end in a minute is killed."""
        for job in self._processes:
            self.stop(job)
        for process in self._processes.values():
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Slurm:
    """Jobs of Slurm by submitit; they outlive this process, which finds them again by their id."""

    def __init__(
        self,
        root: Path,
        slots: int,
        parameters: Mapping[str, Any],
        cluster: str = "slurm",
        look: float = 5.0,
    ):
        """Takes where submitit keeps its files.

        Args:
          root: folder of the sweep, on a disk that all nodes see.
          slots: jobs at a time.
          parameters: of submitit's executor, for example {"slurm_partition": "gpu"}.
          cluster: submitit's name of the cluster; `local` runs jobs without Slurm.
          look: seconds between two questions to Slurm.

        Raises:
          MissingDependencyError: submitit is not installed.
          UsageError: there is no Slurm here, or submitit does not know a parameter.
        """
        submitit: Any = require("submitit", extra="sweep", purpose="--executor slurm")
        self.slots = slots
        self._local = cluster == "local"
        if not self._local and shutil.which("sbatch") is None:
            raise UsageError(
                "--executor slurm: there is no sbatch on this machine; start the sweep on a login node"
            )
        # Absolute: a job starts in the folder of its submission, and `squeue` knows no other.
        self._folder = root.resolve() / "jobs"
        # Timeouts end a trial no sooner than the budget of the sweep does: each has saved its state.
        self._executor = submitit.AutoExecutor(
            folder=self._folder, cluster=cluster, slurm_max_num_timeout=_TIMEOUTS
        )
        try:
            # submitit's own limit of five minutes would cut every training.
            self._executor.update_parameters(**{"timeout_min": _MINUTES, **parameters})
        except (NameError, ValueError, TypeError) as error:
            raise UsageError(f"--slurm: {error}") from error
        self._jobs: dict[str, Any] = {}
        self._queue = _Queue(look)

    def start(self, commands: Sequence[tuple[Path, Sequence[str]]]) -> list[str]:
        """Submits jobs; what submitit pickles is a list of words, no state of a run.

        Raises:
          UsageError: Slurm does not take them.
        """
        for folder, _ in commands:
            folder.mkdir(parents=True, exist_ok=True)
        callables = [
            Command([*PROGRAM, *words], str(folder.resolve() / LOG), str(self._folder))
            for folder, words in commands
        ]
        # One array: hundreds of single jobs started at a time are what administrators write about.
        try:
            jobs = self._executor.submit_array(callables)
        except Exception as error:  # submitit's own classes, with the words of sbatch
            raise UsageError(f"Slurm does not take the job: {_words_of(error)}") from error
        self._jobs |= {job.job_id: job for job in jobs}
        self._queue.forget()
        return [job.job_id for job in jobs]

    def poll(self, job: str) -> int | None:
        """Returns the exit code that the command has left, or `LOST` once Slurm no longer has the job."""
        code = code_of(self._folder, job)
        if self._local:
            gone = job in self._jobs and self._jobs[job].done()
            return LOST if code is None and gone else code
        # Slurm may queue an interrupted job anew by itself (`scontrol requeue`, a partition that
        # preempts): a second job beside it would meet the lock of the folder, and fail.
        if code is not None and code not in INTERRUPTED:
            return code
        # Not submitit's `done()`: it asks `sacct`, which answers where accounting is set up, once in
        # ten minutes; a dead job would be at work for ever.
        if not self._queue.lacks(job):
            return None
        return LOST if code is None else code

    def fate(self, job: str) -> str:
        """Slurm's state of a job that has ended: OUT_OF_MEMORY, TIMEOUT, NODE_FAIL."""
        if self._local:
            return ""
        text = _ask("scontrol", "--oneliner", "show", "job", job) or ""
        state = re.search(r"JobState=(\S+)", text)
        return f"Slurm says {state[1]}" if state else ""

    def stop(self, job: str) -> None:
        """Cancels a job; Slurm sends SIGTERM first."""
        if self._local:
            self._jobs[job].cancel(check=False)
        else:
            _ask("scancel", job)

    def close(self) -> None:
        """Leaves jobs of Slurm running; local ones end with this process."""
        for job in self._jobs.values() if self._local else ():
            if not job.done():
                job.cancel(check=False)


class _Queue:
    """The jobs that Slurm has, asked for all at once and now and then."""

    def __init__(self, look: float):
        self._look = look
        self._asked = float("-inf")
        self._jobs: frozenset[str] | None = None
        self._absent: dict[str, float] = {}

    def forget(self) -> None:
        """Makes the next question a new one: the last answer is older than a job."""
        self._asked = time.monotonic()
        self._jobs = None

    def lacks(self, job: str) -> bool:
        """Returns whether a job has been absent for a while."""
        now = time.monotonic()
        if now - self._asked >= self._look:
            self._asked = now
            # `--array`: one line a job, also of arrays that wait. Nothing where Slurm does not answer:
            # its controller may be started anew while jobs run on.
            answer = _ask("squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i")
            self._jobs = None if answer is None else frozenset(answer.split())
        if self._jobs is None or job in self._jobs:
            self._absent.pop(job, None)
            return False
        # The disk may show the exit code later than Slurm forgets the job.
        return now - self._absent.setdefault(job, now) >= 2 * self._look


def _ask(*words: str) -> str | None:
    """Output of a program of Slurm; None where it fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _words_of(error: Exception) -> str:
    """Returns the lines of an error that name a cause, in one."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line.startswith("sbatch: ")]
    return "; ".join(told) or " ".join(filter(None, lines)) or type(error).__name__


def _job_of(pid: int) -> str:
    """Returns the id of the job of a process: ids of processes are used again, this one is not."""
    process = process_of(pid)
    return f"{pid}-{process.machine}-{process.started}"


def _still_runs(job: str) -> bool:
    """Returns whether the process of a job is at work on this machine."""
    match = _JOB.fullmatch(job)
    # Nor a bare number, the id of earlier releases: it may be anybody's process by now.
    if match is None:
        return False
    process = Process("", match["machine"], int(match["pid"]), int(match["started"]))
    return is_here(process) and is_alive(process)


def _settle(cores: Sequence[int]) -> None:
    """Prepares a new process: its cores, and that it is told to end when the sweep dies."""
    os.sched_setaffinity(0, cores)
    # Without it a killed sweep would leave trainings behind that nobody watches, and that hold the
    # locks of their folders against the sweep that goes on.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # A Ctrl-C of the terminal reaches the sweep alone, which then stops its processes in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _visible_gpus() -> list[str]:
    """Returns the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name]
    return [path.name.removeprefix("nvidia") for path in sorted(Path("/dev").glob("nvidia[0-9]*"))]
