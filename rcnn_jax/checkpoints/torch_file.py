"""PyTorch weight files, read without torch and without running their pickle.

A `.pth` is a zip archive: `data.pkl` describes the objects, `data/<key>` are the raw storages. A
pickle is a program; unpickling would run it. Here a small interpreter follows the opcodes that only
build containers and numbers, rebuilds tensors itself, and turns every other object into an inert
placeholder. Nothing named in the file is ever imported or called.

Results are checked where they are built: offset and shape of a tensor are whole numbers, a storage has a
name and a known kind. Two bounds keep a forged program from running for hours or filling the memory:
opcodes, and bytes of all tensors against those of the file.
"""

import math
import pickletools
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from rcnn_jax.checkpoints.archive import Archive, largest_content
from rcnn_jax.errors import CheckpointError
from rcnn_jax.printable import reason

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
_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_INTEGERS = ("BININT", "BININT1", "BININT2", "LONG1")
_TEXTS = ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
_VALUES = (*_INTEGERS, *_TEXTS, "BINFLOAT", "BINBYTES", "SHORT_BINBYTES")
_SMALL_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MAX_DIMENSIONS = 32
MOST_WORK = 1_000_000
"""Opcodes and copied items of one program; a model of a thousand tensors needs 60,000."""
_MOST_PROGRAM_BYTES = 64 << 20


@dataclass(frozen=True)
class _Global:
    """A global name in the file; never imported."""

    module: str
    name: str


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


class _Placeholder:
    """An object that is neither a container, a number nor a tensor."""


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
    programs = sorted(name for name in archive.names if name.endswith("/data.pkl"))
    if not programs:
        raise CheckpointError(f"{path}: holds no data.pkl, so torch.save did not write it")
    folder = programs[0].removesuffix("data.pkl")
    order = folder + "byteorder"
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
    """Interprets a pickle: tensors become descriptions, other objects placeholders.

    Raises:
      CheckpointError: an opcode that torch.save does not write.
      ValueError, IndexError: the program is malformed.
    """
    if len(program) > _MOST_PROGRAM_BYTES:
        raise CheckpointError(f"its data.pkl has {len(program):,} bytes, which no model needs")
    machine = _Machine()
    for opcode, argument, _ in _opcodes(program):
        machine.spend(1)
        if opcode == "STOP":
            return machine.pop()
        machine.step(opcode, argument)
    raise ValueError("the program does not end")


def _opcodes(program: bytes) -> Iterator[tuple[str, Any, int | None]]:
    for opcode, argument, position in pickletools.genops(program):
        yield opcode.name, argument, position


class _Machine:
    """Stack machine of the pickle opcodes that torch.save writes."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._work = MOST_WORK

    def spend(self, work: int) -> None:
        """Counts work.

        Raises:
          CheckpointError: the program has done more than any model needs.
        """
        self._work -= work
        if self._work < 0:
            raise CheckpointError(f"its data.pkl needs over {MOST_WORK:,} steps, as no model does")

    def pop(self) -> Any:
        """Pops the top of the stack."""
        return self._stack.pop()

    def step(self, name: str, argument: Any) -> None:
        """Applies one opcode."""
        stack = self._stack
        if name in ("PROTO", "FRAME"):
            return
        if name in ("BINPUT", "LONG_BINPUT"):
            # The object itself, no copy: pickles build containers by storing them first and filling
            # them later.
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            if argument not in self._memo:
                raise ValueError("the program remembers what it never stored")
            stack.append(self._memo[argument])
        elif name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_TUPLE":
            stack.append(())
        elif name == "TUPLE":
            stack.append(tuple(self._pop_to_mark()))
        elif name in _SMALL_TUPLES:
            items = [stack.pop() for _ in range(_SMALL_TUPLES[name])]
            stack.append(tuple(reversed(items)))
        elif name == "APPEND":
            item = stack.pop()
            _extend(stack[-1], [item])
        elif name == "APPENDS":
            items = self._pop_to_mark()
            _extend(stack[-1], items)
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _set_items(stack[-1], [key, value])
        elif name == "SETITEMS":
            items = self._pop_to_mark()
            _set_items(stack[-1], items)
        elif name == "GLOBAL":
            module, _, attribute = argument.partition(" ")
            stack.append(_Global(module, attribute))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            if not (isinstance(module, str) and isinstance(attribute, str)):
                raise ValueError("a name in the program is no text")
            stack.append(_Global(module, attribute))
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, function = stack.pop(), stack.pop()
            stack.append(self._rebuild(function, arguments))
        elif name == "BUILD":
            # Attributes of an object, such as the _metadata of a state dict, are not needed.
            stack.pop()
        else:
            raise CheckpointError(
                f"holds the pickle opcode {name}, which torch.save does not write"
            )

    def _pop_to_mark(self) -> list[Any]:
        items = []
        while (item := self._stack.pop()) is not _MARK:
            items.append(item)
        items.reverse()
        return items

    def _rebuild(self, function: Any, arguments: Any) -> Any:
        # Nothing is called here, whatever the name: three functions are imitated, any other result
        # is inert.
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            return _Placeholder()
        if function == _Global("collections", "OrderedDict"):
            pairs = arguments[0] if arguments else []
            if isinstance(pairs, dict):
                pairs = list(pairs.items())
            if not isinstance(pairs, list) or any(len(p) != 2 for p in map(_sequence, pairs)):
                raise ValueError("an ordered dictionary is not made of pairs")
            self.spend(len(pairs))
            entries: dict[str, Any] = {}
            _set_items(entries, [item for pair in pairs for item in pair])
            return entries
        if function == _Global("torch._utils", "_rebuild_tensor_v2"):
            return _tensor(arguments)
        if function == _Global("torch._utils", "_rebuild_parameter") and arguments:
            return arguments[0]
        return _Placeholder()


def _sequence(value: Any) -> list[Any] | tuple[Any, ...]:
    return value if isinstance(value, list | tuple) else ()


def _storage(description: Any) -> _Storage | _Placeholder:
    """Parses the persistent id of a storage: ('storage', kind, key, device, size)."""
    if not isinstance(description, tuple) or len(description) < 3:
        raise ValueError("a persistent id is no storage")
    _, kind, key, *_ = description
    if not (isinstance(kind, _Global) and isinstance(key, str)):
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
    return isinstance(values, tuple) and all(type(n) is int and 0 <= n < 1 << 62 for n in values)


def _extend(target: Any, items: list[Any]) -> None:
    if not isinstance(target, list):
        raise ValueError("something is appended to what is no list")
    target.extend(items)


def _set_items(target: Any, items: list[Any]) -> None:
    """Sets pairs of a dictionary; keys that are not text name no tensor and are left out."""
    if len(items) % 2:
        raise ValueError("a dictionary has a key without a value")
    if isinstance(target, dict):
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(key, str):
                target[key] = value
