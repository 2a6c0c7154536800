"""Image decoding: bytes of a file to pixels, with limits checked before memory is taken.

    path --open_image, read_bytes--> bytes --decode--> u8[h w c]

Size and kind are read from the header before anything is unpacked: half a megabyte can unpack to
gigabytes. Losses on the way to 8-bit colours (opacity, depth, further pages, rotation) are reported
through `logging`, once per kind, with the first image concerned.

Images of 16 bits keep their upper byte: 65535 becomes 255.
"""

import logging
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from rcnn_jax.data.formats.image_header import (
    ImageHeader,
    ends_early,
    foreign_format,
    header_of,
    tiff_as_stored,
)
from rcnn_jax.errors import DataError

MAX_PIXELS = 178_956_970
"""Pixels of the largest image that is read; RCNN_JAX_MAX_PIXELS sets another number.

Twice the size from which PIL warns of a decompression bomb, where it refuses: a file that opens
there opens here.
"""

MAX_PIXELS_VARIABLE = "RCNN_JAX_MAX_PIXELS"
_MOST_PIXELS = 2**30  # OpenCV's own limit
_MOST_BYTES_PER_PIXEL = 16
_LOW_RANGE = 64
"""Levels of 256; a 16-bit image that stays below holds data of fewer bits."""

_ADVICE = (
    "PNG, JPEG, BMP, TIFF, WebP and GIF are read; replace it or remove it together with its labels"
)

logger = logging.getLogger(__name__)
_reported: set[str] = set()
_reported_lock = threading.Lock()


def pixel_limit() -> int:
    """Returns how many pixels an image may have.

    Raises:
      DataError: the environment variable is no such number.
    """
    text = os.environ.get(MAX_PIXELS_VARIABLE, "").strip()
    if not text:
        return MAX_PIXELS
    if text.isascii() and text.isdecimal() and len(text) < 12 and 0 < int(text) <= _MOST_PIXELS:
        return int(text)
    raise DataError(
        f"{MAX_PIXELS_VARIABLE} = {text[:40]!r}: expected a number of pixels from 1 to {_MOST_PIXELS}"
    )


def open_image(path: Path, name: str) -> BinaryIO:
    """Opens an image file; a named pipe or device is an error, not a wait.

    Args:
      path: the file.
      name: what messages call it.

    Raises:
      DataError: it is missing, unreadable, empty, too large or no ordinary file.
    """
    try:
        # Without O_NONBLOCK, opening a named pipe waits for its writer. The check that it is a file
        # follows on the open descriptor: between a check of the path and open() it may change.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        hint = "; check the folder and the ending of the images in the spec"
        raise DataError(
            f"{name}: cannot read the image: {reason}" + hint * isinstance(error, FileNotFoundError)
        ) from error
    state = os.fstat(handle)
    problem = ""
    if not stat.S_ISREG(state.st_mode):
        problem = "is a folder" if stat.S_ISDIR(state.st_mode) else "is no ordinary file"
    elif not state.st_size:
        problem = "is empty (0 bytes)"
    # By the largest image there may be, stored without compression: a file beyond it is no image,
    # and reading it would take its length in memory.
    elif state.st_size > max(_MOST_BYTES_PER_PIXEL * pixel_limit(), 1 << 26):
        problem = f"is too large for an image: {state.st_size:,} bytes"
    if problem:
        os.close(handle)
        raise DataError(f"{name}: {problem}; an image is expected")
    return os.fdopen(handle, "rb")


def read_bytes(path: Path, name: str) -> bytes:
    """Returns the content of an image file; see `open_image`."""
    with open_image(path, name) as stream:
        try:
            return stream.read()
        except OSError as error:
            raise DataError(f"{name}: cannot read the image: {error.strerror}") from error


def check_header(header: ImageHeader | None, start: bytes, name: str) -> ImageHeader:
    """Returns the header of an image that may be unpacked.

    Args:
      header: of `read_header`.
      start: first bytes of the image, for the message when there is no header.
      name: what messages call the image.

    Raises:
      DataError: there is no header, or it states more pixels than are read.
    """
    if header is None:
        other = foreign_format(start) or "not an image, or is damaged" if start else "empty"
        raise DataError(f"{name}: is {other}; {_ADVICE}")
    limit = pixel_limit()
    if header.height * header.width > limit:
        raise DataError(
            f"{name}: its header states {header.height}x{header.width} pixels (height x width), "
            f"more than the {limit:,} that are read, because a small file can unpack to more than "
            f"the memory holds; cut the image into tiles, or set {MAX_PIXELS_VARIABLE}"
        )
    return header


def decode(data: bytes, channel_order: str, name: str) -> np.ndarray:
    """Decodes an image to u8[h w c] in its stored orientation.

    Args:
      data: content of the file.
      channel_order: `rgb`, `bgr` (c = 3) or `l` (c = 1, grey).
      name: what messages call the image.

    Raises:
      DataError: the bytes are no image, are damaged, state too many pixels or hold real numbers.
    """
    header = check_header(header_of(data), data[:64], name)
    # A conversion to 8 bits would have to invent the range.
    if header.floating or header.bits > 16:
        raise DataError(
            f"{name}: pixels of {header.bits}-bit {'real' if header.floating else 'whole'} numbers "
            "have no fixed range; save the image with 8 or 16 bits"
        )
    if ends_early(data, header):  # decoders take memory for a promised length before they read
        raise DataError(
            f"{name}: the file ends early ({header.format}, {len(data)} bytes); {_ADVICE}"
        )
    if header.format == "tiff" and header.orientation != 1:
        data = tiff_as_stored(data)
    # IMREAD_COLOR also converts palettes, grey, 16 bits and alpha: the same three channels for all.
    pixels = unpack(data, cv2.IMREAD_GRAYSCALE if channel_order == "l" else cv2.IMREAD_COLOR)
    # The header may lie in either direction: memory and canvas were planned for its size.
    if pixels is None or pixels.shape[:2] != (header.height, header.width):
        raise DataError(
            f"{name}: {len(data)} bytes that do not decode as an image: the file is damaged "
            f"({header.format}); {_ADVICE}"
        )
    _warn_of_losses(header, data, pixels, name)
    if channel_order == "rgb":
        # In place: OpenCV copies a view with reversed channels at every later call.
        cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def unpack(data: bytes, flags: int) -> np.ndarray | None:
    """Decodes bytes whose header was checked with OpenCV; None for damaged ones."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # for some damage OpenCV raises instead of returning None
        return None


def _warn_of_losses(header: ImageHeader, data: bytes, pixels: np.ndarray, name: str) -> None:
    if header.orientation != 1:
        _warn_once(
            "orientation",
            f"{name}: EXIF orientation {header.orientation} is ignored, here and elsewhere: pixels "
            "are taken as stored, which is what labels and sizes refer to",
        )
    if header.alpha and header.format == "tiff" and header.bits == 8 and header.channels == 4:
        # libtiff multiplies colours by the opacity before OpenCV gets them.
        _warn_once(
            "alpha of TIFF",
            f"{name}: opacity darkens the colours, here and elsewhere; save TIFF images without it",
        )
    elif header.alpha:
        _warn_once("alpha", f"{name}: opacity is ignored, here and elsewhere")
    if header.frames:
        _warn_once(
            "frames", f"{name}: holds several pictures; the first is read, here and elsewhere"
        )
    if header.cmyk:
        _warn_once(
            "cmyk",
            f"{name}: CMYK colours become RGB without a colour profile, here and elsewhere; save "
            "such images as RGB where colours matter",
        )
    # Looked at in the 8-bit pixels: decoding again is for the message of the first such image only.
    if has_low_range(header, pixels):
        _warn_once("range", lambda: _low_range(data, name))


def has_low_range(header: ImageHeader, pixels: np.ndarray) -> bool:
    """Says whether an image has 16 bits a pixel, of which the upper byte says next to nothing.

    Args:
      header: of the file.
      pixels: u8[h w c], as `decode` gives them.
    """
    return header.bits == 16 and bool(pixels.size) and bool(pixels.max() < _LOW_RANGE)


def _low_range(data: bytes, name: str) -> str:
    stored = unpack(data, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    low, high = (0, 0) if stored is None else (int(stored.min()), int(stored.max()))
    return (
        f"{name}: 16-bit values from {low} to {high} become the levels {low >> 8} to {high >> 8} "
        "of 255, because the upper byte is kept: data of fewer bits must be scaled to the range of "
        "16 bits before (12-bit data: times 16), here and elsewhere"
    )


def _warn_once(kind: str, text: str | Callable[[], str]) -> None:
    """Logs the first message of a kind; thousands of images of one kind have one cause."""
    with _reported_lock:
        if kind in _reported:
            return
        _reported.add(kind)
    logger.warning("%s", text if isinstance(text, str) else text())
