"""Index of the images below a folder: which file an annotation means."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rcnn_jax.data.formats.image_folder import is_image_name
from rcnn_jax.errors import DataError

DEEPEST = 6
"""Levels of folders that are entered; a data set is no whole disk."""

_MOST_FILES = 2_000_000


@dataclass(frozen=True)
class FileTree:
    """The files below a folder, found once.

    Attributes:
      root: the folder.
      images: image files, sorted.
      others: suffix in lower case -> other files, sorted.
    """

    root: Path
    images: tuple[Path, ...]
    others: dict[str, tuple[Path, ...]]

    @classmethod
    def below(cls, root: Path) -> "FileTree":
        """Lists a folder; hidden files and folders are left out.

        Raises:
          DataError: it cannot be listed, or holds more files than a data set has.
        """
        images: list[Path] = []
        others: dict[str, list[Path]] = {}
        for number, path in enumerate(_walk(root, DEEPEST)):
            if number >= _MOST_FILES:
                raise DataError(
                    f"{root}: holds more than {_MOST_FILES} files: name the data set in it"
                )
            if is_image_name(path.name):
                images.append(path)
            else:
                others.setdefault(path.suffix.lower(), []).append(path)
        return cls(
            root, tuple(sorted(images)), {key: tuple(sorted(v)) for key, v in others.items()}
        )

    def of(self, suffix: str) -> tuple[Path, ...]:
        """Returns the files with an ending such as `.xml`."""
        return self.others.get(suffix, ())


class ImageIndex:
    """Finds the image that an annotation names, in any of the places where tools put it."""

    def __init__(self, images: Sequence[Path]):
        self._by_name: dict[str, list[Path]] = {}
        self._by_stem: dict[str, list[Path]] = {}
        self._by_upload: dict[str, list[Path]] = {}
        for path in images:
            self._by_name.setdefault(path.name, []).append(path)
            self._by_stem.setdefault(path.stem, []).append(path)
            self._by_upload.setdefault(_upload_name(path.name), []).append(path)

    def named(self, name: str, near: Path) -> Path | None:
        """Returns the image of a file name, which may have folders in front.

        Args:
          name: as the annotation gives it; back slashes and folders of another machine count less
            than the last part.
          near: the annotation file: of several images of one name the nearest is meant.
        """
        # Windows writes back slashes, and no file of a data set has one in its name.
        parts = name.replace("\\", "/").split("/")
        return _nearest(self._by_name.get(parts[-1], []), parts, near)

    def uploaded(self, name: str) -> Path | None:
        """Returns the image that a server keeps under this name; None where several may be meant."""
        paths = self._by_upload.get(name.rpartition("/")[2], [])
        return paths[0] if len(paths) == 1 else None

    def of_stem(self, stem: str, near: Path) -> Path | None:
        """Returns the image whose name without its ending is `stem`."""
        return _nearest(self._by_stem.get(stem, []), [stem], near)


def _upload_name(name: str) -> str:
    """Returns the name of a file after its upload: `photo (1).jpg` is kept as `photo_1.jpg`.

    Source: Django documentation, "Utilities", `get_valid_filename`.
    """
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))


def _nearest(paths: Sequence[Path], parts: Sequence[str], near: Path) -> Path | None:
    """Returns the path that shares most: folders of its name first, then those of `near`."""

    def closeness(path: Path) -> tuple[int, int]:
        own = path.parts[-len(parts) :]
        same = sum(a == b for a, b in zip(reversed(own), reversed(parts), strict=False))
        # `images/train/a.png` belongs to `labels/train/a.txt`: common parts count wherever they stand.
        return same, len(set(path.parent.parts) & set(near.parent.parts))

    return max(paths, key=closeness, default=None)


def _walk(folder: Path, levels: int) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{folder}: the folder cannot be listed: {reason}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and not entry.is_symlink():  # a link may lead back up
            if levels:
                yield from _walk(entry, levels - 1)
        elif entry.is_dir():
            if levels and not folder.resolve().is_relative_to(entry.resolve()):
                yield from _walk(entry, levels - 1)
        elif entry.is_file():
            yield entry
