"""Reading the tensors of a PyTorch file without torch and without running what the file says.

A `.pth` is a zip archive: `data.pkl` describes the objects, `data/<key>` are the raw storages. A
pickle is a program; unpickling would run it. Here a small interpreter follows the opcodes that only
build containers and numbers, rebuilds tensors itself, and turns every other object into an inert
placeholder. Nothing named in the file is ever imported or called.
"""

import pickletools
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from rcnn_jax.errors import CheckpointError

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


@dataclass(frozen=True)
class _Global:
    """A name the file refers to; never looked up."""

    module: str
    name: str


@dataclass(frozen=True)
class _Storage:
    """What a persistent id says: raw numbers under `data/<key>`."""

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
        with zipfile.ZipFile(path) as archive:
            return _read_archive(archive, path)
    except zipfile.BadZipFile as error:
        raise CheckpointError(
            f"{path}: is not a zip archive as torch writes since version 1.6; "
            "load it there and save its state_dict again, or convert it to .safetensors"
        ) from error


def _read_archive(archive: zipfile.ZipFile, path: Path) -> dict[str, np.ndarray]:
    names = set(archive.namelist())
    program = next((name for name in names if name.endswith("/data.pkl")), None)
    if program is None:
        raise CheckpointError(f"{path}: holds no data.pkl, so torch.save did not write it")
    folder = program.removesuffix("data.pkl")
    order = archive.read(folder + "byteorder") if folder + "byteorder" in names else b"little"
    try:
        tensors = _largest_state_dict(run(archive.read(program)))
        storages: dict[_Storage, np.ndarray] = {}
        for tensor in tensors.values():
            if tensor.storage not in storages:
                data = archive.read(f"{folder}data/{tensor.storage.key}")
                numbers = np.frombuffer(data, _DTYPES[tensor.storage.kind])
                swap = order.strip() == b"big"
                storages[tensor.storage] = numbers.byteswap() if swap else numbers
        arrays = {
            name: _array(tensor, storages[tensor.storage]) for name, tensor in tensors.items()
        }
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: is damaged or not a torch file: {error}") from error
    if not arrays:
        raise CheckpointError(
            f"{path}: holds no named tensors; save the state_dict of the model, not the model"
        )
    return arrays


def _largest_state_dict(result: Any) -> dict[str, _Tensor]:
    if not isinstance(result, dict):
        return {}
    candidates = [result, *(value for value in result.values() if isinstance(value, dict))]
    named = [
        {key: value for key, value in candidate.items() if isinstance(value, _Tensor)}
        for candidate in candidates
    ]
    return max(named, key=len)


def _array(tensor: _Tensor, numbers: np.ndarray) -> np.ndarray:
    """A copy of the tensor's part of its storage, with its strides."""
    steps = zip(tensor.shape, tensor.strides, strict=True)
    last = tensor.offset + sum((side - 1) * step for side, step in steps)
    if 0 in tensor.shape:
        return np.empty(tensor.shape, numbers.dtype)
    if min(tensor.offset, *tensor.strides, 0) < 0 or last >= numbers.size:
        raise ValueError("a tensor lies outside its storage")
    strides = tuple(step * numbers.itemsize for step in tensor.strides)
    view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides)
    return view.copy()


def run(program: bytes) -> Any:
    """Returns what a pickle builds, tensors as descriptions, other objects as placeholders.

    Raises:
      CheckpointError: an opcode that torch.save does not write.
      ValueError, IndexError: the program is malformed.
    """
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for opcode, argument, _ in pickletools.genops(program):
        name = opcode.name
        if name in ("PROTO", "FRAME"):
            continue
        if name == "STOP":
            return stack.pop()
        if name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        else:
            _step(name, argument, stack)
    raise ValueError("the program does not end")


def _step(name: str, argument: Any, stack: list[Any]) -> None:
    """Applies one opcode to the stack."""
    if name in _VALUES:
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
        stack.append(tuple(_pop_to_mark(stack)))
    elif name in _SMALL_TUPLES:
        count = _SMALL_TUPLES[name]
        stack[-count:] = [tuple(stack[-count:])]
    elif name == "APPEND":
        item = stack.pop()
        stack[-1].append(item)
    elif name == "APPENDS":
        items = _pop_to_mark(stack)
        stack[-1].extend(items)
    elif name == "SETITEM":
        key, value = stack.pop(-2), stack.pop()
        _set_items(stack[-1], [key, value])
    elif name == "SETITEMS":
        items = _pop_to_mark(stack)
        _set_items(stack[-1], items)
    elif name == "GLOBAL":
        stack.append(_Global(*argument.split(" ", 1)))
    elif name == "STACK_GLOBAL":
        attribute, module = stack.pop(), stack.pop()
        stack.append(_Global(module, attribute))
    elif name == "BINPERSID":
        _, kind, key, *_ = stack.pop()
        stack.append(_Storage(kind.name, key))
    elif name in ("REDUCE", "NEWOBJ"):
        arguments, function = stack.pop(), stack.pop()
        stack.append(_rebuild(function, arguments))
    elif name == "BUILD":
        # Attributes of an object, such as the _metadata of a state dict: of no interest.
        stack.pop()
    else:
        raise CheckpointError(f"holds the pickle opcode {name}, which torch.save does not write")


def _pop_to_mark(stack: list[Any]) -> list[Any]:
    position = len(stack) - 1
    while stack[position] is not _MARK:
        position -= 1
        if position < 0:
            raise IndexError("no mark on the stack")
    items = stack[position + 1 :]
    del stack[position:]
    return items


def _set_items(target: Any, items: list[Any]) -> None:
    """Puts pairs into a dictionary; keys that are not text name no tensor and are left out."""
    if isinstance(target, dict):
        target.update(
            (key, value)
            for key, value in zip(items[::2], items[1::2], strict=True)
            if isinstance(key, str)
        )


def _rebuild(function: Any, arguments: Any) -> Any:
    if function == _Global("collections", "OrderedDict"):
        return dict(*arguments)
    if function == _Global("torch._utils", "_rebuild_tensor_v2"):
        storage, offset, shape, strides, *_ = arguments
        return _Tensor(storage, offset, tuple(shape), tuple(strides))
    if function == _Global("torch._utils", "_rebuild_parameter"):
        return arguments[0]
    return _Placeholder()
