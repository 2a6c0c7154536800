"""Tensors as a pickle of torch describes them, and the arrays they become.

    pickle --run--> {name: Tensor} --largest_state_dict, check_kinds_and_total--> strided --> arrays

Both forms of a torch file share this: a zip archive (`torch_file`), and the stream of torch before 1.6
(`torch_stream`). The pickle is followed by `closed_pickle`; tensors are rebuilt from what it finds, and
every other object becomes an inert placeholder.

Results are checked where they are built: offset and shape of a tensor are whole numbers, a storage has a
name and a known kind. The bytes of all tensors are compared with those of the file before any is made.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from rcnn_jax.checkpoints import closed_pickle
from rcnn_jax.checkpoints.archive import largest_content
from rcnn_jax.checkpoints.closed_pickle import Global, Placeholder, Program
from rcnn_jax.errors import CheckpointError

# Without complex and quantised storages, of which no detector has weights.
DTYPES = {
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
"""{kind of a storage: number type}."""
_MAX_DIMENSIONS = 32
# Of torch before 0.4, whose call lacks two arguments at the end; the ones that count are the same.
_REBUILT = (Global("torch._utils", "_rebuild_tensor_v2"), Global("torch._utils", "_rebuild_tensor"))


@dataclass(frozen=True)
class Storage:
    """Storage of a persistent id.

    Attributes:
      kind: as torch calls it, `FloatStorage`.
      key: its name in the file.
      begin: first number of it that the tensor's offset counts from; only views of torch before 0.4 have
        another than 0.
    """

    kind: str
    key: str
    begin: int = 0


@dataclass(frozen=True)
class Tensor:
    """A tensor: a strided view of a storage. All counts are in numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def check_kinds_and_total(tensors: dict[str, Tensor], path: Path) -> None:
    """Refuses number types that NumPy lacks, and tensors that repeat one storage many times."""
    for name, tensor in tensors.items():
        if tensor.storage.kind not in DTYPES:
            raise CheckpointError(
                f"{path}: the tensor {name[:80]!r} is of the kind {tensor.storage.kind[:40]!r}, "
                "which is not read"
            )
    total = sum(
        math.prod(tensor.shape) * np.dtype(DTYPES[tensor.storage.kind]).itemsize
        for tensor in tensors.values()
    )
    # Strides of 0 let one number stand for a tensor of any size.
    if total > largest_content(path.stat().st_size):
        raise CheckpointError(
            f"{path}: its tensors have {total:,} bytes, far more than the file; it is not read"
        )


def largest_state_dict(result: Any) -> dict[str, Tensor]:
    """Returns the tensors of a dictionary or of one of its entries: the one that names most."""
    if not isinstance(result, dict):
        return {}
    # By id: several entries may be the same dictionary.
    inner = {id(value): value for value in result.values() if isinstance(value, dict)}
    named = [
        {key: value for key, value in candidate.items() if isinstance(value, Tensor)}
        for candidate in (result, *inner.values())
    ]
    # A trainer's checkpoint holds an optimizer and counters beside the model; the model has most
    # names.
    return max(named, key=len)


def strided(tensor: Tensor, numbers: np.ndarray, where: str) -> np.ndarray:
    """Copies the part of a storage that belongs to a tensor, by its strides."""
    if 0 in tensor.shape:
        return np.empty(tensor.shape, numbers.dtype)
    steps = zip(tensor.shape, tensor.strides, strict=True)
    # as_strided checks nothing: beyond the storage it would read other memory of the process.
    first = tensor.storage.begin + tensor.offset
    last = first + sum((side - 1) * step for side, step in steps)
    if last >= numbers.size:
        raise CheckpointError(f"{where} lies outside its storage: the file is damaged")
    strides = tuple(step * numbers.itemsize for step in tensor.strides)
    view = np.lib.stride_tricks.as_strided(numbers[first:], tensor.shape, strides)
    return view.copy()


def run(program: Program, on_storage: Callable[[Storage], None] = lambda storage: None) -> Any:
    """Interprets the pickle of a torch file: tensors become descriptions, other objects placeholders.

    Args:
      program: its bytes, or a stream that stands at its beginning.
      on_storage: told of every storage, those of tensors that nobody keeps too.

    Raises:
      CheckpointError: see `closed_pickle.run`.
      ValueError, IndexError: the program is malformed.
    """

    def noted(description: Any) -> Any:
        storage = _storage(description)
        if isinstance(storage, Storage):
            on_storage(storage)
        return storage

    return closed_pickle.run(program, _rebuild, storage=noted)


def _rebuild(function: Global, arguments: tuple[Any, ...]) -> Any:
    if function in _REBUILT:
        return _tensor(arguments)
    # A parameter is its tensor; whether it asks for gradients is of no use here.
    if function == Global("torch._utils", "_rebuild_parameter") and arguments:
        return arguments[0]
    return Placeholder()


def _storage(description: Any) -> Any:
    """Parses a persistent id: ('storage', kind, key, device, size), with a view in torch before 1.6.

    A whole module that was saved has ids ('module', class, its source): they are no storages.
    """
    if not isinstance(description, tuple) or len(description) < 3:
        raise ValueError("a persistent id is no storage")
    if description[0] == "module":
        # What stands in for the class is never called with anything that counts.
        return Placeholder()
    # The device is where it lay when it was saved, and the size is that of the entry.
    _, kind, key, *_ = description
    if not (isinstance(kind, Global) and isinstance(key, str)):
        raise ValueError("a storage has no kind or no key")
    view = description[5] if len(description) > 5 else None
    if view is None:
        return Storage(kind.name, key)
    # (key of the view, first number, numbers)
    if not isinstance(view, tuple) or len(view) != 3 or not _are_counts(view[1:]):
        raise ValueError("a view of a storage is none")
    return Storage(kind.name, key, view[1])


def _tensor(arguments: tuple[Any, ...]) -> Tensor:
    """Checks the arguments of a tensor: (storage, offset, shape, strides, ...)."""
    if len(arguments) < 4:
        raise ValueError("a tensor lacks its shape")
    storage, offset, shape, strides, *_ = arguments
    if not isinstance(storage, Storage):
        raise ValueError("a tensor has no storage")
    if not (_are_counts((offset,)) and _are_counts(shape) and _are_counts(strides)):
        raise ValueError("offset, shape or strides of a tensor are not whole numbers")
    if len(shape) != len(strides) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"a tensor has {len(shape)} sides and {len(strides)} strides")
    return Tensor(storage, offset, shape, strides)


def _are_counts(values: Any) -> bool:
    # By type: True is an int to isinstance. The bound keeps what NumPy is given within 64 bits.
    return isinstance(values, tuple) and all(type(n) is int and 0 <= n < 1 << 62 for n in values)
