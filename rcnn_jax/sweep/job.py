"""The callable of a Slurm job: a command, its log, and what happens when the job is preempted."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.optional import require


class Command:
    """Runs a command in a job of submitit, and goes on with the same words after a preemption.

    submitit pickles it: it holds words and paths alone, so a job that is requeued on another node
    reads its state from the folder of the run.
    """

    def __init__(self, words: Sequence[str], log: str, codes: str):
        """Takes the command, the file of its output and the folder of exit codes."""
        self.words = list(words)
        self.log = log
        self.codes = codes
        self._process: subprocess.Popen | None = None

    def __call__(self) -> int:
        """Runs the command; returns its exit code, and writes it where `code_of` reads it."""
        submitit: Any = _submitit()
        # A file of ours beside submitit's, which is a pickle: nothing of a shared folder is unpickled.
        path = Path(self.codes) / f"{submitit.JobEnvironment().job_id}{_SUFFIX}"
        # That of the last time, where Slurm has queued the job anew: this time is not over.
        path.unlink(missing_ok=True)
        with open(self.log, "ab") as log:  # noqa: PTH123 - a plain path in the pickle
            self._process = subprocess.Popen(
                self.words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_let_submitit_answer,
            )
            code = self._process.wait()
        write_file(path, [str(code).encode()])
        return code

    def checkpoint(self) -> Any:
        """Called by submitit before time is up: lets the command save itself, then queues it again."""
        if self._process is not None:
            # Runs inside `wait` of `__call__`, which holds the lock of the Popen object: its own methods
            # would wait for that for ever. The child is left to be reaped, so its number stays its own.
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self._process.pid, signal.SIGTERM)
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        return _submitit().helpers.DelayedSubmission(Command(self.words, self.log, self.codes))

    def __getstate__(self) -> dict[str, Any]:
        """The process belongs to this machine."""
        return {"words": self.words, "log": self.log, "codes": self.codes, "_process": None}


_SUFFIX = ".code"


def code_of(codes: Path, job: str) -> int | None:
    """Returns the exit code that the command of a job has left; None where there is none."""
    with contextlib.suppress(OSError, ValueError):
        return int((codes / f"{job}{_SUFFIX}").read_text(encoding="ascii"))
    return None


def _let_submitit_answer() -> None:
    """Leaves the signal of a preemption to submitit, in a new process.

    Slurm sends it to every process of a step, and a command that does not know it would be killed by
    it before `checkpoint` has asked it to save.
    """
    name = os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2")
    signal.signal(signal.Signals[f"SIG{name}"], signal.SIG_IGN)


def _submitit() -> Any:
    return require("submitit", extra="sweep", purpose="a job of a sweep")
