"""Zip archives of untrusted origin: `.npz`, `.pth`, `.keras`.

Members are read into memory and never unpacked into a folder, so their names are harmless. The stated
sizes are checked before anything is unpacked: a megabyte of zip can hold a
gigabyte of zeros.
"""

import struct
import zipfile
import zlib
from pathlib import Path
from types import TracebackType

from rcnn_jax.errors import CheckpointError
from rcnn_jax.printable import reason

# zipfile knows bzip2 and lzma too; no library of weights writes them, and each is one more decoder
# that a stranger's bytes would reach.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
# Deflate shrinks zeros about a thousandfold, trained weights hardly. The free part is for small
# files that are mostly text.
_FREE, _RATIO = 64 << 20, 16
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
    KeyError,
)
"""Exceptions of zipfile for truncated, changed or forged archives."""


def largest_content(file_bytes: int) -> int:
    """Returns the largest unpacked size of a file of weights, in bytes.

    Trained weights hardly compress; those that pruning has set to zero, a few times. A larger ratio
    is meant to fill the memory.
    """
    return _FREE + _RATIO * file_bytes


class Archive:
    """A zip archive open for reading; a context manager.

    Attributes:
      names: of its members; none comes twice.
    """

    def __init__(self, path: Path, what: str):
        """Opens and checks an archive.

        Args:
          path: the file; begins every message.
          what: the expected content, for example `.npz of arrays`.

        Raises:
          CheckpointError: not a zip archive; damaged; encrypted; of an unusual
            compression; two members of one name; or far larger unpacked.
        """
        self._path, self._what = path, what
        try:
            self._archive = zipfile.ZipFile(path)
        except _DAMAGE as error:
            raise self._damaged(error) from error
        try:
            self.names = self._checked()
        except CheckpointError:
            self._archive.close()
            raise

    def __enter__(self) -> "Archive":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._archive.close()

    def read(self, name: str) -> bytes:
        """Returns the content of a member.

        Raises:
          CheckpointError: there is none of this name, or it is damaged.
        """
        if name not in self.names:
            raise CheckpointError(f"{self._path}: is no {self._what}: it holds no {name}")
        try:
            return self._archive.read(name)
        except _DAMAGE as error:
            raise self._damaged(error) from error

    def _checked(self) -> frozenset[str]:
        # file_size is a claim of the archive; zipfile stops reading there, so it bounds the memory.
        members = self._archive.infolist()
        names: set[str] = set()
        for member in members:
            # Readers disagree which of two to take; what one checks, another may not read.
            if member.filename in names:
                raise CheckpointError(
                    f"{self._path}: holds two members called {member.filename!r}, as no "
                    f"{self._what} does"
                )
            names.add(member.filename)
            if member.flag_bits & _ENCRYPTED or member.compress_type not in _METHODS:
                raise CheckpointError(
                    f"{self._path}: its member {member.filename!r} is encrypted or compressed in "
                    f"an unusual way, as no {self._what} is"
                )
        size = self._path.stat().st_size
        unpacked = sum(member.file_size for member in members)
        if unpacked > largest_content(size):
            raise CheckpointError(
                f"{self._path}: unpacks from {size:,} to {unpacked:,} bytes, which weights never "
                "do; it is not read"
            )
        return frozenset(names)

    def _damaged(self, error: BaseException) -> CheckpointError:
        return CheckpointError(f"{self._path}: is not a readable {self._what}: {reason(error)}")
