"""Sources of pictures for a loop in Python: the same words as `inference -i`, and objects in memory.

text, number, pictures --resolve--> videos and runs of pictures --Detector.stream--> detections
"""

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from rcnn_jax.data.formats.image_folder import find_images, is_image_name
from rcnn_jax.data.loader.pictures import Picture, as_pictures, is_picture
from rcnn_jax.errors import DataError
from rcnn_jax.inference.frames import Source, as_source

StreamSource: TypeAlias = Any
"""A video file, a camera (`camera:0`, `/dev/video0` or its number), the address of a stream, a folder or
a pattern of files; a picture as a `Detector` takes it; or a list or another iterable of pictures and
names of videos."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures without a clock; counted from 0.

    Attributes:
      items: files or objects in memory, read one after the other.
    """

    items: Iterable[Picture]


def resolve(source: StreamSource) -> Iterator[Source | Pictures]:
    """Returns the videos and runs of pictures of a source, in order.

    What can be known without reading a picture is checked before this returns.

    Args:
      source: see `StreamSource`. An iterable is read as it is needed, so it may have no end.

    Raises:
      DataError: there is nothing of that name, or nothing in it is a picture or a video.
    """
    # bool is an int, and True is no camera.
    if isinstance(source, int) and not isinstance(source, bool):
        return iter([Source(f"/dev/video{source}", live=True)])
    if isinstance(source, str | os.PathLike):
        return iter(_named(os.fspath(source)))
    if is_picture(source):
        return iter([Pictures([source])])
    if isinstance(source, Iterator):
        return _mixed(source)
    # A list is checked whole before the first picture: a wrong name at its end would be told late.
    items = as_pictures(source)
    for item in items:
        if isinstance(item, str | os.PathLike) and (video := as_source(os.fspath(item))):
            _require(video)
    return _mixed(items)


def find_videos(text: str) -> list[Source]:
    """Returns the videos that a text names: one, or those of a pattern or of a folder without images.

    An empty list says that it names images, if anything.

    Raises:
      DataError: it is a pattern of videos that matches nothing.
    """
    video, path = as_source(text), Path(text)
    # Existing names come before patterns: `take[1].mp4` is a file name as well as a pattern.
    pattern = "://" not in text and glob.has_magic(text) and not path.exists()
    if video is not None and (video.live or not pattern):
        return [video]
    if pattern:
        # Path.glob takes no absolute pattern.
        paths = [Path(each) for each in sorted(glob.glob(text))]  # noqa: PTH207
    else:
        paths = sorted(path.iterdir()) if path.is_dir() else []
    if video is not None and not paths:
        raise DataError(f"{text}: no video matches this pattern")
    # A folder of images with a film among them is a folder of images, as it always was.
    if video is None and any(is_image_name(each.name) for each in paths):
        return []
    visible = [each for each in paths if not each.name.startswith(".") and each.is_file()]
    return [each for one in visible if (each := as_source(one)) is not None]


def _named(text: str) -> list[Source | Pictures]:
    """Videos or pictures that a text names, as `inference -i` reads it."""
    videos = find_videos(text)
    for video in videos:
        _require(video)
    if videos:
        return list(videos)
    listing = find_images(text, what="pictures or videos")
    # Entries that are no files stay among the pictures: reading them says what they are.
    return [Pictures(sorted([*listing.paths, *listing.unusable]))]


def _mixed(items: Iterable[Any]) -> Iterator[Source | Pictures]:
    """Yields the videos of an iterable, and what lies between them as runs of pictures."""
    iterator = iter(items)
    videos: list[Source] = []

    def pictures() -> Iterator[Picture]:
        for item in iterator:
            video = as_source(os.fspath(item)) if isinstance(item, str | os.PathLike) else None
            if video is not None:
                videos.append(video)
                return
            yield item

    while True:
        # The caller reads a run to its end before it asks for the next one, or stops for good.
        yield Pictures(pictures())
        if not videos:
            return
        _require(videos[0])
        yield videos.pop()


def _require(video: Source) -> None:
    """Stops at a video file that is not there; an address is known when it is opened."""
    if not video.live and "://" not in video.address and not Path(video.address).is_file():
        kind = "is no file" if Path(video.address).exists() else "does not exist"
        raise DataError(f"{video.address}: the video {kind}")
