"""CVAT for images 1.1: one XML file of a task or a project, with every image in it.

    <annotations> <meta> .. </meta>
      <image id name width height subset> <box/> <polygon/> <mask/> <ellipse/> ... </image>

Coordinates are continuous pixels from 0. Points, polylines, tags and cuboids are no boxes: counted.

Source: CVAT documentation, "CVAT for images".
"""

import math
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rcnn_jax.data.formats.tfrecord import MOST_PIXELS
from rcnn_jax.data.layouts.collection import (
    Collection,
    Item,
    Labelled,
    Problem,
    split_of,
    split_of_name,
    used_names,
)
from rcnn_jax.data.layouts.images import FileTree, ImageIndex
from rcnn_jax.data.layouts.shapes import (
    corners,
    ellipse,
    polygon,
    require_finite,
    run_lengths,
    turned_box,
)
from rcnn_jax.data.layouts.voc import parse_xml
from rcnn_jax.errors import DataError
from rcnn_jax.printable import shown

# Counted and named in the end: who drew them should know that nothing was learnt from them.
_NO_BOXES = {"points", "polyline", "tag", "cuboid", "skeleton"}


@dataclass(frozen=True)
class _Version:
    """One image as one file states it."""

    dumped: str
    path: Path
    node: ET.Element


def is_cvat(head: bytes) -> bool:
    """Says whether the beginning of an XML file is that of an export of CVAT."""
    # Pascal VOC says <annotation>, without an s, and CVAT exports that too.
    return b"<annotations>" in head and b"<annotation>" not in head


def read_cvat(tree: FileTree, files: Sequence[Path]) -> Collection:
    """Returns the collection of exports; of an image in several of them the newest counts.

    Args:
      tree: the folder.
      files: its exports.
    """
    index = ImageIndex(tree.images)
    problems: list[Problem] = []
    labels: dict[str, None] = {}
    newest: dict[Path, _Version] = {}
    again = 0
    for path in files:
        try:
            root = parse_xml(path)
        except DataError as error:
            problems.append(Problem(str(path), str(error).removeprefix(f"{path}: ")))
            continue
        # A track has its images in a film, not in this file.
        if root.find("track") is not None:
            problems.append(
                Problem(str(path), "holds tracks: export the task as 'CVAT for images 1.1'")
            )
        # In the order of the project, which is how people number their classes.
        labels |= dict.fromkeys(
            name.strip() for node in root.iter("labels") for name in _texts(node, "label/name")
        )
        dumped = (root.findtext("meta/dumped") or "").strip()
        for node in root.iter("image"):
            name = node.get("name", "")
            image = index.named(name, path)
            if image is None:
                what = f"there is no image '{shown(name)}'"
                problems.append(Problem(str(path), what, lacks="image"))
                continue
            before = newest.get(image)
            # A project's export and that of one of its tasks are often both in the folder.
            again += before is not None
            if before is None or dumped >= before.dumped:  # ISO dates sort as texts
                newest[image] = _Version(dumped, path, node)
    left_out: Counter[str] = Counter()
    items = [
        _item(image, version, tree.root, problems, left_out)
        for image, version in sorted(newest.items())
    ]
    used = used_names(items)
    choices = []
    if again:
        choices.append(f"{again} images are in several exports: the newest of them counts")
    if left_out:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items()))
        choices.append(f"shapes that enclose nothing were left out: {kinds}")
    unused = [name for name in labels if name not in used]
    if unused:
        choices.append(f"no object is called {', '.join(unused[:8])}: left out")
    return Collection(
        layout="cvat",
        root=tree.root,
        items=tuple(items),
        class_names=tuple(name for name in labels if name in used) or used,
        problems=tuple(problems),
        choices=tuple(choices),
    )


def _texts(node: ET.Element, path: str) -> list[str]:
    return [element.text for element in node.findall(path) if element.text and element.text.strip()]


def _item(
    image: Path, version: _Version, root: Path, problems: list[Problem], left_out: Counter[str]
) -> Item:
    node, path = version.node, version.path
    size = _size(node)
    objects = []
    for number, shape in enumerate(node, start=1):
        where = f"{path}: image {shown(node.get('name', ''))}, shape {number}"
        if shape.tag in _NO_BOXES:
            left_out[shape.tag] += 1
            continue
        try:
            box, outline = _shape(shape, size)
            require_finite(box)
        except (KeyError, ValueError, OverflowError):
            problems.append(Problem(where, f"<{shown(shape.tag)}> has no readable coordinates"))
            continue
        objects.append(
            Labelled(
                shape.get("label", "").strip(),
                box,
                outline,
                # CVAT has no flag for difficult objects; occluded is the nearest to it.
                difficult=shape.get("occluded") == "1",
                where=where,
            )
        )
    # The subset of the project goes before the name of a folder.
    split = split_of_name(node.get("subset") or "") or split_of(image, root)
    return Item(image, path, tuple(objects), size, split)


def _size(node: ET.Element) -> tuple[int, int] | None:
    try:
        height, width = int(node.attrib["height"]), int(node.attrib["width"])
    except (KeyError, ValueError):
        return None
    return (height, width) if height > 0 and width > 0 else None


def _shape(node: ET.Element, size: tuple[int, int] | None) -> tuple[Any, Any]:
    """Returns box and outline of a shape.

    Raises:
      KeyError: an attribute is missing.
      ValueError: it is no number, or the shape is unknown.
    """
    number = {name: _finite(value) for name, value in node.attrib.items() if _is_number(value)}
    angle = number.get("rotation", 0.0)
    if node.tag == "box":
        y1, x1, y2, x2 = number["ytl"], number["xtl"], number["ybr"], number["xbr"]
        if not angle % 360:
            return (y1, x1, y2, x2), None
        # Round its centre; Label Studio turns round the upper left corner.
        outline = turned_box((y1, x1, y2, x2), angle, ((y1 + y2) / 2, (x1 + x2) / 2))
        return corners(outline), outline
    if node.tag == "polygon":
        pairs = [pair.split(",") for pair in node.attrib["points"].split(";")]
        outline = polygon([(_finite(x), _finite(y)) for x, y in pairs])
        return corners(outline), outline
    if node.tag == "ellipse":
        outline = ellipse(number["cy"], number["cx"], number["ry"], number["rx"], angle)
        return corners(outline), outline
    if node.tag == "mask" and size is not None:
        return _mask(node, number, size)
    raise ValueError(node.tag)


def _mask(node: ET.Element, number: dict[str, float], size: tuple[int, int]) -> tuple[Any, Any]:
    """Returns box and run lengths of a mask: rows of a window, beginning with background."""
    top, left = int(number["top"]), int(number["left"])
    height, width = int(number["height"]), int(number["width"])
    if size[0] * size[1] > MOST_PIXELS:
        raise ValueError(size)
    runs = [int(run) for run in node.attrib["rle"].split(",")]
    window = (top, left, top + height, left + width)
    inside = 0 <= top < window[2] <= size[0] and 0 <= left < window[3] <= size[1]
    if not inside or min(runs) < 0 or sum(runs) > height * width:
        raise ValueError("rle")
    # Runs alternate, background first; a mask that begins with foreground has a first run of 0.
    values = np.repeat(np.arange(len(runs)) % 2, runs)
    flat = np.zeros(height * width, np.uint8)
    flat[: len(values)] = values
    return run_lengths(flat.reshape(height, width), window, size)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value
