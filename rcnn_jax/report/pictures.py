"""Thumbnails for pages: a picture made small, with boxes and outlines drawn on it."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from rcnn_jax.image_file import encode_image

Color = tuple[int, int, int]
QUALITY = 70
"""Of the JPEG: 5 to 25 kB a thumbnail, so that sixty of them fit into a mail."""
_FAR = 9_999.0  # OpenCV overflows beyond 16 bits


@dataclass(frozen=True, eq=False)
class Mark:
    """Mark of an object on a picture: a box or outlines.

    Attributes:
      box: (y1, x1, y2, x2) in pixels of the picture.
      color: RGB.
      width: of the line in pixels of the thumbnail.
      rings: i32[k 2] (x, y) outlines in pixels of the picture; where there are any, no box is drawn.
    """

    box: tuple[float, float, float, float]
    color: Color
    width: int = 1
    rings: Sequence[np.ndarray] = ()


def thumbnail(
    image: np.ndarray,
    marks: Sequence[Mark],
    side: int,
    crop: tuple[float, float, float, float] | None = None,
) -> bytes:
    """Returns a picture as a JPEG whose longer side is at most `side`.

    Args:
      image: u8[h w 3], RGB.
      marks: drawn in this order.
      side: pixels.
      crop: (y1, x1, y2, x2), the part to show; clipped to the picture. None for all of it.
    """
    top, left, bottom, right = _window(image, crop)
    part = image[top:bottom, left:right]
    height, width = part.shape[:2]
    # Crops of small objects are enlarged, four times at most: more shows nothing that is there.
    scale = min(side / max(height, width), 4.0 if crop else 1.0)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = np.ascontiguousarray(cv2.resize(part, size, interpolation=way))
    for mark in marks:
        if len(mark.rings):
            rings = [_moved(ring, scale, top, left) for ring in mark.rings]
            cv2.polylines(small, rings, True, mark.color, mark.width, cv2.LINE_AA)
            continue
        corners = np.array(mark.box, np.float64).reshape(2, 2)[:, ::-1]
        (x1, y1), (x2, y2) = _moved(corners, scale, top, left).tolist()
        cv2.rectangle(small, (x1, y1), (x2, y2), mark.color, mark.width)
    return encode_image(small, ".jpg", quality=QUALITY, name="a thumbnail")


def around(
    boxes: Sequence[tuple[float, float, float, float]], margin: float = 1.0
) -> tuple[float, float, float, float]:
    """Returns the window around boxes, wider by a multiple of its longer side on every side."""
    y1, x1 = np.min([box[:2] for box in boxes], axis=0)
    y2, x2 = np.max([box[2:] for box in boxes], axis=0)
    more = margin * max(y2 - y1, x2 - x1, 8.0)
    return float(y1 - more), float(x1 - more), float(y2 + more), float(x2 + more)


def _window(
    image: np.ndarray, crop: tuple[float, float, float, float] | None
) -> tuple[int, int, int, int]:
    height, width = image.shape[:2]
    if crop is None:
        return 0, 0, height, width
    top = int(np.clip(crop[0], 0, height - 1))
    left = int(np.clip(crop[1], 0, width - 1))
    return (
        top,
        left,
        int(np.clip(np.ceil(crop[2]), top + 1, height)),
        int(np.clip(np.ceil(crop[3]), left + 1, width)),
    )


def _moved(points: np.ndarray, scale: float, top: int, left: int) -> np.ndarray:
    moved = (np.asarray(points, np.float64) - (left, top)) * scale
    return np.rint(np.clip(moved, -_FAR, _FAR)).astype(np.int32)
