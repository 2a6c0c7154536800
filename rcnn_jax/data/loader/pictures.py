"""Image arguments of the library: files, named or open, bytes, arrays, PIL images.

PIL is not imported: its images are known by their methods.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np

from rcnn_jax.data.loader.images import read_image
from rcnn_jax.errors import DataError

Picture: TypeAlias = Any
"""An image file (str, Path), the bytes of one or a file opened for them, a PIL image, or an array
u8[h w 3] in RGB."""

_DEEP_MODES = ("I", "F")
"""Modes of PIL whose pixels have no fixed range; I;16 and its kin begin alike."""


def as_pictures(images: Picture | Iterable[Picture]) -> list[Picture]:
    """Returns the pictures of an argument that is one or holds several.

    Args:
      images: a picture; or a list, an array u8[n h w 3] or another iterable of pictures.

    Raises:
      DataError: it is neither.
    """
    if is_picture(images):
        return [images]
    if isinstance(images, dict) or not isinstance(images, Iterable):
        raise DataError(f"found {_called(images)} instead of pictures: {_EXPECTED}")
    try:
        # A list at once, as generators are read once and pictures are counted before they are run.
        return list(images)
    except TypeError as error:  # a 0-d array has __iter__, which raises
        raise DataError(f"found {_called(images)} instead of pictures: {_EXPECTED}") from error


def read_picture(image: Picture, channel_order: str) -> np.ndarray:
    """Returns a picture as u8[h w c].

    Args:
      image: see `Picture`.
      channel_order: `rgb`, `bgr` (c = 3) or `l` (c = 1, grey).

    Raises:
      DataError: it is no picture, or its file cannot be read.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(Path(image), channel_order)
    if isinstance(image, bytes | bytearray | memoryview):
        return read_image(bytes(image), channel_order)
    if _is_file(image):
        return read_image(_content(image), channel_order)
    pixels = _rgb(image)
    if channel_order == "l":
        return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None]
    return pixels[..., ::-1] if channel_order == "bgr" else pixels


_EXPECTED = "expected image files, the bytes of some, PIL images, or arrays uint8[h w 3] in RGB"


def _rgb(image: Any) -> np.ndarray:
    """Returns the u8[h w 3] pixels of a PIL image or an array."""
    if _is_pil(image):
        # PIL would cut such values at 255 without a word.
        if image.mode.startswith(_DEEP_MODES):
            raise DataError(
                f"a PIL image of mode {image.mode} has no fixed range: convert it to RGB"
            )
        try:
            return np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:  # pixels are read only now
            raise DataError(f"a PIL image that cannot be read: {error}") from error
    if not hasattr(image, "__array__"):
        raise DataError(f"found {_called(image)}, {_EXPECTED}")
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise DataError(
            f"found {pixels.dtype}{list(pixels.shape)}, expected uint8[h w 3] in RGB"
            + _advice(pixels)
        )
    if not pixels.size:
        raise DataError(f"found uint8{list(pixels.shape)}, a picture without pixels")
    return pixels


def _advice(pixels: np.ndarray) -> str:
    """Returns the conversion of a usual other array layout, for the message."""
    if pixels.ndim == 2:
        return ": repeat a grey image with np.stack([image] * 3, axis=-1)"
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        return ": repeat a grey image with np.repeat(image, 3, axis=-1)"
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        return ": leave the opacity out with image[..., :3]"
    if pixels.ndim == 3 and pixels.shape[0] == 3 != pixels.shape[2]:
        return ": bring channels to the end with image.transpose(1, 2, 0)"
    if pixels.ndim == 4:
        return ": a batch is no picture; give it alone, or its pictures one by one"
    if pixels.ndim == 3 and np.issubdtype(pixels.dtype, np.floating) and pixels.size:
        scale = " * 255" if pixels.max() <= 1 else ""
        return f": convert with (image{scale}).round().astype(np.uint8)"
    return ""


def is_picture(images: Any) -> bool:
    """Says whether an argument is one picture rather than several."""
    if isinstance(images, str | os.PathLike | bytes | bytearray | memoryview):
        return True
    if _is_pil(images) or _is_file(images):  # a file would give its lines
        return True
    return hasattr(images, "__array__") and getattr(images, "ndim", 0) in (2, 3)


def _is_pil(image: Any) -> bool:
    return all(hasattr(image, name) for name in ("convert", "mode", "getbands", "tobytes"))


def _is_file(image: Any) -> bool:
    return hasattr(image, "read") and not hasattr(image, "__array__")


def _content(file: Any) -> bytes:
    """Returns the rest of an open file; an upload is one."""
    try:
        data = file.read()
    except (OSError, ValueError) as error:  # ValueError: it is closed, or no text
        raise DataError(f"found {_called(file)} that cannot be read: {error}") from error
    if not isinstance(data, bytes):
        raise DataError(f"found {_called(file)} opened for text: open it with mode 'rb'")
    return data


def _called(value: Any) -> str:
    """Names a value of the wrong kind, briefly."""
    if value is None:
        return "None"
    shape = getattr(value, "shape", None)
    kind = type(value).__name__
    return f"{kind} {list(shape)}" if isinstance(shape, tuple) else kind
