"""PyTorch weight files, read without torch and without running their pickle.

A `.pth` is a zip archive: `data.pkl` describes the objects, `data/<key>` are the raw storages. The
pickle is followed by `closed_pickle`; here tensors are rebuilt from what it finds, and every other
object becomes an inert placeholder.

Results are checked where they are built: offset and shape of a tensor are whole numbers, a storage has a
name and a known kind. The bytes of all tensors are compared with those of the file before any is made.
"""

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from rcnn_jax.checkpoints import closed_pickle
from rcnn_jax.checkpoints.archive import Archive, largest_content
from rcnn_jax.checkpoints.closed_pickle import Global, Placeholder
from rcnn_jax.errors import CheckpointError
from rcnn_jax.printable import reason

# Without complex and quantised storages, of which no detector has weights.
_DTYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
_MAX_DIMENSIONS = 32
_MOST_PROGRAM_BYTES = 64 << 20


@dataclass(frozen=True)
class _Storage:
    """Storage of a persistent id: raw numbers under `data/<key>`."""

    kind: str
    key: str


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """Returns {name: array} of the largest state dict in a `.pth` file.

    It may be the file itself or an entry of it (`model`, `state_dict`, ...).

    Args:
      path: a file that torch >= 1.6 saved.

    Raises:
      CheckpointError: not such a file, damaged, or without named tensors.
    """
    try:
        archived = zipfile.is_zipfile(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not archived:
        raise CheckpointError(
            f"{path}: is not a zip archive as torch writes since version 1.6; "
            "load it there and save its state_dict again, or convert it to .safetensors"
        )
    with Archive(path, "torch file") as archive:
        return _read_archive(archive, path)


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
    try:
        tensors = _largest_state_dict(run(program))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (ValueError, IndexError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{path}: is damaged or not a torch file: {reason(error)}") from error
    if not tensors:
        raise CheckpointError(
            f"{path}: holds no named tensors; save the state_dict of the model, not the model"
        )
    _check_kinds_and_total(tensors, path)
    storages: dict[_Storage, np.ndarray] = {}
    arrays = {}
    for name, tensor in tensors.items():
        storage = tensor.storage
        if storage not in storages:
            dtype = np.dtype(_DTYPES[storage.kind])
            data = archive.read(f"{folder}data/{storage.key}")
            # Of a truncated storage the whole numbers: a tensor beyond them is reported by name.
            whole = data[: len(data) // dtype.itemsize * dtype.itemsize]
            # Without a copy: one storage may be shared by many tensors, each copies its own part.
            numbers = np.frombuffer(whole, dtype)
            storages[storage] = numbers.byteswap() if swapped else numbers
        arrays[name] = _array(tensor, storages[storage], f"{path}: the tensor {name[:80]!r}")
    return arrays


def _check_kinds_and_total(tensors: dict[str, _Tensor], path: Path) -> None:
    """Refuses number types that NumPy lacks, and tensors that repeat one storage many times."""
    for name, tensor in tensors.items():
        if tensor.storage.kind not in _DTYPES:
            raise CheckpointError(
                f"{path}: the tensor {name[:80]!r} is of the kind {tensor.storage.kind[:40]!r}, "
                "which is not read"
            )
    total = sum(
        math.prod(tensor.shape) * np.dtype(_DTYPES[tensor.storage.kind]).itemsize
        for tensor in tensors.values()
    )
    # Strides of 0 let one number stand for a tensor of any size.
    if total > largest_content(path.stat().st_size):
        raise CheckpointError(
            f"{path}: its tensors have {total:,} bytes, far more than the file; it is not read"
        )


def _largest_state_dict(result: Any) -> dict[str, _Tensor]:
    if not isinstance(result, dict):
        return {}
    # By id: several entries may be the same dictionary.
    inner = {id(value): value for value in result.values() if isinstance(value, dict)}
    named = [
        {key: value for key, value in candidate.items() if isinstance(value, _Tensor)}
        for candidate in (result, *inner.values())
    ]
    # A trainer's checkpoint holds an optimizer and counters beside the model; the model has most
    # names.
    return max(named, key=len)


def _array(tensor: _Tensor, numbers: np.ndarray, where: str) -> np.ndarray:
    """Copies the part of a storage that belongs to a tensor, by its strides."""
    if 0 in tensor.shape:
        return np.empty(tensor.shape, numbers.dtype)
    steps = zip(tensor.shape, tensor.strides, strict=True)
    # as_strided checks nothing: beyond the storage it would read other memory of the process.
    last = tensor.offset + sum((side - 1) * step for side, step in steps)
    if last >= numbers.size:
        raise CheckpointError(f"{where} lies outside its storage: the file is damaged")
    strides = tuple(step * numbers.itemsize for step in tensor.strides)
    view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides)
    return view.copy()


def run(program: bytes) -> Any:
    """Interprets the pickle of a torch file: tensors become descriptions, other objects placeholders.

    Raises:
      CheckpointError: see `closed_pickle.run`.
      ValueError, IndexError: the program is malformed.
    """
    if len(program) > _MOST_PROGRAM_BYTES:
        raise CheckpointError(f"its data.pkl has {len(program):,} bytes, which no model needs")
    return closed_pickle.run(program, _rebuild, storage=_storage)


def _rebuild(function: Global, arguments: tuple[Any, ...]) -> Any:
    if function == Global("torch._utils", "_rebuild_tensor_v2"):
        return _tensor(arguments)
    # A parameter is its tensor; whether it asks for gradients is of no use here.
    if function == Global("torch._utils", "_rebuild_parameter") and arguments:
        return arguments[0]
    return Placeholder()


def _storage(description: Any) -> _Storage:
    """Parses the persistent id of a storage: ('storage', kind, key, device, size)."""
    if not isinstance(description, tuple) or len(description) < 3:
        raise ValueError("a persistent id is no storage")
    # The device is where it lay when it was saved, and the size is that of the entry.
    _, kind, key, *_ = description
    if not (isinstance(kind, Global) and isinstance(key, str)):
        raise ValueError("a storage has no kind or no key")
    return _Storage(kind.name, key)


def _tensor(arguments: tuple[Any, ...]) -> _Tensor:
    """Checks the arguments of a tensor: (storage, offset, shape, strides, ...)."""
    if len(arguments) < 4:
        raise ValueError("a tensor lacks its shape")
    storage, offset, shape, strides, *_ = arguments
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor has no storage")
    if not (_are_counts((offset,)) and _are_counts(shape) and _are_counts(strides)):
        raise ValueError("offset, shape or strides of a tensor are not whole numbers")
    if len(shape) != len(strides) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"a tensor has {len(shape)} sides and {len(strides)} strides")
    return _Tensor(storage, offset, shape, strides)


def _are_counts(values: Any) -> bool:
    # By type: True is an int to isinstance. The bound keeps what NumPy is given within 64 bits.
    return isinstance(values, tuple) and all(type(n) is int and 0 <= n < 1 << 62 for n in values)
