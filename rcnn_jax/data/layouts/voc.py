"""Pascal VOC: one XML file per image.

Coordinates are whole pixels that count from 1 and include the last one: `xmin 1 xmax 10` covers ten
pixels, continuous 0 to 10. Tools that count from 0 give themselves away by a 0.

Source: Everingham et al., The PASCAL Visual Object Classes Challenge: development kit, 2012, section 4.
"""

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from pathlib import Path

from rcnn_jax.data.formats.kitti import is_number
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

_LONGEST = 1 << 26


def parse_xml(path: Path) -> ET.Element:
    """Returns the root of an XML file.

    Raises:
      DataError: it is no XML, or declares entities, which could grow without end.
    """
    text = read_text(path, "XML file", limit=_LONGEST)
    if "<!ENTITY" in text:
        raise DataError(f"{path}: declares entities, which no annotation needs")
    try:
        return ET.fromstring(text)
    except (ET.ParseError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not XML: {shown(str(error))}") from error


def read_voc(tree: FileTree, files: Sequence[Path]) -> Collection:
    """Returns the collection of XML files.

    Args:
      tree: the folder.
      files: its XML files.
    """
    index = ImageIndex(tree.images)
    problems: list[Problem] = []
    parsed: list[tuple[Path, Path, ET.Element]] = []
    for path in files:
        try:
            root = parse_xml(path)
        except DataError as error:
            problems.append(Problem(str(path), str(error).removeprefix(f"{path}: ")))
            continue
        # XML of other kinds lies beside it: projects of annotation tools, metadata of cameras.
        if root.tag != "annotation":
            continue
        name = (root.findtext("filename") or "").strip()
        # The stem of the XML file decides: tools that rename images leave <filename> as it was.
        image = index.of_stem(path.stem, path) or index.named(name, path)
        if image is None:
            what = f"there is no image '{shown(name)}' or '{path.stem}'"
            problems.append(Problem(str(path), what, lacks="image"))
            continue
        parsed.append((path, image, root))
    # For the whole folder: a single file without a box at the edge would be read one pixel off.
    corner = 0.0 if _counts_from_zero(root for _, _, root in parsed) else 1.0
    lists = _lists(tree)
    items = [
        Item(
            image,
            path,
            _objects(root, path, corner, problems),
            _size(root),
            lists.get(path.stem) or split_of(image, tree.root),
        )
        for path, image, root in parsed
    ]
    items.sort(key=lambda item: item.image)
    return Collection(
        layout="voc",
        root=tree.root,
        items=tuple(items),
        class_names=used_names(items),
        problems=tuple(problems),
        choices=(
            f"coordinates count from {corner:.0f}"
            + (": a box begins at 0" if corner == 0.0 else ", as the format says"),
            *_marks([root for _, _, root in parsed]),
        ),
    )


def _objects(
    root: ET.Element, path: Path, corner: float, problems: list[Problem]
) -> tuple[Labelled, ...]:
    objects = []
    for number, entry in enumerate(root.iter("object"), start=1):
        where = f"{path}: object {number}"
        name = (entry.findtext("name") or "").strip()
        sides = [entry.findtext(f"bndbox/{side}") for side in ("ymin", "xmin", "ymax", "xmax")]
        try:
            y1, x1, y2, x2 = (float(side) for side in sides if side is not None)
            if not all(map(math.isfinite, (y1, x1, y2, x2))):
                raise ValueError(sides)
        except ValueError:
            problems.append(Problem(where, f"'{shown(name)}' has no whole bndbox"))
            continue
        if not name:
            problems.append(Problem(where, "has no name"))
            continue
        objects.append(
            Labelled(
                name,
                (y1 - corner, x1 - corner, y2, x2),
                difficult=(entry.findtext("difficult") or "0").strip() == "1",
                where=where,
            )
        )
    return tuple(objects)


def _marks(roots: Sequence[ET.Element]) -> list[str]:
    """Returns how many objects carry a mark, where any does."""
    counts = {
        mark: sum(
            (entry.findtext(mark) or "0").strip() == "1"
            for root in roots
            for entry in root.iter("object")
        )
        for mark in ("difficult", "truncated")
    }
    if not any(counts.values()):
        return []
    return [
        f"{counts['difficult']} objects are marked difficult (as KITTI they train and do not count "
        f"where a model is judged; COCO has no such mark) and {counts['truncated']} truncated (taken as "
        "any other)"
    ]


def _counts_from_zero(roots: Iterable[ET.Element]) -> bool:
    """Says whether the box of an object begins at 0, which the format does not know."""
    return any(
        float(text) < 1
        for root in roots
        for entry in root.iter("object")
        # Not of its parts (a head, a hand): they are not read, and one of them at 0.5 would move the
        # boxes of all objects by a pixel.
        for side in ("ymin", "xmin")
        if (text := (entry.findtext(f"bndbox/{side}") or "").strip()) and is_number(text)
    )


def _size(root: ET.Element) -> tuple[int, int] | None:
    try:
        height, width = (int(root.findtext(f"size/{side}") or "") for side in ("height", "width"))
    except ValueError:
        return None
    return (height, width) if height > 0 and width > 0 else None


def _lists(tree: FileTree) -> dict[str, str]:
    """Returns stem -> split of the lists in ImageSets/Main; those of single classes are left out."""
    named: dict[str, str] = {}
    for stem, split in (
        ("trainval", "train"),
        ("train", "train"),
        ("val", "val"),
        ("test", "test"),
    ):
        for path in tree.of(".txt"):
            if path.stem == stem and "ImageSets" in path.parts:
                try:
                    stems = read_text(path, "list of images").split()
                except DataError:
                    continue
                named |= dict.fromkeys(stems, split)
    return named
