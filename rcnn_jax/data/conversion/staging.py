"""Staged files: all files of one conversion appear together at the end, or none does.

Files are written in their folder under hidden temporary names, which no pattern such as `prefix*`
matches, and renamed at the end.
"""

import shutil
from pathlib import Path

from rcnn_jax.errors import DataError
from rcnn_jax.processes import sweep_once, unfinished_name


class StagedFiles:
    """A context in which files are written under temporary names.

    Leaving it without an exception renames every file to its final name, in the order in which they
    were asked for; with any exception, Ctrl-C included, the temporary files are removed.

    Example:
      with StagedFiles() as staged:
          write_records(staged.path(Path("out/a-00000-of-00001")), records)
    """

    def __init__(self):
        self._names: dict[Path, Path] = {}

    def path(self, final: Path) -> Path:
        """The temporary name to write to; its folder is created.

        Raises:
          DataError: the folder cannot be created.
        """
        final = Path(final)
        make_folder(final.parent)
        sweep_once(final.parent)
        # In the same folder, not in /tmp: a rename works within one file system only.
        temporary = unfinished_name(final)
        # Noted before anything is written, so that an interrupt in between leaves no file behind.
        self._names[final] = temporary
        return temporary

    def __enter__(self) -> "StagedFiles":
        return self

    def __exit__(self, error_type: type | None, *_: object) -> None:
        if error_type is None:
            # Renamed last and together: each rename is atomic, and what can fail has happened by
            # now.
            for final, temporary in self._names.items():
                temporary.replace(final)
        else:
            for temporary in self._names.values():
                temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Creates a folder and its parents.

    Raises:
      DataError: it cannot be created, for example because a file has its name.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot create this folder: {error.strerror}") from error


def require_free_space(folder: Path, needed: int) -> None:
    """Checks that `needed` bytes fit on the disk of `folder`, which exists.

    Raises:
      DataError: they do not; the message names both sizes.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"{folder}: about {needed:,} bytes are needed, {free:,} are free on its disk: free some "
            "space or choose another output folder"
        )
