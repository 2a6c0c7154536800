"""Entries of a COCO annotation file: one image, category or annotation, field by field.

Scripts of all kinds write these files, so every field is checked by type and range, and a whole number
may be written 3.0. `coco` reads whole files and checks that their entries agree.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rcnn_jax.data.formats.tfrecord import MOST_PIXELS
from rcnn_jax.printable import shown_value

_LARGEST_ID = (1 << 63) - 1  # ids are 64-bit integers in TFRecords
_FARTHEST = float(1 << 24)  # pixels are whole numbers in float32 up to here


@dataclass(frozen=True, slots=True)
class CocoImage:
    """An image: id, file name relative to the image folder, height and width in pixels."""

    id: int
    file_name: str
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class CocoAnnotation:
    """One object or, when `crowd`, a region of many.

    Attributes:
      id: unique in the file.
      image_id: the image it lies in.
      category_id: a key of `CocoDataset.categories`.
      bbox: (x, y, width, height) in pixels, finite; may be empty or reach beyond the image.
      area: pixels of the mask, or of the box where the file has none.
      crowd: the file's `iscrowd`.
      segmentation: polygons of at least three points each, or an RLE of the size of the image; None
        when the file was loaded without masks.
    """

    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float
    crowd: bool
    segmentation: Any = field(repr=False)


def parse_entries(
    entries: Sequence, noun: str, parse: Callable[[dict, int], Any], problems: list[str]
) -> dict[int, Any]:
    """Parses entries into id -> value.

    Args:
      entries: a list of the file.
      noun: what one is, for messages.
      parse: (entry, its id) -> value; raises KeyError for what is absent, ValueError for the rest.
      problems: gets a sentence for every entry that cannot be used, so that all are reported together.
    """
    parsed = {}
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            problems.append(
                f"{noun} number {position}: is {shown_value(entry)}, not an object {{...}}"
            )
            continue
        try:
            entry_id = _whole(entry, "id")
        except (KeyError, ValueError) as error:
            problems.append(f"{noun} number {position}: {_what(error)}")
            continue
        if entry_id in parsed:
            problems.append(f"{noun} {entry_id}: this id occurs more than once")
            continue
        try:
            parsed[entry_id] = parse(entry, entry_id)
        except (KeyError, ValueError) as error:
            problems.append(f"{noun} {entry_id}: {_what(error)}")
    return parsed


def _what(error: KeyError | ValueError) -> str:
    return f"has no {error}" if isinstance(error, KeyError) else str(error)


def parse_image(entry: dict, item_id: int) -> CocoImage:
    """Returns an image; see `parse_entries` for what it raises."""
    name = _text(entry, "file_name")
    height, width = entry["height"], entry["width"]
    rows, columns = _as_whole(height) or 0, _as_whole(width) or 0
    if min(rows, columns) < 1 or rows * columns > MOST_PIXELS:
        raise ValueError(f"its size is {shown_value(width)} x {shown_value(height)} pixels")
    return CocoImage(item_id, name, rows, columns)


def parse_category(entry: dict, _: int) -> str:
    """Returns the name of a category; see `parse_entries` for what it raises."""
    return _text(entry, "name")


def parse_annotation(entry: dict, item_id: int) -> CocoAnnotation:
    """Returns an annotation, its segmentation unchecked; see `parse_entries` for what it raises."""
    bbox = entry["bbox"]
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(_is_finite(side) for side in bbox):
        raise ValueError(
            f"'bbox' is {shown_value(bbox)}; expected four finite numbers x, y, width, height"
        )
    x, y, width, height = (float(side) for side in bbox)
    if max(abs(x), abs(y), abs(width), abs(height)) > _FARTHEST:
        raise ValueError(f"'bbox' is {shown_value(bbox)}, which is outside any image")
    # Optional: COCO's evaluation of sizes needs it, and many tools leave it out.
    area = entry.get("area")
    if area is None:
        area = max(width, 0.0) * max(height, 0.0)
    if not _is_finite(area) or not 0 <= area <= _FARTHEST**2:
        raise ValueError(f"'area' is {shown_value(area)}; expected a number of pixels, 0 or more")
    crowd = entry.get("iscrowd")
    crowd = 0 if crowd is None else crowd
    if not isinstance(crowd, int | float) or crowd not in (0, 1):
        raise ValueError(f"'iscrowd' is {shown_value(crowd)}; expected 0 or 1")
    return CocoAnnotation(
        id=item_id,
        image_id=_whole(entry, "image_id"),
        category_id=_whole(entry, "category_id"),
        bbox=(x, y, width, height),
        area=float(area),
        crowd=bool(crowd),
        segmentation=entry.get("segmentation"),
    )


def has_area(item: CocoAnnotation, image: CocoImage) -> bool:
    """Checks whether a box covers a part of its image."""
    x, y, w, h = item.bbox
    right, bottom = min(x + w, image.width), min(y + h, image.height)
    return right > max(x, 0) and bottom > max(y, 0)


def _text(entry: dict, key: str) -> str:
    """Returns a text fit for file names and tables.

    Raises:
      KeyError: it is absent.
      ValueError: it is something else.
    """
    value = entry[key]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"'{key}' is {shown_value(value)}; expected text")
    if "\0" in value:
        raise ValueError(f"'{key}' is {shown_value(value)}: it holds a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"'{key}' is {shown_value(value)}: it is not UTF-8") from error
    return value


def _whole(entry: dict, key: str) -> int:
    """Returns a whole number; 1.0, which JSON made from tables often has, counts as one.

    Raises:
      KeyError: it is absent.
      ValueError: it is something else.
    """
    value = entry[key]
    number = _as_whole(value)
    if number is None:
        if isinstance(value, str) and value.strip().lstrip("-").isdecimal():
            raise ValueError(
                f"'{key}' is {shown_value(value)}, text where a whole number belongs: write it without "
                "quotes"
            )
        raise ValueError(f"'{key}' is {shown_value(value)}; expected a whole number")
    if not 0 <= number <= _LARGEST_ID:
        raise ValueError(f"'{key}' is {shown_value(value)}; ids are 0 or more and fit 64 bits")
    return number


def _as_whole(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of 400 digits
        return False
