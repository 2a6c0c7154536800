"""Frames of a video, a camera or a network stream, each with its time.

    source --PyAV--> Frame(image, number, time) ...    a stream that breaks off is opened again

Times are those of the source, not a count divided by a declared rate: rates in headers are often wrong
(1000, 0), and phones write films of variable rate. Films that are stored turned come upright, as
players show them.
"""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rcnn_jax.errors import DataError
from rcnn_jax.optional import require
from rcnn_jax.printable import reason

# A name decides before anything is opened: FFmpeg would take any file, pictures too.
SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv")
"""Endings of video files, in lower case."""

TRIES = 5
"""Times in a row that a live source is opened again before it counts as gone."""

_CAMERA = re.compile(r"camera:(\d+)|/dev/video(\d+)")
_URL = re.compile(r"(rtsps?|rtmp|https?|udp|tcp|srt):/+(.*)")
# Cameras are addressed as rtsp://user:password@host; no message and no file name may hold that. To the
# last @ before the path, as FFmpeg reads it: a password may have one itself.
_SECRET = re.compile(r"(?<=://)[^/?#\s]*@")
# Other cameras want ?user=..&password=.., or user=.._password=.. in the path.
_FIELD = re.compile(
    r"(?i)((?:user(?:name)?|login|pass(?:word|wd)?|pwd|psw|token|auth|key|secret)=)[^&/\s'\"]*"
)
# A camera sends something every 40 ms; one that is silent for so long has gone.
_TIMEOUT = (10.0, 10.0)  # seconds to open and to wait for a packet


class UnreadableVideoError(DataError):
    """A video cannot be opened or read, or a live source stays away; the next one may be sound."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame.

    Attributes:
      image: u8[h w 3], RGB, upright.
      number: counted from 0, over all openings of a live source.
      time: seconds since the first frame, by the clock of the source.
    """

    image: np.ndarray
    number: int
    time: float


@dataclass(frozen=True)
class Source:
    """A source of frames.

    Attributes:
      address: a path, the address of a stream, or the device of a camera.
      live: frames come at their own pace and may break off.
    """

    address: str
    live: bool

    @property
    def name(self) -> str:
        """The address without name and password, for messages."""
        return masked(self.address)

    @property
    def stem(self) -> str:
        """A file name for its results, without an ending."""
        if not self.live:
            return Path(self.address).stem
        plain = _FIELD.sub(r"\1", _SECRET.sub("", self.address))
        return re.sub(r"\W+", "_", plain.partition("://")[2] or plain).strip("_")[:80] or "stream"


def masked(text: str) -> str:
    """Returns a text with names and passwords of addresses replaced by stars."""
    return _FIELD.sub(r"\1***", _SECRET.sub("***@", text))


def as_source(text: str | Path) -> Source | None:
    """Returns the source that a text names; None where it names no video.

    Args:
      text: a video file, `camera:0`, `/dev/video0`, or the address of a stream (rtsp, rtmp, http, ...).
        A path has lost one of the two slashes of an address; it is given back.
    """
    text = str(text)
    if camera := _CAMERA.fullmatch(text):
        return Source(f"/dev/video{camera[1] or camera[2]}", live=True)
    if url := _URL.fullmatch(text):
        address = f"{url[1]}://{url[2]}"
        plain = address.partition("?")[0].lower()
        # A film behind http has an end; as a live source it would be opened again after it, for
        # ever.
        return Source(address, live=not (url[1].startswith("http") and plain.endswith(SUFFIXES)))
    return Source(text, live=False) if text.lower().endswith(SUFFIXES) else None


def read_frames(
    source: Source, say: Callable[[str], None] = lambda text: None, *, wait: float = 1.0
) -> Iterator[Frame]:
    """Yields the frames of a source, in order.

    Args:
      source: of `as_source`.
      say: told when a live source is opened again.
      wait: seconds before the first new try; doubled with every further one.

    Raises:
      UnreadableVideoError: it cannot be opened, holds no picture, is a good deal shorter than it
        declares, or a live source stays away. The frames before come first.
      MissingDependencyError: PyAV is not installed.
    """
    av: Any = require("av", extra="video", purpose="reading videos and cameras")
    number, last, tries, arrived = 0, 0.0, 0, 0.0
    while True:
        offset: float | None = None if number else 0.0
        try:
            for image, seconds in _decode(av, source):
                now = time.monotonic()
                if offset is None:
                    # The clock of the source begins anew; ours goes on by what has really passed,
                    # opening and failed tries too.
                    offset = last + max(now - arrived, 1e-6)
                arrived = now
                yield Frame(image, number, offset + seconds)
                # A frame that came pays all tries back: a camera may drop out every night for
                # years.
                number, last, tries = number + 1, offset + seconds, 0
            if not source.live:
                if not number:
                    raise UnreadableVideoError(f"{source.name}: holds no picture")
                return
            problem = "the stream has ended"
        except (av.error.FFmpegError, OSError) as error:
            # Not the whole text of the error, which repeats the address.
            problem = masked(error.strerror or reason(error))
            if not source.live:
                # What was decoded has been handed on; the rest of a damaged file is lost.
                kept = f" after {number} frames" if number else ""
                raise UnreadableVideoError(
                    f"{source.name}: cannot be read{kept}: {problem}"
                ) from error
        # A source that never gave a frame is an address that is wrong, and waiting does not mend
        # it.
        if tries == TRIES or not number:
            raise UnreadableVideoError(
                f"{source.name}: {problem}"
                + (
                    f"; it did not come back in {TRIES} tries"
                    if number
                    else ": is there such a camera?"
                    if source.address.startswith("/dev/")
                    else ": is the address right?"
                )
            )
        say(f"{source.name}: {problem}; trying again")
        time.sleep(wait * 2**tries)
        tries += 1


def frame_count(source: Source) -> int:
    """Returns the number of frames that a file declares, 0 where it does not or the source is live."""
    if source.live:
        return 0
    av: Any = require("av", extra="video", purpose="reading videos and cameras")
    try:
        with av.open(source.address) as container:
            stream = container.streams.video[0]
            # AVI and MP4 declare it; Matroska and MPEG streams have a duration at most.
            if stream.frames:
                return int(stream.frames)
            rate = float(stream.average_rate or 0)
            # In microseconds. Rates of 500 and more are clock rates in broken headers; then no bar
            # is better than a wrong one.
            return round(float(container.duration or 0) / 1e6 * rate) if 0 < rate < 500 else 0
    except (av.error.FFmpegError, OSError, IndexError):
        return 0  # reading says what is wrong


def _decode(av: Any, source: Source) -> Iterator[tuple[np.ndarray, float]]:
    """Yields (image, seconds since the first) of one opening."""
    options = {}
    if source.address.startswith("rtsp"):
        options = {"rtsp_transport": "tcp"}  # lost packets of UDP are torn pictures
    elif source.live and source.address.startswith("http"):
        options = {"seekable": "0"}  # FFmpeg would look for the end of what has none
    # FFmpeg cannot guess the format of a device from its name.
    form = "v4l2" if source.address.startswith("/dev/video") else None
    timeout = _TIMEOUT if source.live else None
    with av.open(source.address, format=form, options=options, timeout=timeout) as container:
        if not container.streams.video:
            return
        stream = container.streams.video[0]
        # By frames and slices; PyAV's default of slices leaves most cores idle for H.264.
        stream.thread_type = "AUTO"
        count, last = 0, 0.0
        try:
            for image, seconds in _timed(_whole(av, container, stream), stream):
                count, last = count + 1, seconds
                yield image, seconds
        except av.error.FFmpegError:
            # The packet that is left of a film that was cut short is an error or nothing, by the number
            # of threads that decode.
            if not source.live and count:
                _check_end(source, container, stream, count, last)
            raise
        if not source.live and count:
            _check_end(source, container, stream, count, last)


def _timed(frames: Iterator[Any], stream: Any) -> Iterator[tuple[np.ndarray, float]]:
    """Yields (image, seconds since the first) of decoded frames; times only grow."""
    first: float | None = None
    before = -1.0
    for frame in frames:
        # Not BGR: films are drawn and written in RGB, and only the canvas has the network's order.
        image = frame.to_ndarray(format="rgb24")
        seconds: float | None = frame.time
        if seconds is None:  # raw streams have none: the average rate is the best there is
            rate = float(stream.average_rate or 0) or 25.0
            seconds = before + 1 / rate if before >= 0 else 0.0
        if first is None:
            first = seconds
        # Times of damaged files may stand still or go back, which no player would show.
        before = max(seconds - first, before + 1e-6) if before >= 0 else 0.0
        yield _upright(image, int(getattr(frame, "rotation", 0) or 0)), before


def _check_end(source: Source, container: Any, stream: Any, count: int, last: float) -> None:
    """Stops where a file has ended before what its header declares.

    FFmpeg ends a file that was cut short as it ends a whole one.

    Args:
      source: a file.
      container: opened.
      stream: of its pictures.
      count: frames that were read.
      last: seconds of the last one.

    Raises:
      UnreadableVideoError: the file is a good deal shorter than declared.
    """
    kinds = set(container.format.name.split(","))
    # Not by the seconds: recordings of a screen show their last frame for as long as nothing moves.
    # A few are left out by right, where a film was cut between two whole pictures.
    if "mp4" in kinds and count < 0.95 * stream.frames - 2:
        declared = f"{count} of the {stream.frames} frames"
    # It counts no frames, and its seconds are those of all that is in it.
    elif (
        "matroska" in kinds
        and len(container.streams) == 1
        and (seconds := float(container.duration or 0) / 1e6) - last > max(2.0, seconds / 10)
    ):
        declared = f"{last:.1f} of the {seconds:.1f} seconds"
    else:
        return
    raise UnreadableVideoError(
        f"{source.name}: ends after {declared} that it declares; it was cut short or is damaged"
    )


def _whole(av: Any, container: Any, stream: Any) -> Iterator[Any]:
    """Yields the frames of a stream; where it breaks off, those that the decoder still holds too."""
    try:
        yield from container.decode(stream)
    except av.error.FFmpegError:
        # Decoders hold back the frames that others refer to: without this a damaged film loses them
        # too.
        for frame in stream.codec_context.decode(None):
            # A codec knows no clock: without it the time of such a frame is not a number.
            frame.time_base = stream.time_base
            yield frame
        raise


def _upright(image: np.ndarray, rotation: int) -> np.ndarray:
    """Turns an image by the angle that its film declares, a multiple of 90, counter-clockwise."""
    # FFmpeg gives -90 as well as 270, as a float.
    turns = round(rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
