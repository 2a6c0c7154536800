"""Names of the outputs of images and videos, different for every one."""

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rcnn_jax.inference.frames import Source

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
"""Formats of annotated copies."""


@dataclass(frozen=True)
class Video:
    """A video and what is written of it.

    Attributes:
      source: of `frames.as_source`.
      film: annotated film, `.mp4`, or None.
      lines: one JSON object per frame, or None.
    """

    source: Source
    film: Path | None
    lines: Path | None


def output_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Returns the name of every image's outputs, without their ending.

    The stem, as in the original, where no other image has it too; else the whole name (`a.png` and
    `a.jpg`), else the path below the common folder of all images, with `_` between its
    parts, and at last a number. Names that differ only by case or by how an accent is encoded count
    as equal, because they are equal on some file systems.

    Args:
      paths: different files.
    """
    if not paths:
        return {}
    common = Path(os.path.commonpath([path.parent.absolute() for path in paths]))
    choices = {
        path: (path.stem, path.name, "_".join(path.absolute().relative_to(common).parts))
        for path in paths
    }
    level = dict.fromkeys(paths, 0)
    while True:
        names = {path: choices[path][level[path]] for path in paths}
        claims = Counter(claim for path in paths for claim in _claims(path, names[path]))
        repeated = {
            path: any(claims[claim] > 1 for claim in _claims(path, names[path])) for path in paths
        }
        raised = [path for path in paths if repeated[path] and level[path] < 2]
        # Only images in conflict get a longer name, which may conflict anew: hence the loop.
        if not raised:
            return _numbered(names, repeated)
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
    # The whole name of a file, taken where stems are equal, has its suffix already.
    return name if name.endswith(path.suffix) else name + path.suffix


def _claims(path: Path, name: str) -> set[str]:
    """Returns the names that no other image may have: of its label file and of its picture."""
    # The label file's suffix is the same for all, so its name without it is enough.
    forms = (name, picture_name(path, name))
    return {_folded(form) for form in forms}


def _numbered(names: dict[Path, str], repeated: dict[Path, bool]) -> dict[Path, str]:
    """Numbers names that several images still have; the first of them keeps its own."""
    taken: set[str] = set()
    for path, name in names.items():
        if not repeated[path]:
            taken |= _claims(path, name)
    result = {}
    for path, name in names.items():
        unique = name
        if repeated[path]:
            number, suffix = 1, path.suffix if name.endswith(path.suffix) else ""
            while taken & _claims(path, unique):
                number += 1
                unique = f"{name.removesuffix(suffix)}-{number}{suffix}"
            taken |= _claims(path, unique)
        result[path] = unique
    return result


def _folded(name: str) -> str:
    # Normalised twice: casefold may decompose letters again.
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def with_results(
    sources: Sequence[Source], pictures: Path | None, labels: Path | None
) -> list[Video]:
    """Returns videos with the names of their results.

    Args:
      sources: of one command.
      pictures: folder of annotated films, or the film itself, `.mp4`; None: none are written.
      labels: folder of JSON lines; None: none are written.
    """
    stems = output_names([Path(each.address) for each in sources if not each.live])
    videos = []
    for source in sources:
        stem = source.stem if source.live else stems[Path(source.address)]
        film = pictures
        # A folder by TAO's word, but with a video people name the film.
        if pictures is not None and pictures.suffix.lower() != ".mp4":
            film = pictures / f"{stem}.mp4"
        videos.append(Video(source, film, labels and labels / f"{stem}.jsonl"))
    return videos
