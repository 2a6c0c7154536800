"""Atomic files, whole or absent: temporary name, sync to the disk, rename.

A run may be killed at any moment and a disk may be full; a reader never meets half a file.
"""

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from rcnn_jax.errors import CheckpointError
from rcnn_jax.processes import sweep_once, unfinished_name

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk or quota."""
SPARE_BYTES = 1 << 20
"""Required beyond the content itself: directory entries, metadata."""


def require_space(folder: Path, needed: int, what: str) -> None:
    """Checks that the disk has room.

    Args:
      folder: existing folder on the disk in question.
      needed: bytes about to be written.
      what: named in the message.

    Raises:
      CheckpointError: fewer bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_BYTES:
        raise CheckpointError(
            f"{what}: not enough disk space in {folder}: "
            f"{needed + SPARE_BYTES:,} bytes are needed, {free:,} are free; "
            "free some space or write to another disk"
        )


def write_file(path: Path, pieces: Iterable[bytes]) -> None:
    """Writes the pieces one after the other; `path` has either its old or its new content.

    Args:
      path: the file; missing folders above it are made.
      pieces: bytes-like parts of the content.

    Raises:
      CheckpointError: the file cannot be written, or the disk has too little room.
    """
    # Collected first: the disk is asked for room before the first byte is written.
    pieces = list(pieces)
    temporary = unfinished_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Before the disk is asked for room: what killed processes have left may be what fills it.
        sweep_once(path.parent)
        require_space(path.parent, sum(len(piece) for piece in pieces), str(path))
        try:
            with temporary.open("wb") as file:
                file.writelines(pieces)
                file.flush()
                # Before the rename: after a power failure a renamed file could be empty otherwise.
                os.fsync(file.fileno())
            # On one file system, since the name is beside the final one: a rename there is one
            # step, and a reader that has the old file open keeps it.
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        # The rename is on the disk with its folder only; after a power failure before this the old
        # content is back, whole as well.
        sync_folder(path.parent)
    except OSError as error:
        needed = f"; {sum(map(len, pieces)):,} bytes are needed" * (error.errno in FULL)
        raise CheckpointError(
            f"{path}: cannot be written: {error.strerror or error}{needed}"
        ) from error


def sync_folder(folder: Path) -> None:
    """Makes the renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_file(path: Path, what: str) -> bytes:
    """Returns the content of a required file.

    Args:
      path: the file.
      what: named in the message, for example `model file`.

    Raises:
      CheckpointError: it does not exist or cannot be read.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: no such {what}; check the path")
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder, a {what} is expected")
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
