"""COCO segmentations: polygons and run lengths to masks, and masks to segmentations.

pycocotools decodes run lengths without looking at their sum and can read beyond its memory, so
every description is checked before it gets there, and decoding is done here.
"""

import math
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

Rle = Any
"""A compressed run-length mask of pycocotools: dict(size=[h, w], counts=bytes)."""

_FORMS = "polygons [[x1, y1, x2, y2, x3, y3, ...], ...] or an RLE {'size', 'counts'}"


def segmentation_rle(segmentation: Any, height: int, width: int) -> Rle:
    """Returns the compressed RLE `{size, counts}` of a segmentation of an image of this size.

    Args:
      segmentation: polygons in pixels, an RLE with a list of counts, or a compressed RLE.
      height: of the image.
      width: of the image.

    Raises:
      ValueError: the segmentation is missing, has an unknown form or does not fit the image; the
        caller adds which annotation it is.
    """
    if segmentation is None or segmentation == []:
        raise ValueError(f"has no segmentation; expected {_FORMS}")
    if isinstance(segmentation, list):
        for polygon in segmentation:
            _check_polygon(polygon, height, width)
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise ValueError(f"its segmentation has an unknown form; expected {_FORMS}")
    size, counts = segmentation["size"], segmentation["counts"]
    if not isinstance(size, list | tuple) or list(size) != [height, width]:
        raise ValueError(
            f"its RLE is made for size {size!r}, the image has [height, width] = {[height, width]}"
        )
    if isinstance(counts, list):
        _check_runs(counts, height, width)
        plain: Any = {"size": [height, width], "counts": counts}
        return coco_mask.frPyObjects(plain, height, width)
    if isinstance(counts, str):
        counts = counts.encode("ascii", "replace")
    if not isinstance(counts, bytes):
        raise ValueError(f"its segmentation has an unknown form; expected {_FORMS}")
    _check_runs(_runs(counts), height, width)
    return {"size": [height, width], "counts": counts}


def segmentation_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Returns the mask u8[h w] in {0, 1} of a segmentation; see `segmentation_rle`."""
    return rle_mask(segmentation_rle(segmentation, height, width))


def rle_mask(rle: Rle) -> np.ndarray:
    """Returns the mask u8[h w] in {0, 1} of a compressed RLE whose runs fit its size."""
    height, width = rle["size"]
    runs = _runs(rle["counts"])
    values = np.arange(len(runs), dtype=np.uint8) & 1  # runs alternate, outside first
    return np.repeat(values, runs).reshape(width, height).T  # columns first


def mask_rle(mask: np.ndarray) -> dict:
    """Returns the compressed RLE of a mask [h w], with `counts` as text for JSON."""
    rle: Rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(mask.shape), "counts": rle["counts"].decode("ascii")}


def mask_polygons(mask: np.ndarray) -> list[list[float]] | None:
    """Returns polygons whose rasterisation by COCO is `mask` again, or None when it has a hole.

    Polygons cannot have holes in COCO. The outline is traced on the mask at twice the size: it then
    runs a quarter of a pixel inside the edges of the mask and holds the centres of all its pixels.
    """
    double = cv2.resize(mask.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    outlines, hierarchy = cv2.findContours(double, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if hierarchy is None or (hierarchy[0, :, 3] >= 0).any():
        return None
    return [((outline.reshape(-1) + 0.5) / 2).tolist() for outline in outlines]


def _check_polygon(polygon: Any, height: int, width: int) -> None:
    numbers = isinstance(polygon, list) and all(
        isinstance(value, int | float) and math.isfinite(value) for value in polygon
    )
    if not numbers or len(polygon) < 6 or len(polygon) % 2:
        shown = f"{str(polygon)[:60]}"
        raise ValueError(
            f"its polygon {shown} is not a list of at least three points x1, y1, x2, y2, x3, y3"
        )
    # One image size around the image is allowed: outlines may leave it. Beyond that lie units
    # other than pixels, and rasterising would take memory in proportion to the length.
    xs, ys = polygon[0::2], polygon[1::2]
    if min(xs) < -width or max(xs) > 2 * width or min(ys) < -height or max(ys) > 2 * height:
        raise ValueError(f"its polygon lies far outside the image of {width} x {height} pixels")


def _check_runs(runs: list[int], height: int, width: int) -> None:
    if not all(isinstance(run, int) and run >= 0 for run in runs) or sum(runs) != height * width:
        raise ValueError(
            f"its RLE is damaged: its runs do not add up to the {height * width} pixels of the "
            "image"
        )


def _runs(counts: bytes) -> list[int]:
    """The run lengths of a compressed RLE; damaged text gives [], which fits no image.

    Five bits a byte, low ones first; from the fourth on, runs are differences to the last but one.
    """
    runs: list[int] = []
    value = shift = 0
    for byte in counts:
        code = byte - 48
        if not 0 <= code < 64:
            return []
        value |= (code & 31) << shift
        shift += 5
        if code & 32:  # more bytes follow
            continue
        if code & 16:  # negative
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    return runs if shift == 0 else []
