r"""Suggestions for a file name that does not exist.

Annotation files travel: from Windows (`a\b.jpg`), from a browser (`my%20image.jpg`), from a Mac whose
accents are two characters, from a tool that runs one folder higher. The name on the screen then often
looks like the one on the disk, so the difference is named.
"""

import unicodedata
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote

_FOLDERS = 4  # above the file where it may lie instead


def near_file(path: Path) -> str:
    """Returns `; FILE is there: CAUSE` for a path that does not exist, or nothing."""
    for other, cause in _spellings(path):
        if other != path and _is_file(other):
            return f"; {other} is there: {cause}"
    return ""


def _spellings(path: Path) -> Iterator[tuple[Path, str]]:
    text = str(path)
    yield Path(text.replace("\\", "/")), "the name has \\ where / belongs"
    yield Path(unquote(text)), "the name is percent-encoded"
    for form in ("NFC", "NFD"):
        yield Path(unicodedata.normalize(form, text)), f"its accents are written in form {form}"
    yield Path(text.strip()), "the name has blanks at its end"
    for name in _names(path.parent):
        if name.casefold() == path.name.casefold():
            yield path.parent / name, "upper and lower case differ"
        elif not path.suffix and Path(name).stem == path.name:
            yield path.parent / name, "the name has no extension"
    # Last, since it is the weakest: a file of the same name may be another one.
    for folder in list(path.parents)[:_FOLDERS]:
        yield folder / PureWindowsPath(path.name).name, "the name has folders that are not there"


def _names(folder: Path) -> list[str]:
    try:
        return sorted(item.name for item in folder.iterdir())
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return []


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
