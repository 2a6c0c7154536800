"""Inference on video: an annotated film and JSON lines, with the times of the source.

frames --ahead--> batches --predictor--> detections [--> track ids] --> film, lines
"""

import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import jax
import numpy as np

from rcnn_jax.data.loader import images as image_files
from rcnn_jax.errors import DataError
from rcnn_jax.evaluate.masks import image_results
from rcnn_jax.inference.draw import draw_detections
from rcnn_jax.inference.frames import Frame, Source, frame_count, read_frames
from rcnn_jax.optional import require
from rcnn_jax.processes import unfinished_name
from rcnn_jax.reporter import Reporter
from rcnn_jax.runtime.backend import Predictor
from rcnn_jax.settings.data import GeometrySettings
from rcnn_jax.structures import Detections

_TICKS = 90_000  # per second: the clock of MPEG, which divides all usual rates
_READY = 8  # frames that wait for the device
_SECONDS_BETWEEN_LINES = 10.0
# Fragments of a second, each with an index of its own: what a killed process has written can be played.
_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "1000000"}


@dataclass(frozen=True, eq=False)
class Seen:
    """A frame and its detections.

    Attributes:
      frame: the picture, its number and time.
      detections: in pixels of the frame, all valid.
      ids: i64[d] of the same object in other frames; None without tracking.
    """

    frame: Frame
    detections: Detections
    ids: np.ndarray | None = None


def detect_frames(
    frames: Iterable[Frame],
    geometry: GeometrySettings,
    channel_order: str,
    predictor: Predictor,
    *,
    batch: int,
    threshold: float = 0.0,
) -> Generator[Seen]:
    """Yields every frame with its detections, in order.

    Args:
      frames: of `frames.read_frames`.
      geometry: from frame to canvas.
      channel_order: of the network.
      predictor: canvases to detections on the canvas.
      batch: frames at a time; 1 for live sources, whose frames must not wait for others.
      threshold: lowest score.
    """
    offset = image_files.origin(geometry)
    # Closed here and not by the garbage collector: a caller that breaks off wants its camera back.
    with closing(_ahead(frames)) as decoded:
        yield from _detect(decoded, geometry, channel_order, predictor, batch, threshold, offset)


def _detect(
    frames: Iterable[Frame],
    geometry: GeometrySettings,
    channel_order: str,
    predictor: Predictor,
    batch: int,
    threshold: float,
    offset: tuple[float, float],
) -> Iterator[Seen]:
    for group in _groups(frames, batch):
        fits = [image_files.fit(frame.image.shape[:2], geometry) for frame in group]
        canvases = [
            image_files.apply_image(_in_order(frame.image, channel_order), placed)
            for frame, placed in zip(group, fits, strict=True)
        ]
        # Filled up with copies, because another batch size would be another compilation.
        stacked = np.stack(canvases + [canvases[0]] * (batch - len(group)))
        outputs = jax.tree.map(np.asarray, predictor(stacked)[0])
        for row, (frame, placed) in enumerate(zip(group, fits, strict=True)):
            # Cut to the real ones here, once: tracking, drawing and JSON lines need no masks of
            # validity.
            keep = outputs.valid[row] & (outputs.scores[row] >= threshold)
            one = jax.tree.map(lambda leaf, r=row, k=keep: leaf[r][k], outputs)
            boxes = image_files.boxes_to_source(
                one.boxes, np.asarray(placed.scale), np.asarray(frame.image.shape[:2]), offset
            )
            yield Seen(frame, one.replace(boxes=boxes))


def follow(seen: Iterable[Seen]) -> Iterator[Seen]:
    """Yields the detections with an id for every object, the same in all frames that show it.

    SORT by the package similari: boxes are matched by overlap and a Kalman filter, one tracker per class,
    so that an id never changes its class. Source: Bewley et al. 2016 (arXiv:1602.00763).

    Raises:
      MissingDependencyError: the package is not installed.
    """
    library: Any = require("similari", extra="track", purpose="track ids")
    trackers: dict[int, Any] = {}
    numbers: dict[tuple[int, int], int] = {}
    for each in seen:
        ids = np.zeros(len(each.detections.scores), np.int64)
        present = np.asarray(each.detections.classes)
        # Trackers of absent classes too: a track ages only when its tracker is told of a frame.
        for label in {*present.tolist(), *trackers}:
            if label not in trackers:
                trackers[label] = library.Sort(
                    shards=1,
                    bbox_history=1,
                    # Half a second of film: longer, and a new object takes over the id of one that
                    # has left.
                    max_idle_epochs=15,
                    method=library.PositionalMetricType.iou(threshold=0.3),
                    spatio_temporal_constraints=None,
                )
            rows = np.flatnonzero(present == label)
            boxes = [
                (
                    # Sides of at least a pixel: the filter works with the aspect ratio, which 0
                    # would make infinite.
                    library.BoundingBox(
                        float(x1), float(y1), max(float(x2 - x1), 1.0), max(float(y2 - y1), 1.0)
                    ).as_xyaah(),
                    int(row),
                )
                for row, (y1, x1, y2, x2) in zip(rows, each.detections.boxes[rows], strict=True)
            ]
            for track in trackers[label].predict(boxes):
                # Ids of one tracker repeat those of another: numbered anew, in order of appearance.
                key = (label, track.id)
                ids[track.custom_object_id] = numbers.setdefault(key, len(numbers) + 1)
        yield Seen(each.frame, each.detections, ids)


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


def run_video(
    source: Source,
    detect: Callable[[Iterable[Frame]], Iterator[Seen]],
    writers: Sequence[Film | Lines],
    reporter: Reporter,
    *,
    track: bool = False,
) -> int:
    """Runs over a source to its end; returns the number of frames.

    Args:
      source: file, camera or stream.
      detect: frames to detections.
      writers: entered context managers.
      reporter: progress and what is said of the source.
      track: give objects ids.

    Raises:
      DataError: the source cannot be read, or a file not be written.
    """
    started, count, objects = time.monotonic(), 0, 0
    seen = detect(read_frames(source, reporter.note))
    total = frame_count(source)
    rows = follow(seen) if track else seen
    # Without a number of frames there is no bar, which would have no end to go to.
    tracked = reporter.track(rows, total, "frames") if total else _told(rows, reporter)
    try:
        for each in tracked:
            for writer in writers:
                writer.write(each)
            count, objects = count + 1, objects + len(each.detections.scores)
    finally:
        # Cameras end by Ctrl-C; only where nothing came is the error all there is to say.
        if count:
            seconds = time.monotonic() - started
            reporter.console.print(
                f"{count} frames, {objects} objects, {seconds:.1f} s, "
                f"{count / max(seconds, 1e-9):.1f} frames/s",
                markup=False,
            )
    return count


def _told(rows: Iterable[Seen], reporter: Reporter) -> Iterator[Seen]:
    """Passes frames on and says now and then how many there were, and how fast they come."""
    last, before = time.monotonic(), 0
    for count, each in enumerate(rows, start=1):
        yield each
        seconds = time.monotonic() - last
        if seconds >= _SECONDS_BETWEEN_LINES:
            # Of these seconds alone: a mean of days would not show that a camera has become slow.
            reporter.console.print(
                f"{count} frames, {(count - before) / seconds:.1f} frames/s", markup=False
            )
            last, before = time.monotonic(), count


def _ahead(frames: Iterable[Frame]) -> Generator[Frame]:
    """Decodes on a thread, a few frames ahead of the device."""
    end = object()
    iterator = iter(frames)
    pending = []
    try:
        with ThreadPoolExecutor(1) as pool:
            try:
                while True:
                    # One thread: a decoder is a sequence, and its own threads share the work of a
                    # frame.
                    while len(pending) < _READY:
                        pending.append(pool.submit(next, iterator, end))
                    frame = pending.pop(0).result()
                    if frame is end:
                        return
                    yield frame  # type: ignore[misc]
            finally:
                # A camera would be waited for, frame by frame.
                for each in pending:
                    each.cancel()
    finally:
        # After the thread has ended: a generator that runs cannot be closed.
        if isinstance(iterator, Generator):
            iterator.close()


def _groups(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    group: list[Frame] = []
    for frame in frames:
        # Frames of another size may lie on another canvas, and a batch has one.
        if group and (len(group) == size or frame.image.shape != group[0].image.shape):
            yield group
            group = []
        group.append(frame)
        # A full batch goes at once: the next frame of a camera may be a while away.
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _in_order(image: np.ndarray, channel_order: str) -> np.ndarray:
    if channel_order == "rgb":
        return image
    if channel_order == "bgr":
        return np.ascontiguousarray(image[..., ::-1])
    import cv2

    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]


def _even(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Fits a picture to the size of the film: yuv420p halves both sides, so they are even."""
    height, width = picture.shape[:2]
    down, right = max(size[0] - height, 0), max(size[1] - width, 0)
    if down or right:
        picture = np.pad(picture, ((0, down), (0, right), (0, 0)), mode="edge")
    return np.ascontiguousarray(picture[: size[0], : size[1]])
