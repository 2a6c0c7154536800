"""NumPy archives of untrusted origin: {name: array}, nothing unpickled.

`numpy.load` allocates the size that a header states before it reads a byte of the array. Here the header
is compared with the bytes of the member.
"""

import io
import math
import tokenize
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from rcnn_jax.checkpoints.archive import Archive
from rcnn_jax.errors import CheckpointError

_NUMBERS = "fiub"
# Version 3 differs by names of fields in UTF-8, which arrays of plain numbers do not have.
_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_MAX_DIMENSIONS = 32


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Returns the numeric arrays of an archive; others are left out.

    Args:
      path: a file that `numpy.savez` or `numpy.savez_compressed` wrote.

    Raises:
      CheckpointError: not such a file, damaged, or it holds pickled objects.
    """
    arrays = {}
    with Archive(path, ".npz of plain arrays") as archive:
        for member in sorted(archive.names):
            if member.endswith(".npy"):
                array = _array(archive.read(member), f"{path}: {member!r}")
                if array.dtype.kind in _NUMBERS:
                    arrays[member.removesuffix(".npy")] = array
    return arrays


def read_npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Returns (shape, Fortran order, dtype) of an array and leaves the stream at its numbers.

    Args:
      stream: content of a `.npy` file, at its start.

    Raises:
      ValueError: NumPy did not write it. NumPy's own words are about its parser and are not repeated.
    """
    try:
        version = npy.read_magic(stream)
        if version in _READERS:
            return _READERS[version](stream)
    # NumPy evaluates the header as a literal of Python, hence the exceptions of a tokenizer.
    except (
        ValueError,
        TypeError,
        SyntaxError,
        tokenize.TokenError,
        RecursionError,
        MemoryError,
        OverflowError,
        EOFError,
    ) as error:
        raise ValueError("its header cannot be read") from error
    raise ValueError(f"its format is of version {version[0]}.{version[1]}")


def _array(data: bytes, where: str) -> np.ndarray:
    stream = io.BytesIO(data)
    try:
        shape, fortran, dtype = read_npy_header(stream)
    except ValueError as error:
        raise CheckpointError(f"{where} is no array as NumPy writes them: {error}") from error
    if dtype.hasobject:
        raise CheckpointError(
            f"{where} holds pickled objects. They are programs and are not run; save plain arrays"
        )
    start = stream.tell()
    sound = len(shape) <= _MAX_DIMENSIONS and all(type(n) is int and n >= 0 for n in shape)
    if not sound or math.prod(shape) * dtype.itemsize != len(data) - start:
        raise CheckpointError(
            f"{where} is damaged: it states {str(dtype)[:40]}{str(list(shape))[:80]} and has "
            f"{len(data) - start:,} bytes"
        )
    if dtype.itemsize == 0:
        return np.empty(0, dtype)
    # A copy: the buffer is read-only, misaligned by the header, and holds the bytes of the member
    # too.
    array = np.frombuffer(data, dtype, offset=start).copy()
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
