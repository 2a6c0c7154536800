"""Executors of trials: processes of this machine, or jobs of Slurm.

An executor knows command words and a folder, nothing of sweeps. A command that it is told to stop gets
SIGTERM, upon which training saves its state and ends with 143.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rcnn_jax.optional import require
from rcnn_jax.sweep.trial import LOG

PROGRAM = (sys.executable, "-c", "from rcnn_jax.cli.program import rcnn_jax; rcnn_jax()")
"""Not the console script: the environment of a job may lack the PATH of this process."""

_PR_SET_PDEATHSIG = 1
# Time to write a checkpoint, also on a busy network disk.
_GRACE = 60.0


class Executor(Protocol):
    """Starts, watches and stops commands."""

    slots: int

    def start(self, folder: Path, words: Sequence[str]) -> str:
        """Starts a command whose output goes to `log.txt` in the folder; returns the id of its job."""
        ...

    def poll(self, job: str) -> int | None:
        """Returns the exit code of a job, None while it runs, and `LOST` where nobody knows it."""
        ...

    def stop(self, job: str) -> None:
        """Asks a job to save its state and end."""
        ...

    def close(self) -> None:
        """Stops all jobs that end with this process, and waits for them."""
        ...


# Above all codes of processes, which end at 255.
LOST = 1000
"""Exit code of a job that is gone without one: its machine went down, or the sweep was killed."""
INTERRUPTED = (75, 129, 130, 143, LOST)
"""Exit codes of a run that is unfinished and can go on: stalled, stopped by a signal, lost."""


class Local:
    """Processes on this machine, each with its part of the cores and GPUs."""

    def __init__(self, workers: int = 1):
        """Takes the number of trials at a time."""
        self.slots = workers
        self._processes: dict[str, subprocess.Popen] = {}
        self._slot_of: dict[str, int] = {}
        # Not cpu_count(): a container or a Slurm step may use a few of the machine's cores.
        self._cores = sorted(os.sched_getaffinity(0))

    def start(self, folder: Path, words: Sequence[str]) -> str:
        """Starts a process."""
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
        job = str(process.pid)
        self._processes[job], self._slot_of[job] = process, slot
        return job

    def poll(self, job: str) -> int | None:
        """Returns the exit code; processes of an earlier sweep ended with it."""
        process = self._processes.get(job)
        if process is None:
            return LOST
        code = process.poll()
        if code is not None:
            self._slot_of.pop(job, None)
        return code

    def stop(self, job: str) -> None:
        """Sends SIGTERM."""
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
    ):
        """Takes where submitit keeps its files.

        Args:
          root: folder of the sweep, on a disk that all nodes see.
          slots: jobs at a time.
          parameters: of submitit's executor, for example {"slurm_partition": "gpu"}.
          cluster: submitit's name of the cluster; `local` runs jobs without Slurm.

        Raises:
          MissingDependencyError: submitit is not installed.
        """
        self._submitit: Any = require("submitit", extra="sweep", purpose="--executor slurm")
        self.slots = slots
        self._folder = root / "jobs"
        self._executor = self._submitit.AutoExecutor(folder=self._folder, cluster=cluster)
        self._executor.update_parameters(**parameters)
        self._local = cluster == "local"
        self._jobs: dict[str, Any] = {}

    def start(self, folder: Path, words: Sequence[str]) -> str:
        """Submits a job; what submitit pickles is a list of words, no state of a run."""
        from rcnn_jax.sweep.job import Command

        folder.mkdir(parents=True, exist_ok=True)
        job = self._executor.submit(Command([*PROGRAM, *words], str(folder / LOG)))
        self._jobs[job.job_id] = job
        return job.job_id

    def poll(self, job: str) -> int | None:
        """Returns the exit code that the job has left, or what Slurm says of it."""
        known = self._known(job)
        if not known.done():
            return None
        with contextlib.suppress(Exception):  # submitit raises a dozen classes for a job that died
            return int(known.result())
        return LOST

    def stop(self, job: str) -> None:
        """Cancels a job; Slurm sends SIGTERM first."""
        self._known(job).cancel(check=False)

    def close(self) -> None:
        """Leaves jobs of Slurm running; local ones end with this process."""
        for job in self._jobs.values() if self._local else ():
            if not job.done():
                job.cancel(check=False)

    def _known(self, job: str) -> Any:
        """Returns a job, also one that an earlier process of this sweep has submitted."""
        if job not in self._jobs:
            # submitit keeps a job's result in files by its id, so the object can be made again from
            # these.
            kind = self._submitit.LocalJob if self._local else self._submitit.SlurmJob
            self._jobs[job] = kind(folder=self._folder, job_id=job)
        return self._jobs[job]


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
