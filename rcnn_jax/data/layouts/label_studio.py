"""Label Studio: JSON (tasks with annotations) and JSON-MIN (one row per annotation).

    [{"id", "data": {"image": ...}, "annotations": [{"result": [...], "was_cancelled", "updated_at"}]}]
    [{"id", "image": ..., "label": [{"x", "y", "width", "height", "rectanglelabels"}], "annotator"}]

Coordinates are percent of the image. Boxes turn around their upper left corner, ellipses around their
centre. A task may have several annotations, by several people or by one who corrected: the newest counts.

Source: Label Studio documentation, "Export annotations" and "Image annotation results".
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from rcnn_jax.data.formats.image_folder import is_image_name
from rcnn_jax.data.formats.tfrecord import MOST_PIXELS
from rcnn_jax.data.layouts.collection import (
    Collection,
    Item,
    Labelled,
    Problem,
    split_of,
    used_names,
)
from rcnn_jax.data.layouts.images import FileTree, ImageIndex
from rcnn_jax.data.layouts.json_file import read_json
from rcnn_jax.data.layouts.shapes import (
    corners,
    ellipse,
    polygon,
    require_finite,
    run_lengths,
    turned_box,
)
from rcnn_jax.errors import DataError
from rcnn_jax.printable import shown

# The control tags of a labelling interface, each of which names its list after itself.
_LABELS = (
    "rectanglelabels",
    "polygonlabels",
    "brushlabels",
    "ellipselabels",
    "labels",
    "keypointlabels",
)
# Part of an upload's name in the export, and mostly not of the file that people kept.
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")


@dataclass(frozen=True)
class _Annotation:
    """Annotation of one image by one person.

    Attributes:
      where: for messages.
      image: as the export names it.
      who: the annotator, as text.
      when: date as text, which sorts.
      result: shapes.
    """

    where: str
    image: str
    who: str
    when: str
    result: Sequence[Any]


def is_label_studio(content: Any) -> bool:
    """Says whether the content of a JSON file is an export of Label Studio."""
    return (
        isinstance(content, list)
        and bool(content)
        and isinstance(content[0], dict)
        # The first one tells: an export has one form, and may have a hundred thousand tasks.
        and (_is_task(content[0]) or _is_row(content[0]))
    )


def read_label_studio(tree: FileTree, files: Sequence[Path]) -> Collection:
    """Returns the collection of exports.

    Args:
      tree: the folder.
      files: its exports.
    """
    index = ImageIndex(tree.images)
    problems: list[Problem] = []
    by_image: dict[Path, list[tuple[Path, _Annotation]]] = {}
    skipped = untouched = 0
    for path in files:
        try:
            content = read_json(path)
        except DataError as error:
            problems.append(Problem(str(path), str(error).removeprefix(f"{path}: ")))
            continue
        for number, task in enumerate(content if isinstance(content, list) else []):
            if not isinstance(task, dict):
                problems.append(Problem(f"{path}: task {number + 1}", "is no object"))
                continue
            of_task, cancelled = _annotations(task, f"{path}: task {task.get('id', number + 1)}")
            # A task that one person skipped and another labelled is labelled.
            skipped += bool(cancelled and not of_task)
            untouched += not cancelled and not of_task
            for annotation in of_task:
                image = _image(index, annotation.image, path)
                if image is None:
                    what = f"there is no image '{shown(annotation.image)}'"
                    problems.append(Problem(annotation.where, what, lacks="image"))
                else:
                    by_image.setdefault(image, []).append((path, annotation))
    left_out: Counter[str] = Counter()
    items = []
    for image, annotations in sorted(by_image.items()):
        # Not merged: two people's boxes of one object would be two objects.
        path, newest = max(annotations, key=lambda pair: pair[1].when)
        objects, size = _objects(newest, problems, left_out)
        items.append(Item(image, path, objects, size, split_of(image, tree.root)))
    return Collection(
        layout="label_studio",
        root=tree.root,
        items=tuple(items),
        class_names=used_names(items),
        problems=tuple(problems),
        choices=tuple(_choices(by_image, skipped, untouched, left_out)),
    )


def _choices(
    by_image: Mapping[Path, Sequence[tuple[Path, _Annotation]]],
    skipped: int,
    untouched: int,
    left_out: Counter[str],
) -> Iterator[str]:
    several = [
        [each for _, each in annotations]
        for annotations in by_image.values()
        if len(annotations) > 1
    ]
    if several:
        people = sum(len({each.who for each in annotations}) > 1 for annotations in several)
        yield (
            f"{len(several)} images have several annotations ({people} by several people): the newest "
            "of each counts"
        )
    if skipped or untouched:
        yield (
            f"{skipped} tasks were skipped and {untouched} have no annotation: left out, since nobody "
            "said that they hold no object"
        )
    if left_out:
        kinds = ", ".join(f"{count} {shown(kind)}" for kind, count in sorted(left_out.items()))
        yield f"regions that enclose nothing or have no label were left out: {kinds}"


def _is_task(task: Mapping[str, Any]) -> bool:
    return isinstance(task.get("data"), dict) and any(
        isinstance(task.get(key), list) for key in ("annotations", "completions")
    )


def _is_row(row: Mapping[str, Any]) -> bool:
    # No key of its own marks JSON-MIN: the columns are called as the user's interface names them.
    return "annotation_id" in row and any(_is_image(value) for value in row.values())


def _is_image(value: Any) -> bool:
    return isinstance(value, str) and is_image_name(_names(value)[0])


def _annotations(task: Mapping[str, Any], where: str) -> tuple[list[_Annotation], int]:
    """Returns the annotations of a task or row, and how many were cancelled."""
    if not _is_task(task):
        image = next((value for value in task.values() if _is_image(value)), "")
        shapes = [
            shape
            for value in task.values()
            if isinstance(value, list)
            for shape in value
            if isinstance(shape, dict)
        ]
        when = str(task.get("updated_at") or task.get("created_at") or "")
        return [_Annotation(where, image, str(task.get("annotator")), when, shapes)], 0
    image = next((value for value in task["data"].values() if _is_image(value)), "")
    # A reference without a suffix, as addresses of storages are; the index may know it all the
    # same.
    if not image and task["data"]:
        image = str(next(iter(task["data"].values())))
    annotations, cancelled = [], 0
    # Exports before version 1 say completions.
    for entry in task.get("annotations", task.get("completions", [])):
        if not isinstance(entry, dict) or not isinstance(entry.get("result"), list):
            continue
        if entry.get("was_cancelled") or entry.get("skipped"):
            cancelled += 1
            continue
        when = str(entry.get("updated_at") or entry.get("created_at") or "")
        who = entry.get("completed_by")
        # A number in most exports, an object with name and mail in those of the enterprise version.
        who = str(who.get("id", who) if isinstance(who, dict) else who)
        annotations.append(_Annotation(where, image, who, when, entry["result"]))
    return annotations, cancelled


def _names(image: str) -> list[str]:
    """Returns the file names that a reference to an image may stand for, the likeliest first."""
    plain = image.replace("\\", "/")
    try:
        parts = urlsplit(plain)
    except ValueError:  # brackets that are no address
        return [plain]
    # Local files are served as /data/local-files/?d=FOLDER/NAME.
    path = unquote(parse_qs(parts.query).get("d", [parts.path])[0])
    folder, _, name = path.rpartition("/")
    plain = _UPLOAD.sub("", name)  # uploads get eight digits in front, which exports of images keep
    return [f"{folder}/{name}", f"{folder}/{plain}"] if plain != name else [f"{folder}/{name}"]


def _image(index: ImageIndex, reference: str, near: Path) -> Path | None:
    paths = (index.named(name, near) for name in _names(reference))
    # Uploads lose blanks and brackets, and people keep their photographs under the old names.
    return next((path for path in paths if path is not None), None) or next(
        (path for path in map(index.uploaded, _names(reference)) if path is not None), None
    )


def _objects(
    annotation: _Annotation, problems: list[Problem], left_out: Counter[str]
) -> tuple[tuple[Labelled, ...], tuple[int, int] | None]:
    """Returns the objects of an annotation and the size that it states."""
    objects, size = [], None
    for number, (label, value, own) in enumerate(_regions(annotation.result, left_out), start=1):
        where = f"{annotation.where}, region {number}"
        # Every region states the size anew; an export without regions states none.
        size = own or size
        try:
            if own is None:
                raise ValueError("size")
            box, outline = _shape(value, own)
            require_finite(box)
        except (KeyError, TypeError, ValueError, OverflowError, IndexError):
            problems.append(Problem(where, f"'{shown(label)}' has no readable shape or image size"))
            continue
        objects.append(Labelled(label, box, outline, where=where))
    return tuple(objects), size


def _regions(
    result: Sequence[Any], left_out: Counter[str]
) -> Iterator[tuple[str, Mapping[str, Any], tuple[int, int] | None]]:
    """Yields label, shape and image size; a label may come in an entry of its own with the same id."""
    regions: dict[str, list[Mapping[str, Any]]] = {}
    for number, entry in enumerate(result):
        if isinstance(entry, dict):
            # A region without an id is one by itself.
            regions.setdefault(str(entry.get("id", f"#{number}")), []).append(entry)
    for entries in regions.values():
        value: dict[str, Any] = {}
        for entry in entries:
            inner = entry.get("value", entry)
            # Shape and label come in two entries where an interface has both tags; together they
            # are a region.
            value |= inner if isinstance(inner, dict) else {}
        label = next((str(value[key][0]) for key in _LABELS if _is_filled(value.get(key))), "")
        sizes = [
            (entry["original_height"], entry["original_width"])
            for entry in entries
            if _is_side(entry.get("original_height")) and _is_side(entry.get("original_width"))
        ]
        shaped = {"width", "points", "rle", "radiusX"} & value.keys()
        # A key point encloses nothing, though it has a label and a width.
        if not label or not shaped or value.get("keypointlabels"):
            left_out[str(entries[0].get("type", "without a label"))] += 1
            continue
        yield label, value, (int(sizes[0][0]), int(sizes[0][1])) if sizes else None


def _is_filled(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _is_side(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 < value < 1 << 24


def _shape(value: Mapping[str, Any], size: tuple[int, int]) -> tuple[Any, Any]:
    """Returns box and outline.

    Raises:
      ValueError: a number is none, or a mask is not of this image.
    """
    height, width = size

    def number(key: str, side: int = 100) -> float:
        percent = float(value[key])
        if not math.isfinite(percent):
            raise ValueError(key)
        return percent * side / 100

    angle = number("rotation") if value.get("rotation") else 0.0
    if "rle" in value:
        # Brushes store RGBA of the whole canvas; what is painted is in the last channel.
        mask = _decoded(value["rle"], height * width * 4).reshape(height, width, 4)[..., 3]
        return run_lengths(mask, (0, 0, height, width), size)
    if "points" in value:
        outline = polygon(
            [(float(x) * width / 100, float(y) * height / 100) for x, y in value["points"]]
        )
        if not all(map(math.isfinite, outline[0])):
            raise ValueError("points")
        return corners(outline), outline
    if "radiusX" in value:
        center, radii = (
            (number("y", height), number("x", width)),
            (
                number("radiusY", height),
                number("radiusX", width),
            ),
        )
        outline = ellipse(*center, *radii, angle)
        return corners(outline), outline
    y1, x1 = number("y", height), number("x", width)
    box = (y1, x1, y1 + number("height", height), x1 + number("width", width))
    # A box that is turned by nothing keeps its four numbers, without a polygon's rounding.
    if not angle % 360:
        return box, None
    outline = turned_box(box, angle, (y1, x1))
    return corners(outline), outline


def _decoded(data: Sequence[int], expected: int) -> np.ndarray:
    """Returns u8[expected], the bytes of RGBA pixels that a brush stores as run lengths.

    A header of 32 bits for the length, 5 for the size of a word less one, four times 4 for the sizes of
    run lengths less one; then runs: one bit whether a word is repeated, two for which size, the length
    less one, and one word or so many.

    Raises:
      ValueError: the data is of another length.
    """
    bits = "".join(f"{byte:08b}" for byte in bytes(data))
    position = 0

    def read(count: int) -> int:
        nonlocal position
        position += count
        return int(bits[position - count : position], 2)

    # Before memory is taken: the length in the file is not trusted.
    if read(32) != expected or expected > 4 * MOST_PIXELS:
        raise ValueError("length")
    word = read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    out = np.zeros(expected, np.uint8)
    reached = 0
    while reached < expected:
        repeated, size = read(1), sizes[read(2)]
        # Cut off, since the last run of a damaged mask may reach beyond the picture.
        end = min(reached + 1 + read(size), expected)
        if repeated:
            out[reached:end] = read(word) & 255
        else:
            for place_of in range(reached, end):
                out[place_of] = read(word) & 255
        reached = end
    return out
