"""PyTorch weight files, read without torch and without running their pickle.

A `.pth` is a zip archive: `data.pkl` describes the objects, `data/<key>` are the raw storages. Before
torch 1.6 it was a stream (`torch_stream`), as torchvision's older published files still are. What the
pickle describes is read by `torch_tensors`.
"""

import zipfile
from pathlib import Path

import numpy as np

from rcnn_jax.checkpoints.archive import Archive
from rcnn_jax.checkpoints.torch_stream import is_stream, read_stream
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

_MOST_PROGRAM_BYTES = 64 << 20


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """Returns {name: array} of the largest state dict in a `.pth` file.

    It may be the file itself or an entry of it (`model`, `state_dict`, ...).

    Args:
      path: a file that torch saved.

    Raises:
      CheckpointError: not such a file, damaged, or without named tensors.
    """
    try:
        archived = zipfile.is_zipfile(path)
        with path.open("rb") as file:
            beginning = file.read(256)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not archived:
        if is_stream(beginning):
            return read_stream(path)
        raise CheckpointError(f"{path}: {_other(beginning)}")
    with Archive(path, "torch file") as archive:
        return _read_archive(archive, path)


def _other(beginning: bytes) -> str:
    """Message on a file that torch did not write, by its first bytes."""
    if not beginning:
        return "is empty: nothing was downloaded or copied; get it again"
    if beginning.lstrip()[:5].lower() in (b"<!doc", b"<html", b"<?xml"):
        return "is a web page, not a torch file: what was downloaded is an error or a login page"
    if beginning.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file; `git lfs pull` gets it"
    return (
        "is neither a zip archive nor a stream as torch writes them, or only half of one; if torch reads "
        "it, save its state_dict again there, or convert it to .safetensors"
    )


def _read_archive(archive: Archive, path: Path) -> dict[str, np.ndarray]:
    # The folder is called as the file was when it was saved, so any name will do.
    programs = sorted(name for name in archive.names if name.endswith("/data.pkl"))
    if not programs:
        raise CheckpointError(f"{path}: holds no data.pkl, so torch.save did not write it")
    folder = programs[0].removesuffix("data.pkl")
    order = folder + "byteorder"
    # The entry is of torch 2; older files have none and are little-endian.
    swapped = order in archive.names and archive.read(order).strip() == b"big"
    program = archive.read(programs[0])
    if len(program) > _MOST_PROGRAM_BYTES:
        raise CheckpointError(
            f"{path}: its data.pkl has {len(program):,} bytes, which no model needs"
        )
    try:
        tensors = largest_state_dict(run(program))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (ValueError, IndexError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{path}: is damaged or not a torch file: {reason(error)}") from error
    if not tensors:
        raise CheckpointError(
            f"{path}: holds no named tensors; save the state_dict of the model, not the model"
        )
    check_kinds_and_total(tensors, path)
    storages: dict[Storage, np.ndarray] = {}
    arrays = {}
    for name, tensor in tensors.items():
        storage = tensor.storage
        if storage not in storages:
            dtype = np.dtype(DTYPES[storage.kind])
            data = archive.read(f"{folder}data/{storage.key}")
            # Of a truncated storage the whole numbers: a tensor beyond them is reported by name.
            whole = data[: len(data) // dtype.itemsize * dtype.itemsize]
            # Without a copy: one storage may be shared by many tensors, each copies its own part.
            numbers = np.frombuffer(whole, dtype)
            storages[storage] = numbers.byteswap() if swapped else numbers
        arrays[name] = strided(tensor, storages[storage], f"{path}: the tensor {name[:80]!r}")
    return arrays
