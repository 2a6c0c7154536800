"""What the outputs of an image are called: no two images share a file."""

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
"""Formats that annotated copies are written in."""


def output_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Returns the name of every image's outputs, to which their ending is added.

    The stem, as the original has it, where no other image has it too; else the whole name (`a.png`
    beside `a.jpg`), else the path below the folder that all images share, with `_` between its
    parts, and at last a number. Names that differ only by case or by how an accent is encoded count
    as equal, because some file systems take them for one.

    Args:
      paths: different files.
    """
    if not paths:
        return {}
    shared = Path(os.path.commonpath([path.parent.absolute() for path in paths]))
    choices = {
        path: (path.stem, path.name, "_".join(path.absolute().relative_to(shared).parts))
        for path in paths
    }
    level = dict.fromkeys(paths, 0)
    while True:
        names = {path: choices[path][level[path]] for path in paths}
        claims = Counter(claim for path in paths for claim in _claims(path, names[path]))
        shares = {
            path: any(claims[claim] > 1 for claim in _claims(path, names[path])) for path in paths
        }
        raised = [path for path in paths if shares[path] and level[path] < 2]
        if not raised:
            return _numbered(names, shares)
        for path in raised:
            level[path] += 1


def picture_name(path: Path, name: str) -> str:
    """Returns the file name of an annotated copy: PNG where the format of the image has no writer.

    Args:
      path: the image.
      name: of `output_names`.
    """
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        return f"{name}.png"
    return name if name.endswith(path.suffix) else name + path.suffix


def _claims(path: Path, name: str) -> set[str]:
    """Names that no other image may have: of its label file and of its picture."""
    forms = (name, picture_name(path, name))
    return {_folded(form) for form in forms}


def _numbered(names: dict[Path, str], shares: dict[Path, bool]) -> dict[Path, str]:
    """Gives numbers to names that are still shared; the first of them keeps its own."""
    taken: set[str] = set()
    for path, name in names.items():
        if not shares[path]:
            taken |= _claims(path, name)
    result = {}
    for path, name in names.items():
        unique = name
        if shares[path]:
            number, suffix = 1, path.suffix if name.endswith(path.suffix) else ""
            while taken & _claims(path, unique):
                number += 1
                unique = f"{name.removesuffix(suffix)}-{number}{suffix}"
            taken |= _claims(path, unique)
        result[path] = unique
    return result


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
