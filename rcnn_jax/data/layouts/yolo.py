"""YOLO: one text file per image; class number, then a box or a polygon in fractions of the image.

    class cx cy w h            box
    class x1 y1 x2 y2 x3 y3 .. polygon, at least three points: an odd number of columns above five
    class cx cy w h x y [v] .. box with key points, where the YAML file has a `kpt_shape`

Numbers count from 0, or as the keys of a map of names do. Files with a number that has no name, all of
whose numbers have one if 1 is taken off, count from 1 beside names that count from 0.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

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
from rcnn_jax.data.layouts.yolo_set import Description, declared_splits, described
from rcnn_jax.errors import DataError
from rcnn_jax.printable import shown
from rcnn_jax.text_file import read_text


def read_yolo(tree: FileTree, labels: Sequence[Path]) -> Collection:
    """Returns the collection of label files.

    Args:
      tree: the folder.
      labels: its label files.
    """
    index = ImageIndex(tree.images)
    description, problems = described(tree)
    rows: list[tuple[Path, Path, list[tuple[str, list[float]]]]] = []
    used: set[Path] = set()
    for path in labels:
        image = index.of_stem(path.stem, path)
        if image is None:
            problems.append(Problem(str(path), "no image has this name", lacks="image"))
            continue
        parsed, faults = _numbers(path, description.key_point_values)
        problems += faults
        rows.append((path, image, parsed))
        used.add(image)
    # After all label files: whether numbers count from 0 or 1 is seen from all of them together.
    names = description.names
    shift, choices = _numbering(rows, description)
    declared, where = declared_splits(tree, index, description)

    def split(image: Path) -> str:
        # The word of the author goes before the name of a folder.
        return declared.get(image) or split_of(image, tree.root)

    items = [
        Item(image, path, _objects(parsed, image, names, shift, problems), split=split(image))
        for path, image, parsed in rows
    ]
    folders = {image.parent for image in used}
    items += [  # in YOLO an image without a file has no objects, by its own rule
        Item(image, image.with_suffix(".txt"), (), split=split(image))
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
        choices=(*choices, *where),
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


def _numbers(
    path: Path, key_point_values: int
) -> tuple[list[tuple[str, list[float]]], list[Problem]]:
    """Returns (where, columns) of the lines without key points, and what is no line of YOLO."""
    try:
        lines = read_text(path, "label file").splitlines()
    except DataError as error:
        return [], [Problem(str(path), str(error).removeprefix(f"{path}: "))]
    parsed, problems = [], []
    for number, line in enumerate(lines, start=1):
        where, columns = f"{path}:{number}", line.split()
        if not columns:
            continue
        # Key points are fractions too, and would pass for the points of a polygon.
        if key_point_values and len(columns) == 5 + key_point_values:
            columns = columns[:5]
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
    shift: int,
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
        name = names.get(int(number) - shift, f"class {int(number)}")
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


def _numbering(
    rows: Sequence[tuple[Path, Path, list[tuple[str, list[float]]]]], description: Description
) -> tuple[int, list[str]]:
    """Returns the number of the first class, and the sentences of what was decided."""
    names, values = description.names, description.key_point_values
    used = {int(columns[0]) for _, _, parsed in rows for _, columns in parsed}
    polygons = sum(len(columns) > 5 for _, _, parsed in rows for _, columns in parsed)
    boxes = sum(len(columns) == 5 for _, _, parsed in rows for _, columns in parsed)
    choices = [f"{boxes} boxes and {polygons} polygons"] if polygons else []
    if values:
        choices.append(f"'kpt_shape' declares key points, {values} numbers a line: left out")
    if description.path is None:
        choices.append("no list of names was found: classes are called after their numbers")
        return 0, choices
    told = description.path.name
    if others := description.passed_over:
        listed = ", ".join(map(str, others[:8]))
        choices.append(f"of {len(others) + 1} YAML files with names {told} counts, not {listed}")
    unnamed = sorted(number for number in used if number not in names)
    # Both signs are needed: a set that merely lacks the first class never uses 0 either, and keys of a
    # map may begin at 1 as the numbers do.
    if unnamed and all(number - 1 in names for number in used):
        choices.append(f"class numbers count from 1: 0 is never used and {max(used)} is")
        return 1, choices
    choices.append(f"class numbers count from {min(names, default=0)}, names from {told}")
    if unnamed:
        choices.append(f"class numbers without a name: {', '.join(map(str, unnamed[:10]))}")
    return 0, choices
