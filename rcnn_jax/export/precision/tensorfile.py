"""Files of calibration batches: the HDF5 tensorfile of the original, or a NumPy archive.

    HDF5    attributes count, shape; group _tensorfile_array_key__<i>, dataset _tensorfile_array_key_
    .npz    arrays batch_0, batch_1, ...

Batches are f32[b c h w] and preprocessed already. Both forms are written and read one batch at a
time. HDF5 needs h5py (extra `calibration`); a name that ends in .npz does not. Nothing is unpickled,
and no other file is read, whatever an HDF5 file refers to.
Source: docs/reference/tensorrt.md, "Tensorfile".
"""

import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rcnn_jax import optional
from rcnn_jax.checkpoints.hdf5_file import refuse_references
from rcnn_jax.checkpoints.npz_file import read_npy_header
from rcnn_jax.errors import DataError
from rcnn_jax.printable import reason

KEY = "_tensorfile_array_key_"
LARGEST_BATCH = 1 << 12
"""Images: no calibration has more at once, and a forged file may claim any number."""
Check = Callable[[int, tuple[int, ...], Any], None]
"""(number, shape, dtype) of a batch; raises when it is none for the model."""
_DAMAGES = (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError)


def write_tensorfile(path: Path, batches: Iterable[np.ndarray]) -> int:
    """Writes batches of one shape; returns their number. The file is whole or absent.

    Raises:
      DataError: the file cannot be written.
      MissingDependencyError: HDF5 is asked for and h5py is absent.
    """
    write = _write_npz if path.suffix == ".npz" else _write_hdf5
    # A name with the process in it, so that two exports do not write into one file; a killed one
    # leaves no file that the next run would take for whole.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        count = write(temporary, batches)
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return count


def read_tensorfile(path: Path, shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """Yields the batches f32[b c h w] of a tensorfile.

    Args:
      path: an existing file.
      shape: (c, h, w) of the graph's input.

    Raises:
      DataError: it is no tensorfile, is damaged, or holds batches of another shape.
      CheckpointError: its numbers lie in another file.
      MissingDependencyError: it is HDF5 and h5py is absent.
    """
    read = _read_npz if path.suffix == ".npz" else _read_hdf5
    empty = True
    for batch in read(path, lambda *entry: _check_batch(path, shape, *entry)):
        empty = False
        yield batch.astype(np.float32)
    if empty:
        raise DataError(f"{path}: holds no batch: remove the file to make it anew")


def _check_batch(
    path: Path, wanted: tuple[int, int, int], number: int, shape: tuple[int, ...], dtype: Any
) -> None:
    """Checks what a batch claims to be before memory is made for it.

    Raises:
      DataError: it is no batch for the model.
    """
    if (
        len(shape) != 4
        or shape[1:] != wanted
        or not 0 < shape[0] <= LARGEST_BATCH
        or np.dtype(dtype).kind != "f"
    ):
        raise DataError(
            f"{path}: batch {number} is {dtype}{list(shape)}, the model takes "
            f"float[batch, {', '.join(map(str, wanted))}]: remove the file to make it anew"
        )


def _h5py() -> Any:
    return optional.require("h5py", extra="calibration", purpose="a calibration file in HDF5")


def _write_hdf5(path: Path, batches: Iterable[np.ndarray]) -> int:
    count = 0
    with _h5py().File(path, "w") as file:
        for count, batch in enumerate(batches, start=1):
            file.attrs.setdefault("shape", batch.shape)
            group = file.create_group(f"{KEY}_{count - 1}")
            group.create_dataset(KEY, data=batch, compression="gzip", compression_opts=1)
        file.attrs["count"] = count
    return count


def _read_hdf5(path: Path, check: Check) -> Iterator[np.ndarray]:
    try:
        with _h5py().File(path, "r") as file:
            # HDF5 can refer to other files of the disk: an innocent name would read them.
            refuse_references(_h5py(), file, str(path))
            for number in range(int(file.attrs["count"])):
                data = file[f"{KEY}_{number}"][KEY]
                check(number, data.shape, data.dtype)
                yield np.asarray(data)
    except _DAMAGES as error:
        raise DataError(f"{path}: is no tensorfile, or is damaged: {reason(error)}") from error


def _write_npz(path: Path, batches: Iterable[np.ndarray]) -> int:
    count = 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for count, batch in enumerate(batches, start=1):
            # force_zip64: a member is streamed, and its size is not known when its header is
            # written.
            with archive.open(f"batch_{count - 1}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(batch), allow_pickle=False)
    return count


def _read_npz(path: Path, check: Check) -> Iterator[np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            for number in range(len(archive.namelist())):
                name = f"batch_{number}.npy"
                with archive.open(name) as member:
                    # The header first, through an opening of its own: what a forged file claims is
                    # refused before memory is taken for it.
                    shape, _, dtype = read_npy_header(member)
                check(number, shape, dtype)
                with archive.open(name) as member:
                    yield np.lib.format.read_array(member, allow_pickle=False)
    except (*_DAMAGES, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise DataError(
            f"{path}: is no archive of batches, or is damaged: {reason(error)}"
        ) from error
