"""Text files of the user: UTF-8, with or without a byte-order mark, one message when they are not."""

from pathlib import Path

from rcnn_jax.errors import DataError, RcnnError

_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}

# A repository that was cloned without LFS has pointers in the place of its large files.
_LFS = b"version https://git-lfs."

_HEAD = 4096
"""Bytes at the beginning that tell a binary file: no text has zero bytes."""


def read_text(
    path: Path | str, what: str, error: type[RcnnError] = DataError, *, limit: int | None = None
) -> str:
    """Returns the text of a file, without its byte-order mark.

    Editors on Windows write the mark; read as UTF-8 it would become part of the first word.

    Args:
      path: the file; its spelling begins the error message.
      what: noun for the message, for example `label file`.
      error: class of the error.
      limit: most bytes; nothing beyond them is read, so a file without an end is no danger.

    Raises:
      RcnnError: of the given class; the file is absent, unreadable, too long or not UTF-8.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            # One byte more than is allowed tells a file that is longer, however long it is.
            data = file.read() if limit is None else file.read(limit + 1)
    except FileNotFoundError as cause:
        raise error(f"{path}: there is no such {what}") from cause
    except IsADirectoryError as cause:
        raise error(f"{path}: expected {_a(what)}, found a folder") from cause
    except (OSError, ValueError) as cause:  # ValueError: a NUL in the name.
        raise error(f"{path}: the {what} cannot be read: {_reason(cause)}") from cause
    if limit is not None and len(data) > limit:
        raise error(f"{path}: the {what} is longer than {limit} bytes: is it one?")
    return decode(data, str(path), what, error)


def decode(data: bytes, where: str, what: str, error: type[RcnnError] = DataError) -> str:
    """Returns bytes of a text file as text, without a byte-order mark; see `read_text`."""
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            raise error(f"{where}: the {what} is saved as {encoding}; save it as UTF-8")
    head = data[:_HEAD]
    # Before decoding: Latin letters in UTF-16 are valid UTF-8, with a zero byte beside each.
    if _is_bare_utf16(head):
        raise error(f"{where}: the {what} is saved as UTF-16 without a mark; save it as UTF-8")
    if head.startswith(_LFS):
        raise error(f"{where}: is a pointer of Git LFS, not the {what} itself: run  git lfs pull")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        if b"\0" in data[:_HEAD]:
            raise error(f"{where}: expected {_a(what)}, found a file that is no text") from cause
        line = data.count(b"\n", 0, cause.start) + 1
        raise error(
            f"{where}:{line}: the {what} is not UTF-8 text (byte {cause.start} is "
            f"0x{data[cause.start]:02x}); save it as UTF-8"
        ) from cause


def _is_bare_utf16(head: bytes) -> bool:
    """Returns whether every other byte is zero, as in UTF-16 of Latin letters."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    return min(even, odd) == 0 and max(even, odd) * 4 > len(head)


def _a(noun: str) -> str:
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
