"""COCO annotation files (`instances_*.json`), checked when they are loaded.

    file -> coco_entries -> CocoDataset.load -> conversion | training | validation | evaluation

Every command reads annotations here, so a file that passes for training passes for validation, and its
errors are reported before any work begins. Boxes are `x y width height` in pixels, as in the file;
`coco_entries` parses single entries, `coco_masks` makes masks of `segmentation`.
"""

import json
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rcnn_jax.data.findings import (
    CORNERS,
    NO_OUTLINE,
    SAME_NAME,
    SHORT_PART,
    UNUSED_BACKGROUND,
    Finding,
    Tally,
)
from rcnn_jax.data.formats.coco_entries import (
    CocoAnnotation,
    CocoImage,
    has_area,
    parse_annotation,
    parse_category,
    parse_entries,
    parse_image,
)
from rcnn_jax.data.formats.coco_masks import checked_segmentation
from rcnn_jax.errors import DataError
from rcnn_jax.printable import shown, shown_value
from rcnn_jax.text_file import read_text

_SHOWN_PROBLEMS = 10


@dataclass(frozen=True)
class CocoDataset:
    """The content of one annotation file.

    Attributes:
      path: the file, for messages.
      images: in the order of the file.
      annotations: image id -> annotations in the order of the file; images without objects have ().
      categories: category id -> name, sorted by id.
      findings: omissions, and names that two categories share.
    """

    path: Path
    images: tuple[CocoImage, ...]
    annotations: Mapping[int, tuple[CocoAnnotation, ...]]
    categories: Mapping[int, str]
    findings: tuple[Finding, ...] = ()

    @classmethod
    def load(cls, path: Path, *, masks: bool) -> "CocoDataset":
        """Reads and checks an annotation file.

        Args:
          path: the file.
          masks: check segmentations too; otherwise they are dropped.

        Raises:
          DataError: the file is missing, is not JSON or not COCO, has no image, or its parts
            contradict each other: ids or image files that come twice, annotations of unknown images
            or categories, values of a wrong type or not finite, segmentations that do not fit their
            image. Up to ten problems are listed together.
        """
        dataset, problems = cls.examine(path, masks=masks)
        _raise_together(dataset.path, problems)
        return dataset

    @classmethod
    def examine(cls, path: Path, *, masks: bool | None) -> tuple["CocoDataset", list[str]]:
        """Returns the usable part of a file, and one sentence for everything else.

        Args:
          path: the file.
          masks: as of `load`; None checks the segmentations that there are and misses none.

        Raises:
          DataError: the file is missing, or is no COCO annotation file.
        """
        path = Path(path)
        content = _read_json(path)
        problems: list[str] = []
        tally = Tally()
        images = parse_entries(content["images"], "image", parse_image, problems)
        categories = parse_entries(content["categories"], "category", parse_category, problems)
        # Sorted by id: the order of classes must not depend on the tool that wrote the file.
        names = {item_id: name for item_id, name in sorted(categories.items())}
        # Not of annotations: a validation set without objects is a sound file.
        problems += [f"'{key}' is empty" for key in ("images", "categories") if not content[key]]
        # Objects of an image that could not be read would add a second problem of the same cause.
        whole = not problems
        annotations = parse_entries(
            content["annotations"], "annotation", parse_annotation, problems
        )
        of_image: dict[int, list[CocoAnnotation]] = {item_id: [] for item_id in images}
        for item in annotations.values():
            image = images.get(item.image_id)
            if image is None:
                if whole:
                    problems.append(f"annotation {item.id}: there is no image {item.image_id}")
                continue
            if item.category_id not in names:
                if whole:
                    problems.append(
                        f"annotation {item.id}: there is no category {item.category_id}"
                    )
                continue
            try:
                wanted = item.segmentation if masks is None else masks
                # Dropped otherwise: a parsed outline is the largest part of an annotation.
                kept = _with_mask(item, image, path, tally) if wanted else _without_mask(item)
            except ValueError as error:
                problems.append(
                    f"annotation {item.id} of image {image.id} ({shown(image.file_name)}): {error}"
                )
                continue
            if kept is not None:
                of_image[image.id].append(kept)
        problems += _repeated_files(images.values())
        _note_corners(path, images, annotations.values(), tally)
        ordered = {item_id: tuple(items) for item_id, items in of_image.items()}
        return cls(path, tuple(images.values()), ordered, names, tally.findings), problems

    @classmethod
    def load_instances(cls, path: Path, *, masks: bool) -> "CocoDataset":
        """Reads an annotation file by the rules of Mask R-CNN, whose background owns category 0.

        A category 0 without objects, which Roboflow writes, is left out.

        Raises:
          DataError: as `load`, or category 0 has objects.
        """
        dataset = cls.load(path, masks=masks)
        used = {item.category_id for items in dataset.annotations.values() for item in items}
        low = {item_id: name for item_id, name in dataset.categories.items() if item_id < 1}
        categories = {i: name for i, name in dataset.categories.items() if i not in low}
        wrong = [f"{i} ('{shown(low[i])}')" for i in low if i in used or not categories]
        if wrong:
            raise DataError(
                f"{dataset.path}: category id {', '.join(wrong)}: ids of categories begin with 1 for "
                "Mask R-CNN, 0 is the background. Add 1 to all category ids of the file."
            )
        tally = Tally()
        tally.extend(dataset.findings)
        for item_id, name in low.items():
            tally.add(UNUSED_BACKGROUND, f"{path}: category {item_id} ('{name}')")
        for name, ids in shared_names(categories).items():
            tally.add(
                SAME_NAME,
                f"{path}: the categories {', '.join(map(str, ids))} are all called '{name}'; they "
                "stay different classes with different ids",
            )
        return replace(dataset, categories=categories, findings=tally.findings)

    def content(self) -> dict[str, Any]:
        """Returns the kept annotations as the content of a COCO annotation file, for evaluation."""
        return {
            "images": [
                {"id": i.id, "file_name": i.file_name, "height": i.height, "width": i.width}
                for i in self.images
            ],
            "annotations": [
                {
                    "id": item.id,
                    "image_id": item.image_id,
                    "category_id": item.category_id,
                    "bbox": list(item.bbox),
                    "area": item.area,
                    "iscrowd": int(item.crowd),
                    **({} if item.segmentation is None else {"segmentation": item.segmentation}),
                }
                for items in self.annotations.values()
                for item in items
            ],
            "categories": [{"id": i, "name": name} for i, name in self.categories.items()],
        }


def unique_names(names: Mapping[int, str]) -> dict[int, str]:
    """Returns category id -> name, with the id behind names that several categories share."""
    shared = shared_names(names)
    return {i: f"{name} (id {i})" if name in shared else name for i, name in names.items()}


def shared_names(names: Mapping[int, str]) -> dict[str, list[int]]:
    """Returns name -> category ids of the names that several categories share."""
    ids: dict[str, list[int]] = {}
    for item_id, name in names.items():
        ids.setdefault(name, []).append(item_id)
    return {name: same for name, same in ids.items() if len(same) > 1}


def _read_json(path: Path) -> dict[str, list]:
    text = read_text(path, "annotation file")
    if not text.strip():
        raise DataError(f"{path}: the annotation file is empty")
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}:{error.colno}: is not JSON: {error.msg}") from error
    except ValueError as error:  # int() refuses numbers of more than 4300 digits
        raise DataError(f"{path}: holds a number that is too long for an id or a pixel") from error
    except RecursionError as error:
        raise DataError(f"{path}: is nested too deeply for a COCO annotation file") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(
                f"{path}: has no list '{key}'; a COCO annotation file has the lists 'images', "
                "'annotations' and 'categories'."
            )
    return content


def _with_mask(
    item: CocoAnnotation, image: CocoImage, path: Path, tally: Tally
) -> CocoAnnotation | None:
    """Returns the annotation with a segmentation that can be decoded; None where no part is left.

    Raises:
      ValueError: there is none, or it is damaged.
    """
    where = f"{path}: annotation {item.id}"
    if not item.segmentation and not has_area(item, image):
        return _without_mask(item)  # every reader drops it for its box; one finding is enough
    segmentation, parts = checked_segmentation(item.segmentation, image.height, image.width)
    if not segmentation:
        tally.add(NO_OUTLINE, where)
        return None
    x, y, box_width, box_height = item.bbox
    reach = max(x + box_width, y + box_height)
    # A true outline of one pixel also lies in [0, 1]; its box does then too.
    if isinstance(segmentation, list) and max(map(max, segmentation)) <= 1 < reach - 1:
        raise ValueError(
            f"its polygon {shown_value(segmentation[0])} looks normalised; expected pixels, as its "
            f"bbox has them"
        )
    tally.add(SHORT_PART, where, parts)
    return item if not parts else replace(item, segmentation=segmentation)


def _without_mask(item: CocoAnnotation) -> CocoAnnotation:
    return item if item.segmentation is None else replace(item, segmentation=None)


def _note_corners(
    path: Path, images: Mapping[int, CocoImage], items: Iterable[CocoAnnotation], tally: Tally
) -> None:
    """Counts boxes beyond their images, if all of the file are inside as (x1, y1, x2, y2).

    That is how other tools write boxes; most of them would be left out, the rest would be too large.
    """
    beyond = []
    for item in items:
        if item.image_id not in images:
            continue
        image, (x, y, width, height) = images[item.image_id], item.bbox
        # One box that cannot be corners settles it: the file is as it should be. One pixel of
        # tolerance, for tools that count pixels from 1.
        if not (x < width <= image.width + 1 and y < height <= image.height + 1):
            return
        if x + width > image.width + 1 or y + height > image.height + 1:
            beyond.append(item.id)
    if beyond:
        tally.add(CORNERS, f"{path}: annotation {beyond[0]}", len(beyond))


def _repeated_files(images: Iterable[CocoImage]) -> list[str]:
    """Lists the files of several images: an object of one would be background of the other."""
    first: dict[str, int] = {}
    problems = []
    for image in images:
        file = posixpath.normpath(image.file_name)  # ./a.jpg is a.jpg
        if first.setdefault(file, image.id) != image.id:
            problems.append(
                f"image {image.id}: its file {shown(image.file_name)} is that of image "
                f"{first[file]} too"
            )
    return problems


def _raise_together(path: Path, problems: list[str]) -> None:
    if not problems:
        return
    shown = "\n".join(f"  {problem}" for problem in problems[:_SHOWN_PROBLEMS])
    # Ten, as one cause often has thousands of lines, and the last lines hide the first.
    rest = len(problems) - _SHOWN_PROBLEMS
    more = f"\n  and {rest} more" if rest > 0 else ""
    noun = "problem" if len(problems) == 1 else "problems"
    raise DataError(f"{path}: {len(problems)} {noun} in the annotations:\n{shown}{more}")
