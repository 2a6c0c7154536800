"""Films: images whose names differ in a number alone, as the frames of one camera do.

Most sets are numbered through without being a film: `BloodImage_00001` counts photographs. So one counter
over nearly the whole set is a film only where its neighbours look alike; several counters are taken for
films by their names, unless each of them counts the images of a class of its own.
"""

import functools
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rcnn_jax.data.layouts.collection import split_of_name
from rcnn_jax.diagnose.scan import Scan

PLAIN_FOLDERS = {"images", "image", "img", "imgs", "jpegimages", "image_2", "data", "labels"}
"""Folders of images in layouts, whose names say nothing of a scene; in lower case."""

_FEWEST_FRAMES = 3
_FEWEST_FILMS = 2
# Of a counter over more than that, kept in one split, no fifth would be left for the other one.
_MOST = 0.8
# Neighbours of a film differ by less of what distant frames do; those of photographs by as much.
_ALIKE = 0.5
_FEWEST_ALIKE = 20
# The last number that ends a word; words behind it that end otherwise (`_leftImg8bit`, `_jpg`) are not
# counted. What Roboflow appends is cut off before.
_FRAME = re.compile(r"(.*\D|)(\d+)((?:[-_. ](?:[^-_. ]*[^-_. \d])?)*)")
# Pascal VOC: years of photographs, no cameras.
_YEAR = re.compile(r"(19|20)\d\d_")


@dataclass(frozen=True)
class Film:
    """Frames of one film.

    Attributes:
      name: what their names share, with a star for the number.
      frames: indices of the images, in the order of their numbers.
    """

    name: str
    frames: tuple[int, ...]


def films(paths: Sequence[Path | None], classes: Sequence[Collection[str]]) -> list[Film]:
    """Returns the films among images: at least two, none of them nearly the whole set.

    Args:
      paths: of the images; None for those without a file.
      classes: of the objects of every image.
    """
    counters = {key: frames for key, frames in _counters(paths).items() if _names_film(key[1])}
    # Hashes end in a number by chance, and make nearly as many counters as images.
    if 2 * len(counters) >= len(paths):
        return []
    named = {key: frames for key, frames in counters.items() if len(frames) >= _FEWEST_FRAMES}
    if len(named) < _FEWEST_FILMS or max(map(len, named.values())) > _MOST * len(paths):
        return []
    if one_class_each(list(named.values()), classes):
        return []
    same = Counter(pattern for _, pattern in named)
    return [
        Film(pattern if same[pattern] == 1 else "/".join((*scene[-1:], pattern)), tuple(frames))
        for (scene, pattern), frames in named.items()
    ]


def whole_film(paths: Sequence[Path | None], scans: Sequence[Scan]) -> Film | None:
    """Returns the film that is nearly the whole set; None where neighbours look as different as any two.

    Args:
      paths: of the images; None for those without a file.
      scans: of the images, in the same order.
    """
    for (_, pattern), frames in _counters(paths).items():
        small = [scans[index].small for index in frames if not scans[index].fault]
        if len(frames) <= _MOST * len(paths) or len(small) < _FEWEST_ALIKE:
            continue
        pixels = np.stack([np.asarray(one, np.float32).ravel() for one in small])
        # Medians, as a film has cuts.
        near = np.median(np.abs(pixels[1:] - pixels[:-1]).mean(axis=1))
        far = np.median(np.abs(pixels - np.roll(pixels, len(pixels) // 2, axis=0)).mean(axis=1))
        if near < _ALIKE * far:
            return Film(pattern, tuple(frames))
    return None


def one_class_each(groups: Sequence[Sequence[int]], classes: Sequence[Collection[str]]) -> bool:
    """Returns whether no class is in two groups, as in `cat_001`, `dog_001`: they count classes.

    Real films may be such too; kept whole, each would leave one of the splits without its classes.

    Args:
      groups: indices of images.
      classes: of the objects of every image.
    """
    owners: dict[str, set[int]] = {}
    for number, group in enumerate(groups):
        for index in group:
            for name in classes[index]:
                owners.setdefault(name, set()).add(number)
    return len(owners) > 1 and all(len(numbers) == 1 for numbers in owners.values())


def _counters(
    paths: Sequence[Path | None],
) -> Mapping[tuple[tuple[str, ...], str], list[int]]:
    """Returns (folders, name with a star for the number) -> images in the order of the numbers."""
    counters: dict[tuple[tuple[str, ...], str], list[tuple[int, int]]] = {}
    for index, path in enumerate(paths):
        if path is not None and (match := _FRAME.fullmatch(path.stem.split(".rf.")[0])):
            key = (_scene(path.parent), f"{match[1]}*{match[3]}")
            counters.setdefault(key, []).append((int(match[2]), index))
    return {key: [index for _, index in sorted(frames)] for key, frames in counters.items()}


def _names_film(pattern: str) -> bool:
    before = pattern.partition("*")[0]
    return bool(before) and not _YEAR.fullmatch(before)


@functools.cache
def _scene(folder: Path) -> tuple[str, ...]:
    """Returns the folders that may name a scene: neither those of splits nor those of layouts."""
    # Without them, so that a film torn between `train` and `val` is one film.
    return tuple(
        part
        for part in folder.parts
        if part.lower() not in PLAIN_FOLDERS and not split_of_name(part)
    )
