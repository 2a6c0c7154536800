"""Checks of image files that decode nothing: present, not empty, not cut off.

A missing or cut file is cheap to find before a run and costs hours in the middle of it.
"""

import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from rcnn_jax.data.formats.near_file import near_file
from rcnn_jax.errors import DataError
from rcnn_jax.printable import shown

_FORMATS = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}
_SHOWN = 10
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_JPEG_MAGIC = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
_JPEG_SCAN = 0xDA
_TAIL = 1 << 16


def same_format(suffix: str, other: str) -> bool:
    """Checks whether two extensions name one format: in any case, `.jpg` as `.jpeg`."""
    first, second = suffix.lower(), other.lower()
    return _FORMATS.get(first, first) == _FORMATS.get(second, second)


def require_text_name(path: Path) -> None:
    """Checks that a file name is UTF-8: records and messages hold text.

    Raises:
      DataError: it is not, as names in latin-1 are.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{shown(path)}: the name of the file is not UTF-8: rename it, for example with "
            "convmv -f latin1 -t utf8"
        ) from error


def require_files(paths: Iterable[Path], where: str) -> None:
    """Checks that image files exist and are not empty; up to ten are listed together.

    Args:
      paths: of the images.
      where: the list or file that names them, for the message.

    Raises:
      DataError: one is missing or has no bytes.
    """
    problems = [(path, what) for path in paths if (what := _fault(path))]
    if not problems:
        return
    listed = "\n".join(
        f"  {shown(path)}: {what}{shown(near_file(path))}" for path, what in problems[:_SHOWN]
    )
    more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    noun = "image" if len(problems) == 1 else "images"
    raise DataError(f"{where}: {len(problems)} {noun} cannot be used:\n{listed}{more}")


def require_whole(path: Path) -> None:
    """Checks that a PNG or JPEG file reaches its own end, which a download cut in half does not.

    Raises:
      DataError: it ends before, or cannot be read.
    """
    try:
        with Path(path).open("rb") as stream:
            whole = _is_whole(stream)
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot read the image: {error.strerror}") from error
    if not whole:
        raise DataError(f"{shown(path)}: the image is cut off before its end: copy the file again")


def _fault(path: Path) -> str:
    try:
        state = Path(path).stat()
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    if not stat.S_ISREG(state.st_mode):
        return "is not a file"
    return "" if state.st_size else "is empty (0 bytes)"


def _is_whole(stream: BinaryIO) -> bool:
    start = stream.read(8)
    if start == _PNG_MAGIC:
        # One seek for nearly all files; the walk over the chunks is for those with bytes behind.
        return _ends_with(stream, _PNG_END) or _png_chunks_end(stream)
    if start.startswith(_JPEG_MAGIC):
        return _jpeg_ends(stream)
    return True


def _ends_with(stream: BinaryIO, end: bytes) -> bool:
    stream.seek(0, os.SEEK_END)
    # At least the start: a file shorter than its end marker is cut off, not an error of the seek.
    stream.seek(max(stream.tell() - len(end), 0))
    return stream.read() == end


def _png_chunks_end(stream: BinaryIO) -> bool:
    """Walks the chunks: other bytes may follow the end of the picture."""
    stream.seek(len(_PNG_MAGIC))
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":
            return len(stream.read(4)) == 4
        stream.seek(length + 4, os.SEEK_CUR)
    return False


def _jpeg_ends(stream: BinaryIO) -> bool:
    """Looks for the end marker behind the start of the scan: a thumbnail before it has its own."""
    scan = _jpeg_scan(stream)
    if scan is None:
        return False
    stream.seek(0, os.SEEK_END)
    # The tail first: most files end there, and a whole scan is megabytes.
    stream.seek(max(scan, stream.tell() - _TAIL))
    if _JPEG_END in stream.read():
        return True
    stream.seek(scan)
    return _JPEG_END in stream.read()  # phones append videos to their pictures


def _jpeg_scan(stream: BinaryIO) -> int | None:
    """The position behind the header of the first scan; None where there is none."""
    stream.seek(len(_JPEG_MAGIC))
    while True:
        byte = stream.read(1)
        if byte != b"\xff":
            return None
        while byte == b"\xff":
            byte = stream.read(1)
        if not byte:
            return None
        if byte[0] == 0x01 or 0xD0 <= byte[0] <= 0xD8:  # markers without a length
            continue
        length = stream.read(2)
        if len(length) < 2 or (size := struct.unpack(">H", length)[0]) < 2:
            return None
        stream.seek(size - 2, os.SEEK_CUR)
        if byte[0] == _JPEG_SCAN:
            return stream.tell()
