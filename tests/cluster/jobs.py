"""Jobs of a throwaway Slurm: submitted, looked at, disturbed, waited for."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.slurm import CPUS
from tests.e2e.kills import PROGRAM

ROOT = Path(__file__).parents[2]
TRAIN = ROOT / "configs" / "slurm" / "train.sbatch"
RCNN_JAX = (sys.executable, "-c", PROGRAM)
LONGEST = 900
"""Seconds after which something that does not happen has failed."""


@dataclass(frozen=True)
class Cluster:
    """The programs of Slurm.

    Attributes:
      variables: of the environment, by which they find it.
    """

    variables: Mapping[str, str]

    def run(self, *words: object, **more: str) -> subprocess.CompletedProcess:
        """Runs a program; `more` are variables."""
        return subprocess.run(
            list(map(str, words)),
            env={**self.variables, **more},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=LONGEST,
        )

    def submit(self, *words: object) -> str:
        """Submits a batch script; returns the id of its job."""
        done = self.run("sbatch", "--parsable", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def train(self, log: Path, partition: str, *flags: object) -> str:
        """Submits a training of two tasks by the batch script of the documents."""
        where = ["--partition", partition, "--ntasks=2", f"--cpus-per-task={CPUS // 2}"]
        return self.submit(*where, "--output", log, TRAIN, *RCNN_JAX, *flags)

    def preempt(self) -> None:
        """Takes all processors away from jobs of `low`, for a second."""
        self.submit(
            "--partition=high", f"--cpus-per-task={CPUS}", "--output=/dev/null", "--wrap=true"
        )

    def shown(self, job: str, field: str) -> str:
        """Returns a field of a job as `scontrol` shows it."""
        text = self.run("scontrol", "--oneliner", "show", "job", job).stdout
        match = re.search(rf"(?:^|\s){field}=(\S+)", text)
        return match[1] if match else ""

    def processes(self, job: str) -> list[int]:
        """Returns the process id of each task of a job's step, by rank; empty while there is none."""
        rows = [
            line.split() for line in self.run("scontrol", "listpids", job).stdout.splitlines()[1:]
        ]
        tasks = {int(row[4]): int(row[0]) for row in rows if row[2] == "0" and row[4].isdigit()}
        return [tasks[rank] for rank in sorted(tasks)]

    def wait(self, job: str, log: Path) -> None:
        """Waits until a job has ended well."""
        until(
            lambda: self.shown(job, "JobState") in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")
        )
        assert self.shown(job, "JobState") == "COMPLETED", log.read_text()


def until(reached: Callable[[], object], every: float = 0.5) -> None:
    """Waits for something."""
    end = time.monotonic() + LONGEST
    while not reached():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(every)
