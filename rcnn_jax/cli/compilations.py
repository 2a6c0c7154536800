"""Compilation cache: the same step is compiled once on a machine.

JAX has the cache; here it gets a folder, and entries that cannot be read are deleted: JAX leaves
them, so that a kill in the middle of a write would make every later start slow. Whoever sets
JAX_COMPILATION_CACHE_DIR chooses another place, JAX_ENABLE_COMPILATION_CACHE=false does without.
"""

import contextlib
import hashlib
import os
import re
import stat
import sys
import tempfile
import warnings
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

_CPUINFO = Path("/proc/cpuinfo")
_LEAST_SECONDS = "1"  # quicker compilations are not worth a file
_FOLDER = "JAX_COMPILATION_CACHE_DIR"
# A warning of JAX is no interface. If its words change, torn entries stay, as they do without us.
_UNREADABLE = re.compile(
    r"Error reading persistent compilation cache entry for '(?P<program>[^']+)'"
)


def keep_compilations(variables: MutableMapping[str, str] = os.environ) -> None:
    """Gives JAX, which must not have been imported yet, a folder for what it compiles.

    Args:
      variables: of the environment; what is there already stays.
    """
    if _FOLDER not in variables:
        folder = _folder(variables)
        if folder is None:
            return
        variables[_FOLDER] = str(folder)
    # Variables of the environment and not jax.config: commands decide before JAX is imported, and
    # processes that they start inherit them.
    variables.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", _LEAST_SECONDS)
    _replace_torn_entries(Path(variables[_FOLDER]))


def forget(folder: Path, program: str) -> list[Path]:
    """Deletes what the cache holds of a program; returns the files.

    JAX names an entry by the program and a digest, and says only the program when it cannot read one.

    Args:
      folder: of the cache.
      program: for example `jit_step`.
    """
    entry = re.compile(re.escape(program) + r"-[0-9a-f]+-(cache|atime)")
    # The warning names the program, not the digest, so every entry of the program goes: the sound
    # ones cost one compilation each.
    gone = [path for path in folder.glob("*-*") if entry.fullmatch(path.name)]
    for path in gone:
        with contextlib.suppress(OSError):
            path.unlink()
    return gone


def _replace_torn_entries(folder: Path) -> None:
    """Deletes an entry when JAX warns that it cannot be read; JAX writes it anew after compiling."""
    shown = warnings.showwarning

    def show(message: Warning | str, *args: Any, **kwargs: Any) -> None:
        match = _UNREADABLE.search(str(message))
        if match is None or not forget(folder, match["program"]):
            shown(message, *args, **kwargs)

    warnings.showwarning = show


def _folder(variables: MutableMapping[str, str]) -> Path | None:
    """Returns a folder of this kind of machine: home folders are shared between machines.

    Programs for a CPU are cut for its features and its number of cores, and give other last bits on
    another number. A user without a home, or with one that cannot be written, gets a folder among the
    temporary ones, or does without.
    """
    # Hashed into the name: on a cluster nodes of several kinds share one home, and code for the
    # features of another one would end in an illegal instruction.
    machine = f"{_features()} {_cores()}"
    name = f"compiled-{hashlib.sha256(machine.encode()).hexdigest()[:8]}"
    for root in _roots(variables):
        folder = root / "rcnn_jax" / name
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK | os.X_OK):
                return folder
    with contextlib.suppress(OSError):
        # By user id, because everybody may write there.
        private = Path(tempfile.gettempdir()) / f"rcnn_jax-{os.getuid()}"
        private.mkdir(mode=0o700, exist_ok=True)
        status = private.lstat()
        # Programs are code: a folder that somebody else could have filled is none.
        if (
            stat.S_ISDIR(status.st_mode)
            and status.st_uid == os.getuid()
            and not status.st_mode & 0o022
        ):
            (private / name).mkdir(exist_ok=True)
            return private / name
    return None


def _roots(variables: MutableMapping[str, str]) -> list[Path]:
    """Returns where a user keeps caches; none where the user has no home."""
    chosen = variables.get("XDG_CACHE_HOME", "")
    if Path(chosen).is_absolute():
        return [Path(chosen)]
    with contextlib.suppress(RuntimeError):  # a user id without a name, and no HOME
        return [Path.home() / ".cache"]
    return []


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
