"""Peak resident memory of this process, over its life and over a span of it."""

import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # see proc(5): makes VmHWM start anew from what is resident now


def peak_of_process() -> int:
    """Returns the largest resident set of the process so far, in bytes."""
    # getrusage counts bytes on macOS and KiB on Linux.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def reset_peak() -> bool:
    """Makes `peak_since_reset` begin anew; False where the system has no such thing."""
    try:
        _CLEAR.write_text(_RESET_PEAK)
        return _peak() is not None
    except OSError:
        return False


def peak_since_reset() -> int | None:
    """Returns the largest resident set since `reset_peak`, in bytes; None if it is not known."""
    return _peak()


def _peak() -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
