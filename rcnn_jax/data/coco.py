"""COCO annotation files (`instances_*.json`), checked when they are loaded.

Boxes are `x y width height` in pixels, here as in the file; masks are described by `segmentation`
and made by `coco_masks`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rcnn_jax.errors import DataError

_SHOWN_PROBLEMS = 10
_LARGEST_SIDE = (
    1 << 20
)  # pixels; anything longer is a mistake, and masks of it would fill the memory


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
      area: pixels of the mask, or of the box where the file does not say.
      crowd: the file's `iscrowd`.
      segmentation: polygons, an RLE, or None; not yet checked.
    """

    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float
    crowd: bool
    segmentation: Any = field(repr=False)


@dataclass(frozen=True)
class CocoDataset:
    """The content of one annotation file.

    Attributes:
      path: the file, for messages.
      images: in the order of the file.
      annotations: image id -> annotations in the order of the file; images without objects have ().
      categories: category id -> name, sorted by id.
    """

    path: Path
    images: tuple[CocoImage, ...]
    annotations: Mapping[int, tuple[CocoAnnotation, ...]]
    categories: Mapping[int, str]

    @classmethod
    def load(cls, path: Path) -> "CocoDataset":
        """Reads and checks an annotation file.

        Raises:
          DataError: the file is missing, is not JSON or not COCO, has no image, or its parts
            contradict each other: duplicate ids, annotations of unknown images or categories,
            values of a wrong type or not finite. Up to ten problems are listed together.
        """
        path = Path(path)
        content = _read_json(path)
        problems: list[str] = []
        images = _checked(content["images"], "image", _image, problems)
        categories = _checked(content["categories"], "category", _category, problems)
        names = {item_id: name for item_id, name in sorted(categories.items())}
        annotations = _checked(content["annotations"], "annotation", _annotation, problems)
        of_image: dict[int, list[CocoAnnotation]] = {item_id: [] for item_id in images}
        for item in annotations.values():
            if item.image_id not in of_image:
                problems.append(f"annotation {item.id}: there is no image {item.image_id}")
                continue
            if item.category_id not in names:
                problems.append(f"annotation {item.id}: there is no category {item.category_id}")
            of_image[item.image_id].append(item)
        if not content["images"]:
            problems.append("'images' is empty")
        _raise_together(path, problems)
        ordered = {item_id: tuple(items) for item_id, items in of_image.items()}
        return cls(path, tuple(images.values()), ordered, names)

    def require_positive_categories(self) -> None:
        """Checks that no category has id 0 or less: Mask R-CNN keeps 0 for background.

        Raises:
          DataError: one has.
        """
        wrong = [
            f"{item_id} ('{name}')" for item_id, name in self.categories.items() if item_id < 1
        ]
        if wrong:
            raise DataError(
                f"{self.path}: category id {', '.join(wrong)}: ids of categories begin with 1 for "
                "Mask R-CNN, 0 is the background. Add 1 to all category ids of the file."
            )


def _read_json(path: Path) -> dict[str, list]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot read the annotations: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not a text file in UTF-8.") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}:{error.colno}: is not JSON: {error.msg}") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(
                f"{path}: has no list '{key}'; a COCO annotation file has the lists 'images', "
                "'annotations' and 'categories'."
            )
    return content


def _checked(entries: Sequence, noun: str, parse, problems: list[str]) -> dict[int, Any]:
    """Parses entries into id -> value and adds what is wrong with them to `problems`."""
    parsed = {}
    for position, entry in enumerate(entries):
        entry_id = entry.get("id") if isinstance(entry, dict) else None
        if not _is_int(entry_id):
            problems.append(f"{noun} number {position}: has no whole number as 'id'")
        elif entry_id in parsed:
            problems.append(f"{noun} {entry_id}: this id occurs more than once")
        else:
            try:
                parsed[entry_id] = parse(entry)
            except (KeyError, TypeError, ValueError) as error:
                what = f"has no {error}" if isinstance(error, KeyError) else str(error)
                problems.append(f"{noun} {entry_id}: {what}")
    return parsed


def _image(entry: dict) -> CocoImage:
    name, height, width = entry["file_name"], entry["height"], entry["width"]
    if not isinstance(name, str) or not name:
        raise ValueError(f"'file_name' is {name!r}")
    for side in (height, width):
        if not _is_int(side) or not 0 < side <= _LARGEST_SIDE:
            raise ValueError(f"its size is {width!r} x {height!r} pixels")
    return CocoImage(entry["id"], name, height, width)


def _category(entry: dict) -> str:
    name = entry["name"]
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"'name' is {name!r}")
    return name


def _annotation(entry: dict) -> CocoAnnotation:
    bbox = entry["bbox"]
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(_is_finite(side) for side in bbox):
        raise ValueError(f"'bbox' is {bbox!r}; expected four finite numbers x, y, width, height")
    area = entry.get("area", bbox[2] * bbox[3])
    if not _is_finite(area):
        raise ValueError(f"'area' is {area!r}; expected a finite number")
    crowd = entry.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise ValueError(f"'iscrowd' is {crowd!r}; expected 0 or 1")
    x, y, width, height = (float(side) for side in bbox)
    return CocoAnnotation(
        id=entry["id"],
        image_id=entry["image_id"],
        category_id=entry["category_id"],
        bbox=(x, y, width, height),
        area=float(area),
        crowd=bool(crowd),
        segmentation=entry.get("segmentation"),
    )


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _raise_together(path: Path, problems: list[str]) -> None:
    if not problems:
        return
    shown = "\n".join(f"  {problem}" for problem in problems[:_SHOWN_PROBLEMS])
    rest = len(problems) - _SHOWN_PROBLEMS
    more = f"\n  and {rest} more" if rest > 0 else ""
    noun = "problem" if len(problems) == 1 else "problems"
    raise DataError(f"{path}: {len(problems)} {noun} in the annotations:\n{shown}{more}")
