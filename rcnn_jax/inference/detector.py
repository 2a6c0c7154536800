"""A model that is called from Python, and what it finds.

picture, pictures --Detector()--> Prediction        source --Detector.stream--> FramePrediction ...
"""

import itertools
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, overload

import flax.struct
import jax
import numpy as np

from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.data.loader import images as image_files
from rcnn_jax.data.loader.pictures import Picture, as_pictures, is_picture, read_picture
from rcnn_jax.errors import CheckpointError, DataError, UsageError
from rcnn_jax.evaluate.masks import paste_window
from rcnn_jax.image_file import encode_image
from rcnn_jax.inference.draw import draw_detections
from rcnn_jax.inference.frames import Frame, Source, UnreadableVideoError, read_frames
from rcnn_jax.inference.stream import Pictures, StreamSource, resolve
from rcnn_jax.inference.video import Seen, detect_frames, follow
from rcnn_jax.inference.video_output import with_ids
from rcnn_jax.kinds import Kind
from rcnn_jax.reporter import SILENT, Reporter
from rcnn_jax.runtime.backend import Predictor
from rcnn_jax.settings.data import GeometrySettings
from rcnn_jax.structures import Detections


class Prediction(Detections):
    """What a model finds in one picture, best first; all are valid.

    Attributes:
      boxes: f32[d 4] (y1, x1, y2, x2) in pixels of the picture.
      scores: f32[d] in [0, 1].
      classes: i32[d], indices into `class_names`.
      valid: bool[d], all true.
      masks: f32[d s s] probabilities inside the boxes, or None; `image_masks` has them on the picture.
      class_names: of the model.
      picture: u8[h w 3] in RGB, what was looked at.
      ids: i64[d] of the same object in other frames of a stream; None without tracking.
    """

    class_names: tuple[str, ...] = flax.struct.field(pytree_node=False, default=())
    picture: np.ndarray | None = flax.struct.field(pytree_node=False, default=None)
    ids: np.ndarray | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes of the detections."""
        return tuple(self.class_names[int(index)] for index in np.asarray(self.classes))

    @property
    def image_masks(self) -> np.ndarray | None:
        """Masks on the picture, bool[d h w], or None where the model has none."""
        if self.masks is None or self.picture is None:
            return None
        size = (self.picture.shape[0], self.picture.shape[1])
        full = np.zeros((len(self.masks), *size), bool)
        # Into views of one array: a mask of its own for each detection would be copied once more.
        for plane, mask, box in zip(full, self.masks, np.asarray(self.boxes), strict=True):
            window = paste_window(np.asarray(mask), box, size)
            height, width = window.pixels.shape
            plane[window.top :, window.left :][:height, :width] = window.pixels
        return full

    def above(self, threshold: float) -> Self:
        """Returns the detections with at least a score."""
        keep = np.asarray(self.scores) >= threshold
        chosen = {
            name: None if part is None else np.asarray(part)[keep]
            for name, part in {**_leaves(self), "ids": self.ids}.items()
        }
        return self.replace(**chosen)

    def draw(
        self, path: str | Path | None = None, *, threshold: float = 0.5, masks: bool = True
    ) -> np.ndarray:
        """Returns the picture with the detections on it, u8[h w 3] in RGB.

        Args:
          path: image file to write as well.
          threshold: least score of what is drawn.
          masks: draw masks, where there are any.

        Raises:
          DataError: the file cannot be written.
        """
        assert self.picture is not None
        chosen = self.above(threshold)
        shown, names = with_ids(chosen, self.class_names, chosen.ids)
        drawn = draw_detections(self.picture, shown, names, captions=True, masks=masks)
        if path is not None:
            write_picture(Path(path), drawn)
        return drawn


class FramePrediction(Prediction):
    """What a model finds in one frame of a stream.

    Attributes:
      index: of the frame in its source, from 0; a folder, a pattern of pictures and a list count as one.
      time: seconds since the first frame, by the clock of the source; None for pictures.
      source: the video, the stream (without its password) or the file of the picture; empty for
        objects in memory.
    """

    index: int = flax.struct.field(pytree_node=False, default=0)
    time: float | None = flax.struct.field(pytree_node=False, default=None)
    source: str = flax.struct.field(pytree_node=False, default="")


@dataclass(frozen=True, eq=False)
class Detector:
    """A model that can be called.

    Attributes:
      kind: which detector.
      class_names: n names; `Detections.classes` are indices into them.
      category_ids: category id of every class of a Mask R-CNN, 0 for none; None for a Faster R-CNN.
      geometry: from a picture to the input of the network.
      channel_order: of the network.
      predictor: canvases u8[b h w c] to detections on the canvas.
    """

    kind: Kind
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...] | None
    geometry: GeometrySettings
    channel_order: str
    predictor: Predictor

    @overload
    def __call__(self, images: str | Path | bytes) -> Prediction: ...
    @overload
    def __call__(self, images: Any) -> Any: ...

    def __call__(self, images: Picture | Iterable[Picture]) -> Prediction | list[Prediction]:
        """Returns the detections of every picture, best first.

        Pictures of one input size are one batch, so a set that does not fit into memory is given
        in parts.

        Args:
          images: a picture of any size, or several: image files, the bytes of some, PIL images, or
            arrays u8[h w 3] in RGB.

        Returns:
          A `Prediction` for one picture, a list of them for several. Scores start at the threshold
          that the spec set for inference.

        Raises:
          DataError: some are no pictures or cannot be read; the message names all of them.
        """
        alone = is_picture(images)
        # All pictures are read before the first is run, so that one error names every bad one and
        # no result is thrown away for it.
        read, problems = [], []
        for number, image in enumerate(as_pictures(images)):
            try:
                read.append(self._read(image))
            except DataError as error:
                problems.append(f"picture {number}: {error}")
        if problems:
            raise DataError("\n".join(problems))
        predictions = self._predict(read)
        return predictions[0] if alone else predictions

    def stream(
        self,
        source: StreamSource,
        *,
        threshold: float = 0.0,
        track: bool = False,
        batch: int = 1,
        reporter: Reporter = SILENT,
    ) -> Iterator[FramePrediction]:
        """Yields the detections of every frame of a source, in order.

        Frames are decoded while the model runs, and a source may have no end. When the loop is left, or
        the iterator closed, so is the camera.

        Args:
          source: what `inference -i` takes: a video file, `camera:0` (or 0), the address of a stream,
            a folder, a pattern of files; a list or another iterable of pictures and videos; pictures as
            for a call, such as frames u8[h w 3] in RGB.
          threshold: least score, in [0, 1].
          track: give objects ids, which are the same in all frames that show them; needs the extra
            `track`.
          batch: frames at a time. Live sources have 1, since no frame must wait for others.
          reporter: told when a live source breaks off and is opened again; nobody by default.

        Raises:
          DataError: there is no such source, here already; while frames are read: it cannot be decoded,
            a live one stays away. A picture or a video of a folder or a list that cannot be read does not
            stop the others; the error that names it comes after the last.
          MissingDependencyError: videos need the extra `video`.
          UsageError: threshold or batch are out of range.
        """
        if not 0.0 <= threshold <= 1.0:
            raise UsageError(f"threshold {threshold!r}: expected a score in [0, 1]")
        if batch < 1:
            raise UsageError(f"batch {batch!r}: expected 1 or more")
        # Not a generator itself: a name that is wrong is told here and not in the loop.
        parts = resolve(source)
        return self._stream(parts, threshold, track, batch, reporter)

    def _stream(
        self,
        parts: Iterator[Source | Pictures],
        threshold: float,
        track: bool,
        batch: int,
        reporter: Reporter,
    ) -> Iterator[FramePrediction]:
        problems: list[str] = []
        broken: list[UnreadableVideoError] = []
        for part in parts:
            predictions = (
                self._of_video(part, threshold, track, batch, reporter)
                if isinstance(part, Source)
                else self._of_pictures(part, threshold, track, batch, problems)
            )
            try:
                with closing(predictions):
                    yield from predictions
            except UnreadableVideoError as error:
                broken.append(error)
        if broken and len(broken) + len(problems) == 1:
            raise broken[0]
        problems += map(str, broken)
        if problems:
            raise DataError(
                f"{len(problems)} pictures or videos could not be used; the others are done:\n"
                + "\n".join(problems)
            )

    def _of_video(
        self, source: Source, threshold: float, track: bool, batch: int, reporter: Reporter
    ) -> Generator[FramePrediction]:
        frames = read_frames(source, reporter.note)
        size = 1 if source.live else batch
        detected = detect_frames(
            frames,
            self.geometry,
            self.channel_order,
            self.predictor,
            batch=size,
            threshold=threshold,
        )
        with closing(detected):
            for seen in follow(detected) if track else detected:
                yield FramePrediction(
                    **_leaves(seen.detections),
                    class_names=self.class_names,
                    picture=seen.frame.image,
                    ids=seen.ids,
                    index=seen.frame.number,
                    time=seen.frame.time,
                    source=source.name,
                )

    def _of_pictures(
        self, pictures: Pictures, threshold: float, track: bool, batch: int, problems: list[str]
    ) -> Generator[FramePrediction]:
        def predictions() -> Iterator[Seen]:
            for group in _in_groups(self._readable(pictures, problems), batch):
                outputs = self._predict([read for _, _, read in group])
                for (index, name, _), one in zip(group, outputs, strict=True):
                    names[index] = name
                    assert one.picture is not None
                    yield Seen(Frame(one.picture, index, 0.0), one.above(threshold))

        names: dict[int, str] = {}
        detected = predictions()
        for seen in follow(detected) if track else detected:
            index = seen.frame.number
            yield FramePrediction(
                **_leaves(seen.detections),
                class_names=self.class_names,
                picture=seen.frame.image,
                ids=seen.ids,
                index=index,
                source=names.pop(index),
            )

    def _readable(
        self, pictures: Pictures, problems: list[str]
    ) -> Iterator[tuple[int, str, "Readable"]]:
        """Yields (index, name, picture) of those that can be read; files that cannot are noted."""
        for index, item in enumerate(pictures.items):
            name = os.fspath(item) if isinstance(item, str | os.PathLike) else ""
            try:
                yield index, name, self._read(item)
            except DataError as error:
                # An object in memory is the caller's own mistake, and would be one for every frame.
                if not name:
                    raise DataError(f"picture {index}: {error}") from error
                problems.append(f"picture {index}: {error}")

    def _read(self, image: Picture) -> "Readable":
        """Returns a picture in the order of the network, and where it lies on its canvas."""
        picture = read_picture(image, self.channel_order)
        return picture, image_files.fit(picture.shape[:2], self.geometry)

    def _predict(self, read: Sequence["Readable"]) -> list[Prediction]:
        """Returns the detections of pictures, in their order."""
        rows: dict[int, Prediction] = {}
        # A batch per canvas: a batch has one shape, and every further shape is a compilation.
        for canvas in dict.fromkeys(placed.canvas for _, placed in read):
            chosen = [i for i, (_, placed) in enumerate(read) if placed.canvas == canvas]
            batch = np.stack([image_files.apply_image(*read[i]) for i in chosen])
            outputs = jax.tree.map(np.asarray, self.predictor(batch)[0])
            for row, i in enumerate(chosen):
                picture, placed = read[i]
                one = jax.tree.map(
                    lambda leaf, r=row, keep=outputs.valid[row]: leaf[r][keep], outputs
                )
                boxes = image_files.boxes_to_source(
                    one.boxes,
                    np.asarray(placed.scale),
                    np.asarray(picture.shape[:2]),
                    image_files.origin(self.geometry),
                )
                rows[i] = Prediction(
                    **{**_leaves(one), "boxes": boxes},
                    class_names=self.class_names,
                    picture=_rgb(picture, self.channel_order),
                )
        return [rows[i] for i in range(len(read))]


Readable = tuple[np.ndarray, image_files.Fit]
"""A picture u8[h w c] in the order of a network, and where it lies on its canvas."""


def _leaves(detections: Detections) -> dict[str, Any]:
    names = ("boxes", "scores", "classes", "valid", "masks")
    return {name: getattr(detections, name) for name in names}


def _in_groups(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while group := list(itertools.islice(iterator, size)):
        yield group


def _rgb(picture: np.ndarray, channel_order: str) -> np.ndarray:
    """Returns a picture of the order of a network as u8[h w 3] in RGB."""
    if channel_order == "l":
        return np.repeat(picture, 3, axis=2)
    return np.ascontiguousarray(picture[..., ::-1]) if channel_order == "bgr" else picture


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Writes a picture u8[h w 3] in RGB to an image file of the kind that its suffix says.

    Raises:
      DataError: the suffix is of no image, or the file cannot be written.
    """
    data = encode_image(picture, path.suffix, name=path)
    try:
        write_file(path, [data])
    except CheckpointError as error:
        raise DataError(str(error)) from error
