"""One pass over the pixels: what every image is, in a few bytes that all later checks use."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from rcnn_jax.diagnose.records import Record
from rcnn_jax.errors import DataError

SIDE = 16
"""Side of the small grey copy that near duplicates are confirmed with."""

_HASH = 8
_AHEAD = 64


@dataclass(frozen=True)
class Scan:
    """Properties of an image file.

    Attributes:
      fault: why it cannot be read; the rest is empty then.
      size: (height, width) as stored.
      orientation: EXIF's.
      low_range: 16 bits a pixel, of which the upper byte says next to nothing.
      digest: of its bytes.
      difference: 64 bits of a difference hash: equal for copies at another size or quality.
      small: u8[16 16], grey.
    """

    fault: str = ""
    size: tuple[int, int] = (0, 0)
    orientation: int = 1
    low_range: bool = False
    digest: bytes = b""
    difference: int = 0
    small: np.ndarray | None = None


Track = Callable[[Iterable[Scan], int, str], Iterator[Scan]]


def scan_all(records: Sequence[Record], threads: int, track: Track) -> list[Scan]:
    """Returns a scan per record, in their order.

    Args:
      records: the images.
      threads: that decode; OpenCV works outside Python's lock.
      track: shows progress.
    """
    with ThreadPoolExecutor(threads) as pool:
        # `map` submits everything at once; its results are small, its pixels are dropped in the thread.
        return list(track(pool.map(scan, records), len(records), "looking at images"))


def scan(record: Record) -> Scan:
    """Returns the properties of one image file."""
    try:
        with warnings.catch_warnings():
            # What decoders remark (EXIF, colour profiles) is a finding here, or none; not a line on
            # the screen.
            warnings.simplefilter("ignore")
            pixels = record.read()
    except DataError as error:
        return Scan(fault=str(error).removeprefix(f"{record.name}: "))
    grey = cv2.cvtColor(pixels.image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return Scan(
        size=pixels.image.shape[:2],
        orientation=pixels.orientation,
        low_range=pixels.low_range,
        digest=pixels.digest,
        difference=_difference_hash(grey),
        small=small,
    )


def _difference_hash(grey: np.ndarray) -> int:
    """Returns whether each of 8 x 8 cells is darker than its right neighbour, as 64 bits.

    Source: N. Krawetz, "Kind of Like That", 2013 (the dHash of many image libraries).
    """
    # By area: bilinear sampling of a large image reads a few of its pixels, and a copy at another
    # size others.
    cells = cv2.resize(grey, (_HASH + 1, _HASH), interpolation=cv2.INTER_AREA).astype(np.int16)
    bits = (cells[:, 1:] > cells[:, :-1]).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
