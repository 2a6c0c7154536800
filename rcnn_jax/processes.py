"""Identity of processes, and names of unfinished files that carry it."""

import functools
import hashlib
import os
import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")
_STATUS = Path("/proc/self/status")
# Of the 255 bytes that a file system takes; the rest is for id, machine, start and marks.
_LONGEST = 200
_UNFINISHED = re.compile(
    r"^\..+\.(?P<pid>\d+)(?:-(?P<machine>[0-9a-f]{12})-(?P<started>\d+))?\.(?:tmp|partial)$"
)


@dataclass(frozen=True)
class Process:
    """A process of some machine.

    Attributes:
      host: name of the machine, for people.
      machine: of one boot of a kernel and one space of process ids, so that two containers of one
        machine, which may both have a process 1, are told apart; "" where nobody knows.
      pid: process id.
      started: when it started, in ticks since the boot: ids are used again; 0 where nobody knows.
    """

    host: str
    machine: str
    pid: int
    started: int


@functools.lru_cache
def _machine() -> str:
    try:
        text = f"{_BOOT.read_text()} {_NAMESPACE.readlink()}"
    except OSError:  # no Linux
        text = socket.gethostname()
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def this_process() -> Process:
    """Returns the process that asks."""
    return process_of(os.getpid())


def process_of(pid: int) -> Process:
    """Returns the process of this machine that has an id."""
    _, started = _state_of(pid) or ("", 0)
    return Process(socket.gethostname(), _machine(), pid, started)


def age_of_process() -> float:
    """Returns the seconds since this process was started; since it began to compute where nobody knows.

    A program that starts itself anew keeps its start.
    """
    started = this_process().started
    if not started or not hasattr(time, "CLOCK_BOOTTIME"):
        return time.process_time()
    return max(time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK"), 0.0)


def peak_memory() -> int | None:
    """Returns the largest resident memory of this process so far in bytes; None where nobody knows."""
    # Not getrusage: its figure survives exec, so a small process would show that of the large one
    # that started it.
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def is_here(process: Process) -> bool:
    """Returns whether a process id belongs to this machine and this space of ids."""
    return process.machine == _machine()


def is_alive(process: Process) -> bool:
    """Returns whether a process of this machine still runs, and is no later one of the same id."""
    try:
        # Signal 0 is delivered to nobody and fails where there is nobody.
        os.kill(process.pid, 0)
    except (ProcessLookupError, OverflowError, ValueError):
        return False
    except PermissionError:
        pass  # somebody else's
    # In doubt alive: a lock that is taken from a living process costs its run, one that is kept too
    # long costs a message.
    status = _state_of(process.pid)
    if status is None:
        return True
    state, started = status
    # A zombie does nothing any more, and where the first process of a container reaps no orphans it is
    # one for ever.
    return state not in ("Z", "X") and process.started in (0, started)


def unfinished_name(path: Path) -> Path:
    """Returns the hidden name beside `path` under which this process writes it."""
    own, name = this_process(), path.name
    if len(os.fsencode(name)) > _LONGEST:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return path.with_name(f".{name}.{own.pid}-{own.machine}-{own.started}.tmp")


def sweep(folder: Path) -> list[Path]:
    """Deletes unfinished files of dead processes in a folder; returns them.

    A process of another machine may still be at work: its files stay. Names without a machine are
    those of earlier releases and are taken for ones of this machine.

    Args:
      folder: searched without its sub-folders; it may be missing.
    """
    swept = []
    for path in sorted(folder.glob(".*")) if folder.is_dir() else ():
        match = _UNFINISHED.match(path.name)
        if match is None or path.is_dir():
            continue
        machine = match["machine"] or _machine()
        owner = Process("", machine, int(match["pid"]), int(match["started"] or 0))
        if is_here(owner) and not is_alive(owner):
            path.unlink(missing_ok=True)
            swept.append(path)
    return swept


# Once per folder: listing it for every file would be quadratic in a folder of results.
@functools.lru_cache(maxsize=64)
def sweep_once(folder: Path) -> None:
    """Sweeps a folder before this process writes its first file there."""
    sweep(folder)


def _state_of(pid: int) -> tuple[str, int] | None:
    """Returns the state of a process, and its start in ticks since the boot; None where nobody knows."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # Fields 3 and 22 of proc(5); the name before them may hold blanks and brackets.
    fields = stat.rpartition(")")[2].split()
    return fields[0], int(fields[19])
