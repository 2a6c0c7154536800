"""Keeps compiled programs for the next command: the same step is compiled once on a machine.

JAX has the cache; here it gets a place. Whoever sets JAX_COMPILATION_CACHE_DIR chooses another one,
JAX_ENABLE_COMPILATION_CACHE=false does without.
"""

import hashlib
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_LEAST_SECONDS = "1"  # quicker compilations are not worth a file


def keep_compilations(variables: MutableMapping[str, str] = os.environ) -> None:
    """Gives JAX, which must not have been imported yet, a folder for what it compiles.

    Args:
      variables: of the environment; what is there already stays.
    """
    variables.setdefault("JAX_COMPILATION_CACHE_DIR", str(_folder(variables)))
    variables.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", _LEAST_SECONDS)


def _folder(variables: MutableMapping[str, str]) -> Path:
    """Returns a folder of this kind of machine: home folders are shared between machines.

    Programs for a CPU are cut for its features and its number of cores, and give other last bits on
    another number.
    """
    root = variables.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    machine = f"{_features()} {_cores()}"
    name = hashlib.sha256(machine.encode()).hexdigest()[:8]
    return Path(root) / "rcnn_jax" / f"compiled-{name}"


def _features() -> str:
    """Returns the line of the processor's features, "" where the system has none."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _cores() -> int:
    """Returns the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
