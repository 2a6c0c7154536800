"""The process that reads mutants; `tools/fuzz.py` watches it, since a hang or a crash ends it.

    python -m tests.fuzz.worker TARGET SEED FIRST COUNT FOLDER
    python -m tests.fuzz.worker TARGET FILE FOLDER

It writes one line of JSON for every case to its standard output. A case lies in the folder while it is
read, and stays there when it fails or ends the process.
"""

import faulthandler
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

os.environ["JAX_PLATFORMS"] = "cpu"

from tests.fuzz.case import Case, Target, sound_cases, write_case
from tests.fuzz.outcome import MEMORY, SECONDS, Outcome, outcome_of
from tests.fuzz.targets import find

_FAR_TOO_MUCH = 2 * MEMORY
"""Bytes that a case may ask for. More than the limit, so that code which catches the refusal of memory,
as decoders in C do, is measured and not believed."""


def main(arguments: list[str]) -> None:
    """Reads the mutants or the file that the arguments name."""
    target, folder = find(arguments[0]), Path(arguments[-1])
    report = _take_standard_output()
    work = folder / "work"
    work.mkdir()
    _warm_up(target, work)
    _limit()
    if len(arguments) == 3:
        cases: Iterator[tuple[int, Case]] = iter([(0, target.read(Path(arguments[1])))])
    else:
        seed, first, count = map(int, arguments[1:4])
        cases = ((number, target.case(seed, number)) for number in range(first, first + count))
    for number, case in cases:
        report.write(json.dumps(_tried(target, number, case, folder, work)) + "\n")
        report.flush()


def _take_standard_output() -> TextIO:
    """Returns the standard output; what libraries print goes to the errors from now on."""
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return report


def _warm_up(target: Target, work: Path) -> None:
    """Reads the sound inputs: imports and compilations are no case's cost."""
    for suffix in target.suffixes:
        for case in sound_cases(target.name, suffix):
            outcome = outcome_of(target, case, work)
            if outcome.kind != "read":
                raise RuntimeError(f"a sound input of {target.name}{suffix}: {outcome}")


def _limit() -> None:
    """Sets what the kernel watches: processor time with a trace at its end, and memory."""
    faulthandler.enable()
    faulthandler.register(signal.SIGPROF, all_threads=True, chain=True)
    data = _bytes_of("VmData")
    resource.setrlimit(resource.RLIMIT_DATA, (data + _FAR_TOO_MUCH, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _tried(target: Target, number: int, case: Case, folder: Path, work: Path) -> dict[str, object]:
    """Reads one case; returns its line of the report."""
    path = write_case(case, folder, f"{number}-case")
    held, peak = _bytes_of("VmRSS"), _peak()
    start = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    outcome = outcome_of(target, case, work)
    signal.setitimer(signal.ITIMER_PROF, 0)
    seconds = time.process_time() - start
    if _peak() > max(peak, held + MEMORY) and not outcome.failed:
        outcome = Outcome("memory", f"{(_peak() - held) >> 20} MB of memory")
    if not outcome.failed:
        path.unlink()
    return {
        "number": number,
        "kind": outcome.kind,
        "text": outcome.text if outcome.failed else "",
        "seconds": seconds,
    }


def _bytes_of(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) << 10
    raise RuntimeError(f"/proc/self/status has no {field}")


def _peak() -> int:
    # Not ru_maxrss, which a process inherits from the one that started it, however large that was.
    return _bytes_of("VmHWM")


if __name__ == "__main__":
    main(sys.argv[1:])
