"""The size of an image file, from its header where that is possible.

Sizes are those of the stored pixels: the EXIF orientation is ignored here as it is when images are
decoded, so that boxes, sizes and pixels agree.
"""

import io
import struct
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from rcnn_jax.errors import DataError

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_MAGIC = b"\xff\xd8"
# Start of frame: C0 to CF without C4 (Huffman tables), C8 (reserved), CC (arithmetic tables).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})


def read_image_size(path: Path) -> tuple[int, int]:
    """Returns (height, width) in pixels; a whole image is decoded only when it is no PNG or JPEG.

    Raises:
      DataError: the file is missing or is not an image.
    """
    try:
        with Path(path).open("rb") as stream:
            return _size(stream, str(path))
    except OSError as error:
        raise DataError(f"{path}: cannot read the image: {error.strerror}") from error


def encoded_image_size(data: bytes, where: str) -> tuple[int, int]:
    """Returns (height, width) of an encoded image in memory; `where` names it in the message.

    Raises:
      DataError: `data` is not an image.
    """
    return _size(io.BytesIO(data), where)


def image_format(data: bytes) -> str:
    """The format of an encoded image as TFRecords name it: `jpeg`, `png` or `` for others."""
    if data.startswith(_JPEG_MAGIC):
        return "jpeg"
    return "png" if data.startswith(_PNG_MAGIC) else ""


def _size(stream: BinaryIO, where: str) -> tuple[int, int]:
    start = stream.read(24)
    if start.startswith(_PNG_MAGIC) and len(start) == 24:
        width, height = struct.unpack(">II", start[16:24])
        size = height, width
    elif start.startswith(_JPEG_MAGIC):
        stream.seek(2)
        size = _jpeg_size(stream)
    else:
        stream.seek(0)
        size = _decoded_size(stream.read())
    if size is None or min(size) < 1:
        raise DataError(f"{where}: is not an image, or is damaged (JPEG and PNG are expected).")
    return size


def _jpeg_size(stream: BinaryIO) -> tuple[int, int] | None:
    """Walks the segments behind the start marker to the frame header."""
    while True:
        byte = stream.read(1)
        if byte != b"\xff":
            return None
        while byte == b"\xff":  # markers may be padded with any number of FF
            byte = stream.read(1)
        if not byte:
            return None
        if byte[0] in _JPEG_WITHOUT_LENGTH:
            continue
        segment = stream.read(7)
        if len(segment) < 7:
            return None
        if byte[0] in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", segment[3:])
            return height, width
        length = struct.unpack(">H", segment[:2])[0]
        stream.seek(length - 7, io.SEEK_CUR)


def _decoded_size(data: bytes) -> tuple[int, int] | None:
    if not data:
        return None
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # OpenCV raises on sizes that it does not decode
        return None
    return None if image is None else image.shape[:2]
