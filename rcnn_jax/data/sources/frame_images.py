"""Image files of frames: by stem, whatever the spelling of the extension."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rcnn_jax.data.findings import (
    HIDDEN_FILE,
    LABELS_ALONE,
    OTHER_EXTENSION,
    OTHER_SPELLING,
    Tally,
)
from rcnn_jax.data.formats.image_files import require_text_name, same_format
from rcnn_jax.data.formats.image_folder import IMAGE_SUFFIXES, is_image_name
from rcnn_jax.errors import DataError
from rcnn_jax.printable import shown


def note_labels_alone(folder: Path, stems: set[str], tally: Tally) -> None:
    """Counts label files without an image: a sign of a wrong folder or extension."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder))
    except OSError:
        return  # reported where the first label is read
    for name in names:
        path = Path(name)
        if path.suffix == ".txt" and not name.startswith(".") and path.stem not in stems:
            tally.add(LABELS_ALONE, str(folder / name))


def find_files(folder: Path, frames: Sequence[str], suffix: str, tally: Tally) -> list[Path]:
    """Returns the image file of every frame; the expected path where there is none.

    Args:
      folder: that frames are relative to.
      frames: paths without extension.
      suffix: the extension to look for first, with its dot.
      tally: counts files of other extensions.

    Raises:
      DataError: several files may be meant.
    """
    listings: dict[Path, dict[str, list[str]]] = {}
    paths = []
    for frame in frames:
        wanted = folder / (frame + suffix)
        # A listing per folder, since it holds every spelling (`.JPG`, `.jpeg`) of an extension.
        if wanted.parent not in listings:
            listings[wanted.parent] = _by_stem(wanted.parent)
        stem = wanted.name.removesuffix(suffix)
        candidates = listings[wanted.parent].get(stem, [])
        # Without any candidate the expected path is returned, so that the caller names all missing
        # files in one message.
        if wanted.name not in candidates and candidates:
            if len(candidates) > 1:
                raise DataError(
                    f"{wanted.parent}: '{shown(stem)}' may be any of {shown(', '.join(candidates))}: "
                    "remove all but one, or set image_extension"
                )
            wanted = wanted.with_name(candidates[0])
            tally.add(OTHER_SPELLING, str(wanted))
        paths.append(wanted)
    return paths


def _by_stem(folder: Path) -> dict[str, list[str]]:
    """Returns stem -> names of the images of a folder; empty where there is no such folder."""
    by_stem: dict[str, list[str]] = {}
    try:
        names = sorted(entry.name for entry in os.scandir(folder))
    except (OSError, ValueError):
        return by_stem
    for name in names:
        if is_image_name(name):
            by_stem.setdefault(Path(name).stem, []).append(name)
    return by_stem


def images_of_format(folder: Path, suffix: str, tally: Tally) -> dict[str, Path]:
    """Returns stem -> image of one format, sorted by stem, whatever the spelling of its extension.

    Args:
      folder: of the images; sub-folders are not entered.
      suffix: names the format, with its dot: `.jpg` finds `.JPG` and `.jpeg` too.
      tally: counts hidden files and images of other formats and spellings.

    Raises:
      DataError: the folder cannot be listed or holds no such image, or two of them have one stem.
    """
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot list the images: {error.strerror}") from error
    by_stem: dict[str, Path] = {}
    others: list[Path] = []
    for path in paths:
        if path.name.startswith("."):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                tally.add(HIDDEN_FILE, str(path))
        elif same_format(path.suffix, suffix):
            require_text_name(path)
            _require_new_stem(path, by_stem)
            by_stem[path.stem] = path
            if path.suffix != suffix:
                tally.add(OTHER_SPELLING, str(path))
        else:
            others.append(path)
            if is_image_name(path.name):
                tally.add(OTHER_EXTENSION, str(path))
    if not by_stem:
        counts = Counter(path.suffix for path in others)
        listed = ", ".join(f"{n} {shown(end) or 'without'}" for end, n in counts.most_common(5))
        raise DataError(
            f"{folder}: holds no image with image_extension '{suffix}'; found: "
            f"{listed or 'nothing'}."
        )
    return dict(sorted(by_stem.items()))


def _require_new_stem(path: Path, by_stem: Mapping[str, Path]) -> None:
    if path.stem in by_stem:
        raise DataError(
            f"{path}: {by_stem[path.stem].name} has the same stem, and labels are found by it: remove "
            "one of them"
        )


def images_of_stems(folder: Path, stems: Sequence[str] | None, tally: Tally) -> list[Path]:
    """Returns the images of a folder by sorted stem, or those of the given stems.

    Args:
      folder: of the images; sub-folders are not entered.
      stems: names without extension, in the order wanted; None for all.
      tally: counts hidden files.

    Raises:
      DataError: the folder or an image is missing, or two images have one stem.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: the image folder does not exist")
    by_stem = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") and path.suffix.lower() in IMAGE_SUFFIXES:
            tally.add(HIDDEN_FILE, str(path))
        if not is_image_name(path.name):
            continue
        require_text_name(path)
        _require_new_stem(path, by_stem)
        by_stem[path.stem] = path
    if not by_stem:
        raise DataError(f"{folder}: no image ({', '.join(IMAGE_SUFFIXES)}) in this folder")
    if stems is None:
        return list(by_stem.values())
    missing = [stem for stem in stems if stem not in by_stem]
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} of {len(stems)} listed images are not there, the first is "
            f"{missing[0]}"
        )
    if not stems:
        raise DataError(f"{folder}: the list of images to use is empty")
    return [by_stem[stem] for stem in stems]
