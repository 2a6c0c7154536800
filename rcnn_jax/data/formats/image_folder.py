"""Image listings: the files that count as images, by one rule for every command.

Hidden files are no images: macOS leaves a `._x.png` with every `x.png` that it copies, and editors
leave others. An entry that has the name of an image but is no file (a folder, a named pipe, a link
to nothing) is listed with its reason, so that callers can name it. It is never opened: opening a
pipe waits for ever.
"""

import glob
import stat
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rcnn_jax.errors import DataError, RcnnError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
"""Endings of image files, in lower case; any case counts."""


@dataclass(frozen=True)
class ImageList:
    """The content of a folder.

    Attributes:
      paths: the images, sorted by name.
      unusable: entry with the name of an image that is no file -> its kind.
      others: suffix as written, `` for none -> number of visible files that are no images.
    """

    paths: tuple[Path, ...]
    unusable: Mapping[Path, str]
    others: Mapping[str, int]

    def summary(self) -> str:
        """Returns the content of the folder besides images, for messages."""
        listed = Counter(self.others).most_common(5)
        parts = [f"{count} {suffix or 'without an ending'}" for suffix, count in listed]
        if self.unusable:
            parts.append(f"{len(self.unusable)} named like images that are no files")
        return ", ".join(parts) or "nothing"


def is_image_name(name: str, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> bool:
    """Returns whether a file of this name is an image: not hidden, and of a known ending."""
    return not name.startswith(".") and Path(name).suffix.lower() in suffixes


def list_images(
    folder: Path,
    *,
    what: str = "image folder",
    suffixes: Sequence[str] = IMAGE_SUFFIXES,
    error: type[RcnnError] = DataError,
) -> ImageList:
    """Returns the images of a folder; sub-folders are not entered.

    Args:
      folder: where to look.
      what: noun for the message, with the field or flag that names the folder.
      suffixes: endings that count, in lower case.
      error: class of the error.

    Raises:
      RcnnError: of the given class; the folder is absent or cannot be listed. An empty list is no
        error here: `ImageList.summary` lists the content.
    """
    try:
        # Sorted: the order of a listing is that of the file system, and results follow the order of
        # images.
        entries = sorted(Path(folder).iterdir(), key=lambda path: path.name)
    except FileNotFoundError as cause:
        raise error(f"{folder}: the {what} does not exist") from cause
    except NotADirectoryError as cause:
        raise error(f"{folder}: expected the {what}, found a file") from cause
    except (OSError, ValueError) as cause:  # ValueError: a NUL in the name.
        reason = getattr(cause, "strerror", None) or cause
        raise error(f"{folder}: the {what} cannot be listed: {reason}") from cause
    return _sort_out(entries, suffixes)


def find_images(source: Path | str, *, what: str = "image folder") -> ImageList:
    """Returns the images that a folder, a single file or a pattern (`*.png`) names.

    A single file counts whatever its name: the user chose it.

    Args:
      source: what to look for. A file or folder of this very name comes before the pattern.
      what: see `list_images`.

    Raises:
      DataError: nothing is there, or nothing of it is an image.
    """
    path, text = Path(source), str(source)
    # Existing names come before patterns: `scan[1].png` is a file name as well as a pattern.
    if _exists(path) and not _is_folder(path):
        kind = special_file_kind(path)
        if kind:
            raise DataError(f"{text}: expected an image or a folder of images, found a {kind}")
        return ImageList((path,), {}, {})
    if glob.has_magic(text) and not _exists(path):
        listing = _sort_out(_matches(path), IMAGE_SUFFIXES)
        if not (listing.paths or listing.unusable):
            raise DataError(f"{text}: no image matches this pattern ({what})")
        return listing
    listing = list_images(path, what=what)
    if not (listing.paths or listing.unusable):
        raise DataError(
            f"{text}: no image found; expected names ending in {', '.join(IMAGE_SUFFIXES)} (hidden "
            f"files do not count), found {listing.summary()}"
        )
    return listing


def special_file_kind(path: Path) -> str:
    """Names the kind of an entry that is no ordinary file; empty for a file."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if path.is_symlink():
            return "link that leads nowhere"
        return f"name that cannot be looked at ({error.strerror})"
    if stat.S_ISREG(mode):
        return ""
    kinds = {
        stat.S_IFDIR: "folder",
        stat.S_IFIFO: "named pipe",
        stat.S_IFSOCK: "socket",
        stat.S_IFCHR: "device",
        stat.S_IFBLK: "device",
    }
    return kinds.get(stat.S_IFMT(mode), "special file")


def _exists(path: Path) -> bool:
    """Returns whether there is an entry of this name, a dangling link included."""
    try:
        path.lstat()
    except (OSError, ValueError):
        return False
    return True


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _matches(pattern: Path) -> list[Path]:
    try:
        return sorted(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor))))
    except (OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{pattern}: is no pattern of file names: {error}") from error


def _sort_out(entries: Iterable[Path], suffixes: Sequence[str]) -> ImageList:
    paths, unusable, others = [], {}, Counter()
    for path in entries:
        if path.name.startswith("."):
            continue
        if not is_image_name(path.name, suffixes):
            if path.is_file():
                others[path.suffix] += 1
        elif kind := special_file_kind(path):
            unusable[path] = kind
        else:
            paths.append(path)
    return ImageList(tuple(paths), unusable, others)
