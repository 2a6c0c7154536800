"""Download of files into the user's cache: resumed, checked, one process at a time.

    address --> CACHE/weights/HOST/PATH.part --(length, digest)--> CACHE/weights/HOST/PATH

What has the final name has arrived whole and has the right digest; it is checked again whenever it is
asked for, since files are put there by hand too. `checkpoints/cache.py` knows the paths,
`checkpoints/server.py` whom to ask.

The standard library does the transfer. pooch 1.9 was the alternative: it renames atomically and checks
digests, but neither resumes a file that broke off nor lets a second process wait, and it brings requests.
"""

import contextlib
import fcntl
import http.client
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import BinaryIO

from rcnn_jax.checkpoints.atomic import FULL, require_space, sync_folder
from rcnn_jax.checkpoints.cache import (
    CACHE_VARIABLE,
    Digest,
    cached_path,
    matches,
    shown,
)
from rcnn_jax.checkpoints.server import is_offline, may_pass, mirrored, reason_of, request_for
from rcnn_jax.errors import CheckpointError
from rcnn_jax.reporter import SILENT, Reporter

TIMEOUT = 30.0
"""Seconds without a byte after which a server is given up; a slow one that goes on may take hours."""
ATTEMPTS = 4
"""Times that a transfer is begun or gone on with before the command fails."""
PAUSE = 1.0
"""Seconds before the second attempt; twice as many before each further one."""

# 64 KiB a read; a step of the progress bar is a MiB, because a terminal need not be told more
# often.
_PIECE = 1 << 16
_SHOWN_PIECE = 1 << 20
# Proxies answer 200 with a login page; without this it would be reported as a wrong digest.
_PAGE = re.compile(rb"\s*(<!doctype html|<html|<head|<\?xml)", re.IGNORECASE)


# Private, and never seen by callers: it decides between another attempt and a message.
class _BrokenOffError(Exception):
    """A transfer ended before the file did; another attempt may go on."""


class _PageError(Exception):
    """Something between here and the server answered with a page of its own."""


def fetch(
    url: str,
    digest: Digest | None,
    *,
    what: str = "",
    size: int = 0,
    offline: bool = False,
    reporter: Reporter = SILENT,
    timeout: float = TIMEOUT,
    pause: float = PAUSE,
) -> Path:
    """Returns the file of an address, from the cache or from the network.

    Of two processes that want the same file one fetches it and the other waits. A mirror
    (RCNN_JAX_WEIGHTS_MIRROR) has the files of the cache: `MIRROR/HOST/PATH`; the digest stays that of
    the publisher. Proxies are those of the usual variables.

    Args:
      url: http or https address.
      digest: what the file must hash to; None where nobody has said.
      what: name of the file for messages; the address by default.
      size: bytes, as far as known, for the progress.
      offline: use the cache alone.
      reporter: shows the progress.
      timeout: seconds without a byte before an attempt ends.
      pause: seconds before the second attempt.

    Raises:
      CheckpointError: there is no network, no such file, or another file than expected; the message says
        what was wanted, from where, and where it can be put by hand.
    """
    path, source = cached_path(url), _Source(what or shown(url), url, size)
    if _is_sound(path, digest):
        return path
    if offline or is_offline():
        reason = "the network is not to be used"
        if path.is_file():
            # The file stays: offline it cannot be had again, and whoever put it there may want it.
            reason = f"{path} is another file, {_expected(digest)}, and {reason}"
        raise CheckpointError(source.by_hand(url, path, reason))
    # After the cache: a mirror that is misspelt must not stop what needs no mirror.
    address = mirrored(url)
    with _alone(path, source, reporter):
        if _is_sound(path, digest):  # another process has fetched it meanwhile
            return path
        if path.is_file():
            reporter.warn(
                f"{path}: is not what {shown(url)} has: {_expected(digest)}; fetched anew"
            )
            path.unlink()
        _transfer(address, path, digest, source, reporter, timeout, pause)
    return path


def _is_sound(path: Path, digest: Digest | None) -> bool:
    """Says whether a whole file lies there; by its digest, because files are put there by hand too."""
    return path.is_file() and (digest is None or matches(path, digest))


def _expected(digest: Digest | None) -> str:
    return (
        f"its {digest.algorithm} should begin with {digest.prefix}" if digest else "no digest known"
    )


@contextlib.contextmanager
def _alone(path: Path, source: "_Source", reporter: Reporter) -> Iterator[None]:
    """Holds the lock of a file of the cache; waits where another process has it.

    The lock file stays: whoever deleted it could take it from a third process that has just opened it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    # Mostly a home that is read-only, in a container or on a cluster, so the variable is named.
    except OSError as error:
        raise CheckpointError(
            f"{source.what}: cannot be kept in {path.parent}: {error.strerror}; set {CACHE_VARIABLE} to "
            f"a folder that can be written, or have {shown(source.url)} put at {path}"
        ) from error
    try:
        with contextlib.suppress(OSError):  # some network disks have no locks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                reporter.note(f"{source.what}: another process is fetching it; waiting")
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        # Closing releases the lock, and so does the end of a process that was killed: none goes
        # stale.
        os.close(handle)


def _transfer(
    address: str,
    path: Path,
    digest: Digest | None,
    source: "_Source",
    reporter: Reporter,
    timeout: float,
    pause: float,
) -> None:
    """Fetches a file, in several attempts if need be, and gives it its final name."""
    part, mark = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.mark")
    # Whether there is somebody else's beginning: only then is a wrong digest worth a second
    # transfer.
    begun = part.is_file()
    failures = 0
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            _receive(address, part, mark, source, digest is not None, reporter, timeout)
        # No other attempt: a login page stays one.
        except _PageError as error:
            raise CheckpointError(
                f"{source.what}: {shown(address)} answered with {error}, not with the file: a proxy or a "
                f"login page stands between. Fetch it by other means and put it at {path}"
            ) from error
        except (_BrokenOffError, OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in FULL:
                raise CheckpointError(
                    f"{part}: cannot be written: the disk is full; free some space or set "
                    f"{CACHE_VARIABLE} to a folder of another disk"
                ) from error
            # A line that breaks off again and again still gets there as long as it brings something.
            grown = part.is_file() and part.stat().st_size >= before + _SHOWN_PIECE
            failures = 1 if grown else failures + 1
            if failures == ATTEMPTS or not may_pass(error):
                raise CheckpointError(source.by_hand(address, path, reason_of(error))) from error
            reporter.note(f"{source.what}: {reason_of(error)}; trying again")
            time.sleep(pause * 2 ** (failures - 1))
            continue
        # The whole file once more, though bytes were counted: what lay there before may be of
        # another file.
        if digest is None or matches(part, digest):
            part.replace(path)
            mark.unlink(missing_ok=True)
            # The name must be on disk as the bytes are, or a machine that loses power has neither.
            sync_folder(path.parent)
            return
        page = _is_page(part)
        part.unlink()
        mark.unlink(missing_ok=True)
        if not begun:
            raise CheckpointError(
                f"{source.what}: what {shown(address)} sent is not the file: {_expected(digest)}. "
                + ("It is a page, so a proxy stands between. " if page else "")
                + f"It was deleted; try again, or fetch it by other means and put it at {path}"
            )
        begun = False  # what lay there was of another file: once more from the start


def _receive(
    address: str,
    part: Path,
    mark: Path,
    source: "_Source",
    has_digest: bool,
    reporter: Reporter,
    timeout: float,
) -> None:
    """Receives a file, or the rest of one, into `part`.

    Raises:
      _BrokenOffError: the transfer ended early.
      _PageError: the answer is a web page.
      OSError: no answer, a refusal, or a disk that cannot be written.
    """
    start = part.stat().st_size if part.is_file() else 0
    version = mark.read_text() if start and mark.is_file() else ""
    request = request_for(address)
    # Without either nothing would show that the rest belongs to another version of the file.
    if start and (version or has_digest):
        request.add_header("Range", f"bytes={start}-")
        if version:  # the server sends all of it where the file is another one by now
            request.add_header("If-Range", version)
    try:
        # Not urlopen, which keeps the proxies of its first call: in a notebook a proxy is often named
        # after a first attempt has failed.
        answer = urllib.request.build_opener().open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and start:  # nothing is left to send, or the part is too long
                if error.headers.get("Content-Range", "") == f"bytes */{start}":
                    return
                part.unlink()
                raise _BrokenOffError("the file there is shorter than what had arrived") from error
        raise
    with answer:
        kind = answer.headers.get_content_type()
        if kind in ("text/html", "application/xhtml+xml"):
            raise _PageError(f"a web page ({kind})")
        # A server may ignore Range and send all of it with 200; then the file begins anew.
        if answer.status != 206 or not _goes_on(answer.headers.get("Content-Range", ""), start):
            start = 0
        length = answer.headers.get("Content-Length", "")
        total = start + int(length) if length.isascii() and length.isdigit() else None
        if total is not None:
            require_space(part.parent, total - start, str(part))
        # The old part goes before the mark of the new file comes: a kill between them must not leave
        # both, or the rest of the new file would be put behind the beginning of the old one.
        if not start:
            part.unlink(missing_ok=True)
        # Before the first byte: a transfer that breaks off without a mark could not be gone on with
        # safely.
        mark.write_text(_version(answer.headers))
        # For the bar alone; what must arrive is `total`, the server's word of today.
        expected = total or source.size
        # Not "ab": where a disk has no locks another process may write too, and bytes that are
        # appended would lie behind its own instead of over them.
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            steps = -(-expected // _SHOWN_PIECE)
            label = f"fetching {source.what} (MiB)"
            for _ in reporter.track(_copied(answer, file, start), steps, label):
                pass
            file.flush()
            # A full network disk may say so only here, and the final name must not come before.
            os.fsync(file.fileno())
    arrived = part.stat().st_size
    if total is not None and arrived < total:
        raise _BrokenOffError(f"the transfer broke off after {arrived:,} of {total:,} bytes")


def _copied(answer: http.client.HTTPResponse, file: BinaryIO, start: int) -> Iterator[None]:
    """Copies an answer into a file and yields once for every MiB of the file, those before too."""
    for _ in range(start // _SHOWN_PIECE):
        yield
    done = start
    # read1 returns what has come: a slow line would keep read() silent for minutes.
    while piece := answer.read1(_PIECE):
        file.write(piece)
        before, done = done, done + len(piece)
        for _ in range(done // _SHOWN_PIECE - before // _SHOWN_PIECE):
            yield


def _goes_on(content_range: str, start: int) -> bool:
    """Says whether a partial answer begins where the file ends."""
    return start > 0 and content_range.startswith(f"bytes {start}-")


def _version(headers: Message) -> str:
    """Returns the value of `If-Range`: a strong ETag, else the date of the file."""
    # Weak tags (W/"...") may stand for bytes that differ; RFC 9110 forbids them in If-Range.
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return _PAGE.match(file.read(256)) is not None


@dataclass(frozen=True)
class _Source:
    """Name, address and size of a download, for messages.

    Attributes:
      what: its name.
      url: of the publisher.
      size: in bytes, 0 where nobody has said.
    """

    what: str
    url: str
    size: int

    def by_hand(self, address: str, path: Path, reason: str) -> str:
        """Returns the message of a file that cannot be fetched."""
        asked = "" if address == self.url else f" (asked of the mirror {shown(address)})"
        return (
            f"{self.what}: cannot be fetched from {shown(self.url)}{asked}: {reason}. Without a network, "
            f"fetch that address on another machine and put the file at {path}"
        )
