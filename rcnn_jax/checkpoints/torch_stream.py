"""Torch files of before 1.6: pickles one after another, then the storages.

    magic number, version, machine, objects, keys | count, numbers | count, numbers | ...
    ------------- five pickles ------------------   a storage each, in the order of keys

torchvision's published files of those years are such: the COCO detectors of version 1, VGG, the first
MobileNet v2. So are users' checkpoints of that time, and what torch.save writes today with
`_use_new_zipfile_serialization=False`.

Source: `torch.serialization` of PyTorch, `_legacy_save` and `_legacy_load`.
"""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np

from rcnn_jax.checkpoints.atomic import read_file
from rcnn_jax.checkpoints.torch_tensors import (
    DTYPES,
    Storage,
    check_kinds_and_total,
    largest_state_dict,
    run,
    strided,
)
from rcnn_jax.errors import CheckpointError
from rcnn_jax.printable import reason

# The pickle of torch's magic number. Whoever wrote the file, these are its first bytes: protocol 2 is
# the only one that torch used.
_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_VERSION = 1001
_COUNT = struct.Struct("<q")


def is_stream(beginning: bytes) -> bool:
    """Says whether a file that begins so is a stream of torch."""
    return beginning.startswith(_MAGIC)


def read_stream(path: Path) -> dict[str, np.ndarray]:
    """Returns {name: array} of the largest state dict in a file of torch before 1.6.

    Args:
      path: a file that `is_stream` knows.

    Raises:
      CheckpointError: damaged, of a machine of another byte order, or without named tensors.
    """
    data = read_file(path, "weights file")
    # A view of the bytes, not a copy: pickletools says by the position of a stream where a pickle ends.
    stream = io.BytesIO(data)
    stream.seek(len(_MAGIC))
    kinds: dict[str, str] = {}
    try:
        _check_machine(run(stream), run(stream))
        tensors = largest_state_dict(run(stream, lambda each: _note(kinds, each)))
        keys = run(stream)
        if not tensors:
            raise CheckpointError(
                "holds no named tensors; save the state_dict of the model, not the model"
            )
        check_kinds_and_total(tensors, path)
        numbers = _numbers(data, stream.tell(), keys, kinds)
        return {
            name: strided(tensor, numbers[tensor.storage.key], f"the tensor {name[:80]!r}")
            for name, tensor in tensors.items()
        }
    except CheckpointError as error:
        message = str(error).removeprefix(f"{path}: ")
        raise CheckpointError(f"{path}: {message}") from error
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{path}: is damaged or not a torch file: {reason(error)}") from error


def _check_machine(version: Any, machine: Any) -> None:
    if version != _VERSION or not isinstance(machine, dict):
        raise ValueError(f"version {str(version)[:40]} of the stream is not {_VERSION}")
    # Files of big machines have their counts swapped too, and no model was ever published so.
    if machine.get("little_endian") is False:
        raise CheckpointError(
            "was saved on a machine of another byte order by torch before 1.6; save it again with a "
            "newer torch"
        )


def _note(kinds: dict[str, str], storage: Storage) -> None:
    if kinds.setdefault(storage.key, storage.kind) != storage.kind:
        raise ValueError(f"the storage {storage.key[:40]!r} is of two kinds")


def _numbers(data: bytes, position: int, keys: Any, kinds: dict[str, str]) -> dict[str, np.ndarray]:
    """Returns the numbers of every storage, as views of the bytes of the file.

    Args:
      data: of the file.
      position: of the first storage.
      keys: the last pickle: names of the storages in the order of their bytes.
      kinds: {name: kind} of the storages that the objects name.
    """
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("the list of storages is none")
    numbers: dict[str, np.ndarray] = {}
    for key in keys:
        # Of all, not only of those that are kept: without its number type a storage cannot be skipped.
        if key not in kinds or kinds[key] not in DTYPES:
            kind = kinds.get(key, "none that its objects name")
            raise CheckpointError(
                f"the storage {key[:40]!r} is of the kind {kind[:40]}, which is not read"
            )
        dtype = np.dtype(DTYPES[kinds[key]])
        (count,) = _COUNT.unpack(
            data[position : position + _COUNT.size].ljust(_COUNT.size, b"\xff")
        )
        position += _COUNT.size
        # A count that was cut off reads as -1.
        if not 0 <= count <= (len(data) - position) // dtype.itemsize:
            raise CheckpointError(
                f"the storage {key[:40]!r} goes beyond the end of the file, which is cut off or damaged"
            )
        numbers[key] = np.frombuffer(data, dtype, count, position)
        position += count * dtype.itemsize
    return numbers
