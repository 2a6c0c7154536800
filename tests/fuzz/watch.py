"""Running mutants in a process that is watched: a hang or a crash costs one case, not the run."""

import json
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.outcome import SECONDS

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0
"""Seconds without an answer after which a case hangs, although it takes no processor time."""


@dataclass
class Run:
    """Cases of one target, and what became of them.

    Attributes:
      target: name of the target.
      keep: folder for the inputs that fail.
      patience: seconds without an answer that make a hang.
      kinds: how many cases were read, refused, and failed in each way.
      slowest: (processor seconds, number) of the slowest case.
      seconds: that the run took.
      failures: a report each.
    """

    target: str
    keep: Path | None = None
    patience: float = PATIENCE
    kinds: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, 0)
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    _label: str = ""

    def mutants(
        self, seed: int, count: int, *, first: int = 0, seconds: float | None = None
    ) -> "Run":
        """Tries mutants and returns itself.

        Args:
          seed: of the mutants.
          count: numbers `first` to `first + count - 1` are tried.
          first: smallest number.
          seconds: after which no further one is begun.

        Raises:
          RuntimeError: the process fails outside a case: a mistake of the fuzzer.
        """
        begin, last = time.monotonic(), first + count
        deadline = begin + seconds if seconds else float("inf")
        self._label = f"{self.target}-{seed}"
        while first < last and time.monotonic() < deadline:
            first = self._process([str(seed), str(first), str(last - first)], deadline) or last
        self.seconds += time.monotonic() - begin
        return self

    def file(self, path: Path) -> "Run":
        """Tries one file and returns itself."""
        begin = time.monotonic()
        self._label = self.target
        self._process([str(path.resolve())], float("inf"))
        self.seconds += time.monotonic() - begin
        return self

    def __str__(self) -> str:
        ways = {kind: n for kind, n in self.kinds.most_common() if kind not in ("read", "refused")}
        counts = ": " + ", ".join(f"{count} {kind}" for kind, count in ways.items()) if ways else ""
        return (
            f"{self.target}: {self.kinds.total()} cases in {self.seconds:.0f} s, "
            f"{self.kinds['read']} read, {self.kinds['refused']} refused, slowest "
            f"{self.slowest[0]:.2f} s (number {self.slowest[1]}), {sum(ways.values())} failures{counts}"
        )

    def _process(self, words: list[str], deadline: float) -> int | None:
        """Runs one process; returns the number to go on with after a case has ended it."""
        with tempfile.TemporaryDirectory() as root:
            folder, log = Path(root) / "cases", Path(root) / "errors.txt"
            folder.mkdir()
            command = [sys.executable, "-m", "tests.fuzz.worker", self.target, *words, str(folder)]
            with (
                log.open("wb") as errors,
                subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=errors, cwd=ROOT, bufsize=0
                ) as process,
            ):
                end = self._listen(process, folder, deadline)
            if end == "deadline" or process.returncode == 0:
                return None
            trace = log.read_text(errors="replace")[-5000:]
            cut_off = end == "patience" or process.returncode == -signal.SIGPROF
            return self._ended("hang" if cut_off else "crash", trace, folder)

    def _listen(self, process: subprocess.Popen[bytes], folder: Path, deadline: float) -> str:
        """Notes what a process reports, and kills it when its time is over; returns why it ended."""
        assert process.stdout is not None
        rest, heard = b"", time.monotonic()
        while True:
            ready, _, _ = select.select([process.stdout], [], [], 0.5)
            now = time.monotonic()
            if ready:
                data = process.stdout.read(1 << 16)
                if not data:
                    return "its own"
                *lines, rest = (rest + data).split(b"\n")
                heard = now
                for line in lines:
                    self._note(json.loads(line), folder)
            if now > deadline or now - heard > self.patience:
                process.kill()
                return "deadline" if now > deadline else "patience"

    def _note(self, line: dict[str, Any], folder: Path) -> None:
        """Adds what the process says of one case."""
        number = line["number"]
        self.kinds[line["kind"]] += 1
        self.slowest = max(self.slowest, (line["seconds"], number))
        if line["text"]:
            (path,) = folder.glob(f"{number}-*")
            self._add(line["kind"], number, path, line["text"])

    def _ended(self, kind: str, trace: str, folder: Path) -> int:
        """Adds the case at which a process ended; returns the number after it."""
        left = list(folder.glob("[0-9]*-*"))
        if not left:
            raise RuntimeError(f"the worker of {self._label} ended outside a case:\n{trace}")
        number = int(left[0].name.partition("-")[0])
        self.kinds[kind] += 1
        if kind == "hang":
            self.slowest = max(self.slowest, (SECONDS, number))
        self._add(kind, number, left[0], trace)
        return number + 1

    def _add(self, kind: str, number: int, path: Path, text: str) -> None:
        """Adds a failure; its file goes to those that are kept, or away."""
        kept = ""
        if self.keep:
            self.keep.mkdir(parents=True, exist_ok=True)
            suffix = path.name.partition("-case")[2]
            target = self.keep / f"{self._label}-{number}-{kind}{suffix}"
            target.write_bytes(path.read_bytes())
            kept = f", kept as {target}"
        path.unlink()
        self.failures.append(f"{self._label} number {number}: {kind}{kept}\n{text}")
