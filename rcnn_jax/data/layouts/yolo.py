"""YOLO: one text file per image; class number, then a box or a polygon in fractions of the image.

    class cx cy w h            box
    class x1 y1 x2 y2 x3 y3 .. polygon, at least three points: an odd number of columns above five

Names stand in a `data.yaml` (list or map), in `classes.txt` or `obj.names`. Numbers count from 0; files
that never use 0 but use the number behind the last name count from 1, which is seen from the files.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from rcnn_jax.data.formats.image_size import read_image_size
from rcnn_jax.data.layouts.collection import (
    Collection,
    Item,
    Labelled,
    Problem,
    split_of,
    used_names,
)
from rcnn_jax.data.layouts.images import FileTree, ImageIndex
from rcnn_jax.errors import DataError
from rcnn_jax.printable import shown
from rcnn_jax.text_file import read_text

_LONGEST_YAML = 1 << 20
NAME_LISTS = ("classes.txt", "obj.names", "predefined_classes.txt", "_darknet.labels")


def read_yolo(tree: FileTree, labels: Sequence[Path]) -> Collection:
    """Returns the collection of label files.

    Args:
      tree: the folder.
      labels: its label files.
    """
    index = ImageIndex(tree.images)
    problems: list[Problem] = []
    rows: list[tuple[Path, Path, list[tuple[str, list[float]]]]] = []
    used: set[Path] = set()
    for path in labels:
        image = index.of_stem(path.stem, path)
        if image is None:
            problems.append(Problem(str(path), "no image has this name", lacks="image"))
            continue
        parsed, faults = _numbers(path)
        problems += faults
        rows.append((path, image, parsed))
        used.add(image)
    # After all label files: whether numbers count from 0 or 1 is seen from all of them together.
    names, told = _names(tree, problems)
    first, choices = _numbering(rows, names, told)
    items = [
        Item(
            image,
            path,
            _objects(parsed, image, names, first, problems),
            split=split_of(image, tree.root),
        )
        for path, image, parsed in rows
    ]
    folders = {image.parent for image in used}
    items += [  # in YOLO an image without a file has no objects, by its own rule
        Item(image, image.with_suffix(".txt"), (), split=split_of(image, tree.root))
        for image in tree.images
        if image not in used and image.parent in folders
    ]
    items.sort(key=lambda item: item.image)
    return Collection(
        layout="yolo",
        root=tree.root,
        items=tuple(items),
        class_names=tuple(names[number] for number in sorted(names)) or used_names(items),
        problems=tuple(problems),
        choices=tuple(choices),
    )


def is_yolo_line(columns: Sequence[str]) -> bool:
    """Says whether columns are a class number with a box or a polygon in fractions."""
    if len(columns) != 5 and (len(columns) < 7 or len(columns) % 2 == 0):
        return False
    try:
        number, *values = map(float, columns)
    except ValueError:
        return False
    # Half an image of tolerance: boxes that reach beyond the image are a finding, pixels are no YOLO.
    return (
        math.isfinite(number)
        and number == int(number) >= 0
        and all(-0.5 <= value <= 1.5 for value in values)
    )


def _numbers(path: Path) -> tuple[list[tuple[str, list[float]]], list[Problem]]:
    """Returns (where, columns) of the lines, and what is no line of YOLO."""
    try:
        lines = read_text(path, "label file").splitlines()
    except DataError as error:
        return [], [Problem(str(path), str(error).removeprefix(f"{path}: "))]
    parsed, problems = [], []
    for number, line in enumerate(lines, start=1):
        where, columns = f"{path}:{number}", line.split()
        if not columns:
            continue
        if is_yolo_line(columns):
            parsed.append((where, [float(column) for column in columns]))
        else:
            problems.append(
                Problem(
                    where,
                    f"'{shown(line[:60])}' is no object: expected a class number and fractions "
                    "(cx cy w h, or a polygon x1 y1 x2 y2 x3 y3 ...)",
                )
            )
    return parsed, problems


def _objects(
    rows: Sequence[tuple[str, list[float]]],
    image: Path,
    names: Mapping[int, str],
    first: int,
    problems: list[Problem],
) -> tuple[Labelled, ...]:
    if not rows:
        return ()
    try:
        height, width = read_image_size(image)
    except DataError as error:  # fractions mean nothing without it
        problems.append(Problem(str(image), str(error).removeprefix(f"{image}: ")))
        return ()
    objects = []
    for where, (number, *values) in rows:
        # A number without a name stays a class of its own; merging it with another would hide the
        # mistake.
        name = names.get(int(number) - first, f"class {int(number)}")
        if len(values) == 4:
            cx, cy, w, h = values
            box = (cy - h / 2, cx - w / 2, cy + h / 2, cx + w / 2)
            outline = None
        else:
            # The box is that of the polygon, as YOLO trains it: the format has no box beside it.
            xs, ys = values[::2], values[1::2]
            box = (min(ys), min(xs), max(ys), max(xs))
            outline = [[v for x, y in zip(xs, ys, strict=True) for v in (x * width, y * height)]]
        y1, x1, y2, x2 = box
        objects.append(
            Labelled(name, (y1 * height, x1 * width, y2 * height, x2 * width), outline, where=where)
        )
    return tuple(objects)


def _names(tree: FileTree, problems: list[Problem]) -> tuple[dict[int, str], str]:
    """Returns number -> name from 0, and the file that says so."""
    # The YAML file first: lists of names lie about from earlier exports and are not kept up to date.
    for path in (*tree.of(".yaml"), *tree.of(".yml")):
        content = _yaml(path)
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, list):
            return {number: str(name) for number, name in enumerate(names)}, path.name
        if isinstance(names, dict):
            try:
                return {int(number): str(name) for number, name in names.items()}, path.name
            except (TypeError, ValueError):
                problems.append(Problem(str(path), "'names' is a map whose keys are no numbers"))
    for path in (p for files in tree.others.values() for p in files if p.name in NAME_LISTS):
        try:
            lines = read_text(path, "list of names").splitlines()
        except DataError:
            continue
        return {n: line.strip() for n, line in enumerate(lines) if line.strip()}, path.name
    return {}, ""


def _yaml(path: Path) -> Any:
    """Returns the content of a YAML file, or None; only plain values are read from it."""
    try:
        # The safe loader makes plain values only; tags of Python objects are errors.
        return yaml.safe_load(read_text(path, "YAML file", limit=_LONGEST_YAML))
    except (DataError, yaml.YAMLError, RecursionError):
        return None


def _numbering(
    rows: Sequence[tuple[Path, Path, list[tuple[str, list[float]]]]],
    names: Mapping[int, str],
    told: str,
) -> tuple[int, list[str]]:
    """Returns the number of the first class, and the sentences that say what was decided."""
    used = {int(columns[0]) for _, _, parsed in rows for _, columns in parsed}
    polygons = sum(len(columns) > 5 for _, _, parsed in rows for _, columns in parsed)
    boxes = sum(len(columns) == 5 for _, _, parsed in rows for _, columns in parsed)
    choices = [f"{boxes} boxes and {polygons} polygons"] if polygons else []
    if not names:
        choices.append("no list of names was found: classes are called after their numbers")
        return 0, choices
    # Both signs are needed: a set that merely lacks the first class never uses 0 either.
    if used and 0 not in used and max(used) == len(names):
        choices.append(f"class numbers count from 1: 0 is never used and {max(used)} is")
        return 1, choices
    choices.append(f"class numbers count from 0, names from {told}")
    beyond = sorted(number for number in used if number not in names)
    if beyond:
        choices.append(f"class numbers without a name: {', '.join(map(str, beyond[:10]))}")
    return 0, choices
