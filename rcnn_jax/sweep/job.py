"""The callable of a Slurm job: a command, its log, and what happens when the job is preempted."""

import signal
import subprocess
from collections.abc import Sequence
from typing import Any

from rcnn_jax.optional import require


class Command:
    """Runs a command in a job of submitit, and goes on with the same words after a preemption.

    submitit pickles it: it holds words and a path alone, so a job that is requeued on another node
    reads its state from the folder of the run.
    """

    def __init__(self, words: Sequence[str], log: str):
        """Takes the command and the file of its output."""
        self.words = list(words)
        self.log = log
        self._process: subprocess.Popen | None = None

    def __call__(self) -> int:
        """Runs the command; returns its exit code."""
        with open(self.log, "ab") as log:  # noqa: PTH123 - a plain path in the pickle
            self._process = subprocess.Popen(
                self.words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
            return self._process.wait()

    def checkpoint(self) -> Any:
        """Called by submitit before time is up: lets the command save itself, then queues it again."""
        if self._process is not None and self._process.poll() is None:
            # Its own way to end: what it saves on SIGTERM is what the requeued job goes on from.
            self._process.send_signal(signal.SIGTERM)
            self._process.wait()
        submitit: Any = require("submitit", extra="sweep", purpose="a job of a sweep")
        return submitit.helpers.DelayedSubmission(Command(self.words, self.log))

    def __getstate__(self) -> dict[str, Any]:
        """The process belongs to this machine."""
        return {"words": self.words, "log": self.log, "_process": None}
