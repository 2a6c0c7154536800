"""Pickles of NumPy arrays by name, such as detectron2's model zoo, read without running them.

    {"model": {name: array, ...}, "__author__": ..., ...}   or   {name: array, ...}

The pickle is followed by `closed_pickle`. An array in it is a call that makes an empty one and a state
that fills it; both are rebuilt here from shape, number type and bytes, each checked.
"""

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from rcnn_jax.checkpoints import closed_pickle
from rcnn_jax.checkpoints.archive import largest_content
from rcnn_jax.checkpoints.atomic import read_file
from rcnn_jax.checkpoints.closed_pickle import Array, Global, Placeholder
from rcnn_jax.checkpoints.torch_file import read_torch
from rcnn_jax.checkpoints.torch_stream import is_stream
from rcnn_jax.errors import CheckpointError
from rcnn_jax.printable import reason

# Spelled out, since np.dtype reads a small language: "O" is an array of objects.
_KINDS = frozenset("?bBhHiIlLqQefd") | {
    f"{kind}{size}" for kind, sizes in (("f", "248"), ("i", "1248"), ("u", "1248")) for size in sizes
}  # fmt: skip
_KINDS |= {"b1"}
# numpy 2 has renamed its private modules, and files keep the name of whoever wrote them.
_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
_MAX_DIMENSIONS = 32


class _Dtype(Array):
    """A number type whose byte order follows as its state."""

    def __init__(self, kind: str):
        self.dtype = np.dtype(kind)

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise ValueError("a number type has no byte order")
        if any(part is not None for part in state[2:5]):
            raise ValueError("a number type has fields")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Stored(Array):
    """An array whose shape and numbers follow as its state."""

    def __init__(self) -> None:
        self.array: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("an array has no shape, type and numbers")
        _, shape, dtype, columns_first, data = state
        self.array = _array(shape, dtype, "F" if columns_first else "C", data)


def read_pickle(path: Path) -> dict[str, np.ndarray]:
    """Returns {name: array} of a `.pkl` file: of its entry `model`, or of its largest dictionary.

    Args:
      path: a pickle of arrays; one that torch wrote is read as that.

    Raises:
      CheckpointError: not such a file, damaged, without named arrays, or a program that would do more
        than describe arrays.
    """
    data = read_file(path, "weights file")
    # torch.save takes any suffix, and people give it this one.
    if zipfile.is_zipfile(path) or is_stream(data):
        return read_torch(path)
    try:
        result = closed_pickle.run(data, _rebuild, writer="a pickle of arrays")
        arrays = _largest(result)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (ValueError, IndexError, TypeError, OverflowError, MemoryError) as error:
        raise CheckpointError(
            f"{path}: is damaged or no pickle of arrays: {reason(error)}"
        ) from error
    if not arrays:
        raise CheckpointError(
            f"{path}: holds no arrays by name; expected a dictionary of them, or one under 'model'"
        )
    if sum(array.nbytes for array in arrays.values()) > largest_content(len(data)):
        raise CheckpointError(
            f"{path}: its arrays have far more bytes than the file; it is not read"
        )
    return arrays


def _rebuild(function: Global, arguments: tuple[Any, ...]) -> Any:
    module, name = function.module, function.name
    if module in _MODULES and name == "_reconstruct":
        return _Stored()
    if module in _NUMERIC and name == "_frombuffer":  # pickles of protocol 5
        if len(arguments) != 4:
            raise ValueError("an array has no shape, type and numbers")
        data, dtype, shape, order = arguments
        stored = _Stored()
        stored.array = _array(shape, dtype, order, data)
        return stored
    if module == "numpy" and name == "dtype" and arguments:
        kind = arguments[0]
        if not isinstance(kind, str) or kind.lstrip("<>=|") not in _KINDS:
            return Placeholder()
        return _Dtype(kind)
    if name == "bytes" and module in ("__builtin__", "builtins") and not arguments:
        return b""
    if function == Global("_codecs", "encode") and arguments[1:] in (("latin1",), ("latin-1",)):
        text = arguments[0]  # how Python 3 writes bytes for Python 2
        return text.encode("latin-1") if isinstance(text, str) else Placeholder()
    return Placeholder()


def _array(shape: Any, dtype: Any, order: Any, data: Any) -> np.ndarray:
    """Returns a view of the bytes in a file."""
    if not isinstance(dtype, _Dtype):
        raise ValueError("an array is of a type that is not read")
    if isinstance(data, str):  # a string of Python 2
        data = data.encode("latin-1")
    whole = isinstance(shape, tuple) and all(type(n) is int and 0 <= n < 1 << 40 for n in shape)
    if not whole or len(shape) > _MAX_DIMENSIONS or not isinstance(data, bytes | bytearray):
        raise ValueError("shape or numbers of an array are none")
    # Python's integers do not overflow: a forged shape fails here and not inside of NumPy.
    if math.prod(shape) * dtype.dtype.itemsize != len(data):
        raise ValueError(f"an array of the shape {list(shape)[:8]} has {len(data):,} bytes")
    # A view: the bytes were made by the interpreter and belong to nobody else.
    array = np.frombuffer(data, dtype.dtype).reshape(shape, order="F" if order == "F" else "C")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _largest(result: Any) -> dict[str, np.ndarray]:
    if not isinstance(result, dict):
        return {}
    inner = {id(value): value for value in result.values() if isinstance(value, dict)}
    candidates = [
        {
            name: value.array
            for name, value in candidate.items()
            if isinstance(value, _Stored) and value.array is not None
        }
        for candidate in (result, *inner.values())
    ]
    return max(candidates, key=len)
