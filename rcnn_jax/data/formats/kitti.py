"""KITTI label files: one object a line, 15 blank-separated columns, 16 with a score.

    class truncated occluded alpha  x1 y1 x2 y2  height width length  x y z  rotation_y  [score]

Boxes are left, top, right, bottom in pixels from 0, continuous: the width is x2 - x1. Columns 9 to
15 describe the object in space and only travel through.
Source: docs/reference/datasets.md, "KITTI labels".
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rcnn_jax.errors import DataError
from rcnn_jax.printable import shown
from rcnn_jax.text_file import read_text

_COLUMNS = 15
_LARGEST = float(2**31)
"""No pixel or metre is larger, and the float32 of the records would lose digits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KittiObject:
    """One line of a label file.

    Attributes:
      class_name: as written, no blanks.
      truncated: fraction outside the image, 0 to 1.
      occluded: 0 visible, 1 partly, 2 largely hidden, 3 unknown (-1 in `DontCare` lines).
      alpha: observation angle.
      x1: left side in pixels.
      y1: top side.
      x2: right side.
      y2: bottom side.
      dimensions: (height, width, length) in metres.
      location: (x, y, z) in metres.
      rotation_y: angle.
      score: of a detection; None in ground truth.
    """

    class_name: str
    x1: float
    y1: float
    x2: float
    y2: float
    truncated: float = 0.0
    occluded: int = 0
    alpha: float = 0.0
    dimensions: tuple[float, float, float] = (0.0, 0.0, 0.0)
    location: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation_y: float = 0.0
    score: float | None = None


def read_labels(path: Path) -> list[KittiObject]:
    """Returns the objects of a ground-truth file in the order of its lines, blank ones skipped.

    An empty file is an image without objects. Boxes without extent are returned as they are: the
    caller knows whether to skip or to complain.

    Raises:
      DataError: the file is missing or is not text, a line has not 15 columns, or a value is not a
        finite number; the message names file and line.
    """
    if not Path(path).exists():
        raise DataError(
            f"{path}: there is no such label file. Every image needs one; an empty one stands for "
            "an image without objects."
        )
    text = read_text(path, "label file")
    lines = enumerate(text.splitlines(), start=1)
    return [parse_label(line, f"{path}:{number}") for number, line in lines if line.strip()]


def parse_label(line: str, where: str) -> KittiObject:
    """Returns the object of one line; `where` names it in messages.

    Raises:
      DataError: it has not 15 columns, or a value is not a finite number.
    """
    return _parse(line.split(), where)


def write_labels(path: Path, objects: Iterable[KittiObject]) -> None:
    """Writes a label file: 16 columns for objects with a score, 15 for others.

    Numbers have two decimals, scores seven, as in the original's dump; blanks inside class names
    are removed because columns are separated by blanks. `read_labels` returns what
    was written, to that precision.
    """
    Path(path).write_text("".join(_line(item) for item in objects), encoding="utf-8")


def _parse(columns: list[str], where: str) -> KittiObject:
    if len(columns) != _COLUMNS:
        raise DataError(f"{where}: {_wrong_count(columns)}")
    values = []
    for number, column in enumerate(columns[1:], start=2):
        try:
            value = float(column)
        except ValueError:
            value = math.nan  # reported below, with what float() accepts: "nan" and "inf"
        if not math.isfinite(value):
            raise DataError(
                f"{where}: column {number} is '{shown(column[:40])}'; expected a finite number."
            )
        if abs(value) > _LARGEST:
            raise DataError(
                f"{where}: column {number} is {value:g}, which is too large for pixels or metres."
            )
        values.append(value)
    # Compared as a number: `0.0` and `1.00` occur in labels that went through tables.
    if values[1] != int(values[1]):
        raise DataError(
            f"{where}: column 3 (occluded) is '{shown(columns[2][:40])}'; expected 0, 1, 2 or 3."
        )
    return KittiObject(
        class_name=columns[0],
        truncated=values[0],
        occluded=int(values[1]),
        alpha=values[2],
        x1=values[3],
        y1=values[4],
        x2=values[5],
        y2=values[6],
        dimensions=(values[7], values[8], values[9]),
        location=(values[10], values[11], values[12]),
        rotation_y=values[13],
    )


def _wrong_count(columns: list[str]) -> str:
    """Describes the likely cause of another number of columns."""
    # Trailing numbers in the count of a label: what is before them is a class name with blanks.
    name_length = 1
    while name_length < len(columns) and not is_number(columns[name_length]):
        name_length += 1
    if name_length > 1 and len(columns) - name_length in (_COLUMNS - 1, _COLUMNS):
        name = " ".join(columns[:name_length])
        return (
            f"the class name '{shown(name)}' has a blank in it, and blanks separate the columns: "
            f"write '{shown(name.replace(' ', '_'))}' or '{shown(name.replace(' ', ''))}'."
        )
    if len(columns) == _COLUMNS + 1:
        return (
            "16 columns; ground truth has 15. This looks like a file of predictions, whose last "
            "column is the score: remove that column to use it as ground truth."
        )
    return (
        f"{len(columns)} columns; a KITTI label has 15: class truncated occluded alpha x1 y1 x2 y2 "
        "height width length x y z rotation_y."
    )


def is_number(text: str) -> bool:
    """Returns whether a text is a number as `float` reads it, `nan` and `inf` among them."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _line(item: KittiObject) -> str:
    name = "".join(item.class_name.split())
    sides = (item.x1, item.y1, item.x2, item.y2)
    space = (*item.dimensions, *item.location, item.rotation_y)
    columns = [name, f"{item.truncated:.2f}", str(item.occluded)]
    columns += [f"{value:.2f}" for value in (item.alpha, *sides, *space)]
    if item.score is not None:
        columns.append(f"{item.score:.7f}")
    return " ".join(columns) + "\n"
