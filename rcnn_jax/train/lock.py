"""Lock of a run folder: `train.lock` names the one process that trains there.

    {"host": ..., "machine": ..., "pid": ..., "started": ..., "command": ..., "since": ..., "token": ...}

The holder has an flock on it, which the kernel releases when the process ends in whatever way. Some
network disks have no flock, or one that other machines do not see. So the holder also renews the time
of the file every few seconds: a lock of another machine whose time stands still is stale, and no clocks
are compared. For a lock of this machine, process id and start time decide.

The lock covers everything that `train` writes. Commands that only read a run may work beside it:
models are whole or absent, and `evaluate` writes reports under the name of the model.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from rcnn_jax.errors import CheckpointError, UsageError
from rcnn_jax.processes import Process, is_alive, is_here, this_process

LOCK_FILE = "train.lock"
BEAT = 2.0
"""Seconds between two signs of life."""
PATIENCE = 15.0
"""Seconds without a sign of life after which a holder on another machine is taken for dead.

Several beats: a network disk shows the new time of a file late, and a busy machine beats late.
"""


class WorkdirLock:
    """Handle of a held folder lock.

    Attributes:
      path: of the lock file.
    """

    def __init__(self, path: Path, token: str):
        """Takes the path, and the token in the file as long as it is ours."""
        self.path = path
        self._token = token

    def check(self) -> None:
        """Makes sure that the folder is still ours; call it before something is overwritten there.

        A process that was stopped for long enough (SIGSTOP, a suspended machine) may have been taken
        for dead by another machine.

        Raises:
          CheckpointError: another process has taken over.
        """
        holder = _read(self.path)
        if holder is None or holder.get("token") != self._token:
            raise CheckpointError(
                f"{self.path}: this run no longer holds its folder: {_told(holder)} took it over. "
                "Nothing more is written there"
            )


@contextlib.contextmanager
def held(
    folder: Path,
    command: str,
    say: Callable[[str], None],
    *,
    beat: float = BEAT,
    patience: float = PATIENCE,
) -> Iterator[WorkdirLock]:
    """Holds the lock of a folder; the file is deleted when it is left.

    Args:
      folder: existing folder.
      command: what is done there, for the message of whoever comes second.
      say: told when a stale lock is taken over.
      beat: see `BEAT`.
      patience: see `PATIENCE`.

    Raises:
      UsageError: another process holds it.
      OSError: the file cannot be written.
    """
    path = folder / LOCK_FILE
    token = uuid.uuid4().hex
    content = {
        **dataclasses.asdict(this_process()),
        "command": command,
        "since": datetime.now().isoformat(" ", "seconds"),
        "token": token,
    }
    handle = _claim(path, content, say, patience)
    done = threading.Event()
    # A daemon: a process that ends by an error must not be kept alive by its own lock.
    pulse = threading.Thread(target=_beat, args=(path, token, beat, done), daemon=True, name="lock")
    pulse.start()
    try:
        yield WorkdirLock(path, token)
    finally:
        # The order matters. The beat ends first, else it could touch a file that is somebody else's
        # by then. The file goes while the flock is still held: with the handle closed before,
        # another process could lock the file that is about to vanish and train in a folder that
        # looks free.
        done.set()
        pulse.join()
        # A disk that is gone must not hide the error that ended the run.
        with contextlib.suppress(OSError):
            # Taken over by another machine meanwhile (see `check`), the file is not ours to delete.
            if (_read(path) or {}).get("token") == token:
                path.unlink()
        os.close(handle)


def _claim(path: Path, content: dict[str, Any], say: Callable[[str], None], patience: float) -> int:
    """Returns an open handle of the lock file, which holds the content and, where it can, an flock."""
    while True:
        # Opened, not created exclusively: the file of a killed process must be taken over. And
        # written in place, not renamed into place: the flock belongs to this inode.
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            # A second holder is a UsageError by now; an OSError says that this disk knows no flock,
            # and `_refuse_living` decides alone.
            with contextlib.suppress(OSError):
                _flock(handle, path)
            # Its holder has ended and deleted it between our open and our flock: this inode has no name
            # any more, and a lock on it would keep nobody out.
            if not _is(handle, path):
                os.close(handle)
                continue
            stale = _refuse_living(path, patience)
            if stale is not None:
                say(f"{path}: {_told(stale)} has ended without a word; its lock is taken over")
            # Between these two lines a reader meets an empty file, which counts as nobody's. The
            # flock keeps it out, on disks that have one.
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(content).encode(), 0)
            # Other machines read the name from the server, not from our cache.
            os.fsync(handle)
        except BaseException:
            os.close(handle)
            raise
        return handle


def _flock(handle: int, path: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _refusal(path, _read(path)) from error


def _is(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _refuse_living(path: Path, patience: float) -> dict[str, Any] | None:
    """Returns the content of a stale lock, None where there was no lock.

    Raises:
      UsageError: the holder lives.
    """
    holder = _read(path)
    if holder is None:
        return None
    process = _process(holder)
    # No waiting on the same machine: a job that restarts at once after a crash goes on at once.
    if is_here(process):
        if is_alive(process):
            raise _refusal(path, holder)
        return holder
    seen = _sign(path)
    until = time.monotonic() + patience
    while time.monotonic() < until:
        time.sleep(min(0.1, patience / 10))
        if _sign(path) != seen:
            raise _refusal(path, holder)
    return holder


def _refusal(path: Path, holder: dict[str, Any] | None) -> UsageError:
    return UsageError(
        f"{path.parent}: {_told(holder)} is at work in this folder. Wait until it has ended, or choose "
        "another folder"
    )


def _told(holder: dict[str, Any] | None) -> str:
    if holder is None:
        return "another process"
    process = _process(holder)
    return (
        f"{holder.get('command', 'train')} (process {process.pid} on {process.host}, since "
        f"{holder.get('since', 'some time')})"
    )


def _process(holder: dict[str, Any]) -> Process:
    return Process(
        str(holder.get("host", "an unknown machine")),
        str(holder.get("machine", "")),
        _whole(holder.get("pid")),
        _whole(holder.get("started")),
    )


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _read(path: Path) -> dict[str, Any] | None:
    """Returns the content of a lock file; None where there is none, or one that was never written."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _sign(path: Path) -> tuple[int, bytes] | None:
    """Returns the signs of life of a holder. Opening a file makes NFS ask its server for the time."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime_ns, file.read()
    except OSError:
        return None


def _beat(path: Path, token: str, beat: float, done: threading.Event) -> None:
    while not done.wait(beat):
        # One failed beat is no reason to stop: the disk may be back before patience runs out.
        with contextlib.suppress(OSError):
            # A beat on a lock that was taken over would keep the new holder's lock alive after its
            # death.
            if (_read(path) or {}).get("token") != token:
                return
            os.utime(path)
