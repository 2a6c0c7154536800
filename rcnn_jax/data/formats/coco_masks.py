"""COCO segmentations: polygons and run lengths to masks, and masks to segmentations.

pycocotools decodes run lengths without checking their sum and can read beyond its memory. Every
segmentation is checked before, and run lengths are decoded here.
"""

import math
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from rcnn_jax.printable import shown_value

Rle = Any
"""A compressed run-length mask of pycocotools: dict(size=[h, w], counts=bytes)."""

_FORMS = "polygons [[x1, y1, x2, y2, x3, y3, ...], ...] or an RLE {'size', 'counts'}"


def checked_segmentation(segmentation: Any, height: int, width: int) -> tuple[Any, int]:
    """Returns a segmentation that can be decoded, and how many parts of it were left out.

    Polygon parts of fewer than three points have no area: annotation tools leave them behind when an
    outline is edited.

    Args:
      segmentation: polygons in pixels, an RLE with a list of counts, or a compressed RLE.
      height: of the image.
      width: of the image.

    Returns:
      The segmentation without those parts; [] where none is left.

    Raises:
      ValueError: the segmentation is missing, has an unknown form or does not fit the image; the
        caller adds which annotation it is.
    """
    if segmentation is None or segmentation == []:
        raise ValueError(
            f"has no segmentation; expected {_FORMS}. Boxes alone train with include_mask: False"
        )
    if isinstance(segmentation, list):
        # Mistakes of export scripts: without messages of their own, both would be "unknown form".
        if not isinstance(segmentation[0], list) and _are_numbers(segmentation):
            raise ValueError(
                "its segmentation is one flat list of numbers; polygons are lists inside a list: "
                "[[x1, y1, x2, y2, x3, y3, ...]]"
            )
        if len(segmentation) > 2 and all(map(_is_point, segmentation)):
            raise ValueError(
                "its segmentation is a list of points [x, y]; polygons are flat lists of numbers: "
                "[[x1, y1, x2, y2, x3, y3, ...]]"
            )
        kept = [part for part in segmentation if _has_points(part, height, width)]
        return kept, len(segmentation) - len(kept)
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise ValueError(f"its segmentation has an unknown form; expected {_FORMS}")
    size, counts = segmentation["size"], segmentation["counts"]
    if not isinstance(size, list | tuple) or list(size) != [height, width]:
        raise ValueError(
            f"its RLE is made for size {shown_value(size)}, the image has [height, width] = "
            f"{[height, width]}"
        )
    if isinstance(counts, str):
        counts = counts.encode("ascii", "replace")
    if isinstance(counts, list):
        counts = [int(run) if _is_whole(run) else run for run in counts]
    elif not isinstance(counts, bytes):
        raise ValueError(f"its segmentation has an unknown form; expected {_FORMS}")
    _check_runs(counts if isinstance(counts, list) else _runs(counts), height, width)
    return {"size": [height, width], "counts": counts}, 0


def segmentation_rle(segmentation: Any, height: int, width: int) -> Rle:
    """Returns the compressed RLE `{size, counts}` of a segmentation of an image of this size.

    Args:
      segmentation: see `checked_segmentation`.
      height: of the image.
      width: of the image.

    Raises:
      ValueError: as `checked_segmentation`, or no part has three points.
    """
    checked, _ = checked_segmentation(segmentation, height, width)
    if not checked:
        raise ValueError("its polygons have no part of at least three points")
    if isinstance(checked, list):
        # A union: an object in several parts is one mask.
        return coco_mask.merge(coco_mask.frPyObjects(checked, height, width))
    if isinstance(checked["counts"], list):
        return coco_mask.frPyObjects(checked, height, width)
    return checked


def segmentation_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Returns the mask u8[h w] in {0, 1} of a segmentation; see `segmentation_rle`."""
    return rle_mask(segmentation_rle(segmentation, height, width))


def rle_mask(rle: Rle) -> np.ndarray:
    """Returns the mask u8[h w] in {0, 1} of a compressed RLE whose runs fit its size."""
    height, width = rle["size"]
    runs = _runs(rle["counts"])
    values = (np.arange(len(runs)) & 1).astype(np.uint8)  # runs alternate, outside first
    # Not `coco_mask.decode`, see the module: it trusts the sum of the runs.
    return np.repeat(values, runs).reshape(width, height).T  # columns first


def mask_rle(mask: np.ndarray) -> dict:
    """Returns the compressed RLE of a mask [h w], with `counts` as text for JSON."""
    rle: Rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(mask.shape), "counts": rle["counts"].decode("ascii")}


def mask_polygons(mask: np.ndarray) -> list[list[float]] | None:
    """Returns polygons that COCO rasterises to exactly `mask`, or None when it has a hole.

    Polygons cannot have holes in COCO. The outline is traced on the mask at twice the size: it then
    runs a quarter of a pixel inside the edges of the mask and holds the centres of all its pixels.
    """
    double = cv2.resize(mask.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    outlines, hierarchy = cv2.findContours(double, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if hierarchy is None or (hierarchy[0, :, 3] >= 0).any():
        return None
    return [((outline.reshape(-1) + 0.5) / 2).tolist() for outline in outlines]


def _has_points(polygon: Any, height: int, width: int) -> bool:
    """Checks whether a polygon has three points at least.

    Raises:
      ValueError: it is no list of coordinates near the image.
    """
    if isinstance(polygon, dict) and {"size", "counts"} <= polygon.keys():
        raise ValueError("its segmentation is an RLE inside a list; write it without the list")
    if not isinstance(polygon, list) or not _are_numbers(polygon):
        raise ValueError(
            f"its polygon {shown_value(polygon)} is not a list of at least three points x1, y1, x2, "
            "y2, x3, y3"
        )
    if len(polygon) < 6:
        return False
    if len(polygon) % 2:
        raise ValueError(
            f"its polygon {shown_value(polygon)} has {len(polygon)} numbers; points x, y have an even "
            "number"
        )
    # One image size around the image is allowed: outlines may leave it. Beyond that lie units
    # other than pixels, and rasterising would take memory in proportion to the length.
    xs, ys = polygon[0::2], polygon[1::2]
    if min(xs) < -width or max(xs) > 2 * width or min(ys) < -height or max(ys) > 2 * height:
        raise ValueError(f"its polygon lies far outside the image of {width} x {height} pixels")
    return True


def _is_point(part: Any) -> bool:
    return isinstance(part, list) and len(part) == 2 and _are_numbers(part)


def _is_whole(value: object) -> bool:
    """Returns whether a float is whole: numbers that went through arrays are 3.0 in JSON."""
    return type(value) is float and value.is_integer()


def _are_numbers(values: list) -> bool:
    # By exact type: a set of types is one pass in C over outlines of millions of numbers.
    if not set(map(type, values)) <= {int, float}:  # a bool is an int to isinstance
        return False
    try:
        return all(map(math.isfinite, values))
    except OverflowError:  # a whole number of 400 digits
        return False


def _check_runs(runs: list[int] | np.ndarray, height: int, width: int) -> None:
    if isinstance(runs, list):
        fits = set(map(type, runs)) <= {int} and sum(runs) == height * width
        fits = fits and min(runs) >= 0
    else:
        fits = runs.size > 0 and runs.min() >= 0 and runs.max() <= height * width
        fits = fits and int(runs.sum()) == height * width
    if not fits:
        raise ValueError(
            f"its RLE is damaged: its runs do not add up to the {height * width} pixels of the "
            "image"
        )


def _runs(counts: bytes) -> np.ndarray:
    """The run lengths i64[n] of a compressed RLE; damaged text gives [], which fits no image.

    Five bits a byte, low ones first; from the fourth on, runs are differences to the last but one.
    """
    codes = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    damaged = np.zeros(0, np.int64)
    if not codes.size or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        return damaged
    ends = np.flatnonzero(~codes & 32)  # the last byte of every number
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() > 6:  # more than 35 bits: larger than any image
        return damaged
    shift = 5 * (np.arange(codes.size) - np.repeat(starts, ends - starts + 1))
    values = np.add.reduceat((codes & 31) << shift, starts)
    values -= np.where(codes[ends] & 16, np.int64(1) << (shift[ends] + 5), 0)
    runs = values.copy()
    runs[1::2] = np.cumsum(values[1::2])
    runs[2::2] = np.cumsum(values[2::2])
    return runs
