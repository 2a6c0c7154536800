"""Encrypted checkpoint of one step: `checkpoints/<step>/sealed`, one container (`container.py`).

    size of the manifest 8 | manifest, JSON | the bytes of every leaf, in the order of the manifest

Orbax writes weights plain before anybody could encrypt them, so a run with a key does without it. Leaves
are encrypted from memory, a chunk at a time: no plain byte reaches a disk, and a state of gigabytes
needs no second copy.
"""

import json
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rcnn_jax.checkpoints import container
from rcnn_jax.errors import CheckpointError

NAME = "sealed"  # of the first release; runs of that time go on
_SIZE = struct.Struct("<Q")
# A container that is no checkpoint, renamed by hand, begins with any number.
_MOST_JSON = 1 << 30


def is_encrypted(step: Path) -> bool:
    """Returns whether the folder of a step holds an encrypted checkpoint."""
    return (step / NAME).exists()


def write(step: Path, manifest: dict[str, Any], arrays: Mapping[str, np.ndarray], key: str) -> None:
    """Writes a checkpoint into a folder and syncs it to the disk.

    Args:
      step: made; its name should be a temporary one until this returns.
      manifest: JSON values, among them `leaves`: {name: {shape, dtype, ...}}.
      arrays: {name: array}, of the same names.
      key: of the encryption.

    Raises:
      CheckpointError: the file cannot be written.
    """
    text = json.dumps(manifest).encode()
    leaves = [_bytes(arrays[name]) for name in manifest["leaves"]]
    # The manifest first: settings are compared on resume before any array is read.
    pieces = (_SIZE.pack(len(text)), text, *leaves)
    try:
        step.mkdir()
        with (step / NAME).open("wb") as file:
            file.writelines(container.encrypt_pieces(pieces, sum(map(len, pieces)), key))
            file.flush()
            # Before the caller renames the folder: a step with a bare number must be whole after a
            # power failure too.
            os.fsync(file.fileno())
    except OSError as error:
        raise CheckpointError(f"{step}: cannot be written: {error.strerror or error}") from error


def read_manifest(step: Path, key: str | None) -> dict[str, Any]:
    """Returns the manifest of a step; the leaves stay unread.

    Raises:
      KeyMistakeError: no key, or another one than that of the file.
      CheckpointError: the file is damaged.
    """
    with (step / NAME).open("rb") as file:
        return _manifest(_Payload(container.decrypt_pieces(file, key, str(step))))


def read(step: Path, key: str | None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns the manifest and the arrays of a step.

    Raises:
      KeyMistakeError: no key, or another one than that of the file.
      CheckpointError: the file is damaged.
    """
    with (step / NAME).open("rb") as file:
        payload = _Payload(container.decrypt_pieces(file, key, str(step)))
        manifest = _manifest(payload)
        arrays = {}
        for name, leaf in manifest["leaves"].items():
            # Sizes of the manifest are taken at their word: it was authenticated under the user's
            # key.
            arrays[name] = np.empty(leaf["shape"], leaf["dtype"])
            payload.read_into(_bytes(arrays[name]))
        return manifest, arrays


class _Payload:
    """The payload of a container as a stream."""

    def __init__(self, chunks: Iterator[bytes]):
        self._chunks = chunks
        self._rest = memoryview(b"")

    def read_into(self, target: memoryview) -> None:
        """Fills the target with the next bytes."""
        while len(target):
            if not len(self._rest):
                self._rest = memoryview(next(self._chunks, b""))
                if not len(self._rest):
                    raise CheckpointError("the encrypted file ends before its last leaf")
            count = min(len(target), len(self._rest))
            target[:count] = self._rest[:count]
            target, self._rest = target[count:], self._rest[count:]


def _manifest(payload: _Payload) -> dict[str, Any]:
    prefix = bytearray(_SIZE.size)
    payload.read_into(memoryview(prefix))
    (size,) = _SIZE.unpack(prefix)
    if size > _MOST_JSON:
        raise CheckpointError("the encrypted file holds no checkpoint")
    text = bytearray(size)
    payload.read_into(memoryview(text))
    return json.loads(bytes(text))


def _bytes(array: np.ndarray) -> memoryview:
    """The memory of an array that lies in C order."""
    return array.reshape(-1).view(np.uint8).data
