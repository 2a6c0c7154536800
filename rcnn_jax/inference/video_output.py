"""What is written of a video: an annotated film and JSON lines, with the times of the source.

detections of frames --> Film --> <name>.mp4, as long as the source
                     --> Lines --> <name>.jsonl, a line per frame
"""

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np

from rcnn_jax.errors import DataError
from rcnn_jax.evaluate.masks import image_results
from rcnn_jax.inference.draw import draw_detections
from rcnn_jax.inference.video import Seen
from rcnn_jax.optional import require
from rcnn_jax.processes import unfinished_name
from rcnn_jax.structures import Detections

_TICKS = 90_000  # per second: the clock of MPEG, which divides all usual rates
# Fragments of a second, each with an index of its own: what a killed process has written can be played.
_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "1000000"}


def with_ids(
    detections: Detections, names: Sequence[str], ids: np.ndarray | None
) -> tuple[Detections, Sequence[str]]:
    """Returns detections and names whose captions hold the ids: `car 3`; as they are without ids."""
    if ids is None:
        return detections, names
    # The id as the class: drawing knows nothing of ids, and an object keeps its colour so.
    shown = [""] * (max(map(int, ids), default=0) + 1)
    for label, number in zip(np.asarray(detections.classes), ids, strict=True):
        shown[int(number)] = f"{names[int(label)]} {number}"
    return detections.replace(classes=np.asarray(ids)), shown


class Film:
    """An annotated film; a context manager.

    The film has its name only when it is closed, whole, also where an error or a signal ends it: what was
    written until then can be played. That of a live source, which may run for months, has its name from
    the first frame on and can be played at any time.
    """

    def __init__(
        self,
        path: Path,
        class_names: Sequence[str],
        *,
        captions: bool,
        masks: bool,
        live: bool = False,
    ):
        """Takes the file, how detections are drawn, and whether the source is live."""
        self._av: Any = require("av", extra="video", purpose="writing videos")
        self.path = path
        self._names = class_names
        self._captions = captions
        self._masks = masks
        self._live = live
        self._written = path if live else unfinished_name(path)
        self._container: Any = None
        self._stream: Any = None
        self._size = (0, 0)
        # In ticks. The first frame is at 0, and MP4 demands that times rise.
        self._last = -1

    def __enter__(self) -> "Film":
        return self

    def write(self, seen: Seen) -> None:
        """Draws a frame and appends it at its time.

        Raises:
          DataError: the file cannot be written.
        """
        detections, names = with_ids(seen.detections, self._names, seen.ids)
        picture = draw_detections(
            seen.frame.image, detections, names, captions=self._captions, masks=self._masks
        )
        try:
            if self._container is None:
                self._open(*picture.shape[:2])
            frame = self._av.VideoFrame.from_ndarray(_even(picture, self._size), format="rgb24")
            # At the time of the source, so that films of any rate play as fast as they were taken.
            self._last = max(round(seen.frame.time * _TICKS), self._last + 1)
            frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
            container: Any = self._container
            container.mux(self._stream.encode(frame))
        except (self._av.error.FFmpegError, OSError) as error:
            raise DataError(f"{self.path}: cannot be written: {error}") from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._container is None:
            return
        try:
            # What the encoder still holds: without it the film lacks its last frames, and with an
            # error too.
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._written.replace(self.path)
        finally:
            if not self._live:
                self._written.unlink(missing_ok=True)

    def _open(self, height: int, width: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # The format by name: the temporary name ends in no suffix that FFmpeg knows.
        self._container = self._av.open(
            str(self._written),
            "w",
            format="mp4",
            container_options=_FRAGMENTS | {"flush_packets": "1"} if self._live else {},
        )
        self._size = (height + height % 2, width + width % 2)
        # H.264 is what browsers and players show; builds of FFmpeg without the GPL have MPEG-4.
        name = "libx264" if "libx264" in self._av.codecs_available else "mpeg4"
        # The rate is nominal: the times of the frames overrule it.
        self._stream = self._container.add_stream(name, rate=30)
        if self._live and name == "libx264":
            # The encoder looks 40 frames ahead otherwise, and a kill would lose them.
            self._stream.options = {"tune": "zerolatency"}
        self._stream.height, self._stream.width = self._size
        # The only chroma layout of H.264 that browsers play.
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _TICKS)


class Lines:
    """One JSON object per frame: number, time, detections; a context manager.

    The file has its name when it is whole. That of a live source has it from the first frame on, and
    every line is there as soon as it is written: other programs follow it.
    """

    def __init__(
        self,
        path: Path,
        class_names: Sequence[str],
        category_ids: Sequence[int] | None,
        *,
        live: bool = False,
    ):
        """Takes the file, the category ids of a Mask R-CNN, and whether the source is live."""
        self.path = path
        self._names = class_names
        self._ids = category_ids
        self._written = path if live else unfinished_name(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Opened by the first line: a source that could not be opened must not replace the lines of an
        # earlier run.
        self._file: TextIO | None = None

    def __enter__(self) -> "Lines":
        return self

    def write(self, seen: Seen) -> None:
        """Appends the line of a frame."""
        self._open().write(json.dumps(self._line(seen)) + "\n")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._open()  # no frame at all is a file without lines
        # Lines that were written are whole, whatever ended the film.
        if self._file is not None:
            self._file.close()
            self._written.replace(self.path)

    def _open(self) -> TextIO:
        if self._file is None:
            self._file = self._written.open("w", encoding="utf-8", buffering=1)
        return self._file

    def _line(self, seen: Seen) -> dict[str, Any]:
        detections = seen.detections
        rows: list[dict[str, Any]] = []
        for index, (box, score, label) in enumerate(
            zip(detections.boxes, detections.scores, detections.classes, strict=True)
        ):
            y1, x1, y2, x2 = (round(float(side), 2) for side in box)
            # x first and sides, as COCO's: lines are read by other tools, of which none knows our
            # order.
            row = {
                "class": self._names[int(label)],
                "score": round(float(score), 4),
                "bbox": [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
            }
            if seen.ids is not None:
                row["id"] = int(seen.ids[index])
            rows.append(row)
        if detections.masks is not None and self._ids is not None:
            size = (seen.frame.image.shape[0], seen.frame.image.shape[1])
            for row, result in zip(
                rows, image_results(seen.frame.number, detections, self._ids, size), strict=True
            ):
                row["segmentation"] = result.get("segmentation")
        return {"frame": seen.frame.number, "time": round(seen.frame.time, 6), "detections": rows}


def _even(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Fits a picture to the size of the film: yuv420p halves both sides, so they are even."""
    height, width = picture.shape[:2]
    down, right = max(size[0] - height, 0), max(size[1] - width, 0)
    if down or right:
        picture = np.pad(picture, ((0, down), (0, right), (0, 0)), mode="edge")
    return np.ascontiguousarray(picture[: size[0], : size[1]])
