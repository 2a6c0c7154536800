"""Inference on video: the detections of every frame, in order, with the times of the source.

    frames --ahead--> batches --predictor--> detections [--> track ids] --> writers

What is written of them is in `video_output.py`.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from rcnn_jax.data.loader import images as image_files
from rcnn_jax.inference.frames import Frame, Source, frame_count, read_frames
from rcnn_jax.optional import require
from rcnn_jax.reporter import Reporter
from rcnn_jax.runtime.backend import Predictor
from rcnn_jax.settings.data import GeometrySettings
from rcnn_jax.structures import Detections

_READY = 8  # frames that wait for the device
_SECONDS_BETWEEN_LINES = 10.0


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


def run_video(
    source: Source,
    detect: Callable[[Iterable[Frame]], Iterator[Seen]],
    writers: Sequence[Callable[[Seen], None]],
    reporter: Reporter,
    *,
    track: bool = False,
) -> int:
    """Runs over a source to its end; returns the number of frames.

    Args:
      source: file, camera or stream.
      detect: frames to detections.
      writers: take every frame in turn.
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
                writer(each)
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
