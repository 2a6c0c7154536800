"""The library in three lines: a model file of any form, pictures in, detections out.

    model = rcnn_jax.load("model.tlt", key="...")            .tlt .onnx .etlt .engine
    (found,) = model(["picture.jpg"])                        or arrays, bytes, PIL images
    picture = rcnn_jax.draw("picture.jpg", found, model.class_names)

The file alone suffices: bundles carry their spec, graphs and engines a header.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from rcnn_jax.data.loader import images as image_files
from rcnn_jax.data.loader.pictures import Picture, as_pictures, read_picture
from rcnn_jax.errors import CheckpointError, DataError
from rcnn_jax.inference.draw import draw_detections
from rcnn_jax.kinds import Kind
from rcnn_jax.runtime.backend import Predictor
from rcnn_jax.runtime.bundle import OpenBundle
from rcnn_jax.runtime.header import Header
from rcnn_jax.runtime.open import open_model
from rcnn_jax.settings.data import GeometrySettings
from rcnn_jax.structures import Detections

__all__ = ["Detector", "draw", "load"]


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

    def __call__(self, images: Picture | Iterable[Picture]) -> list[Detections]:
        """Returns what is found in every picture, best first.

        Pictures of one input size are one batch, so a set that does not fit into memory is given
        in parts.

        Args:
          images: pictures of any size: image files, the bytes of some, PIL images, or arrays
            u8[h w 3] in RGB. One picture need not be put into a list.

        Returns:
          One `Detections` per picture, all valid: boxes f32[d 4] (y1, x1, y2, x2) in pixels of the
          picture, scores f32[d], classes i32[d], masks f32[d s s] in the boxes, or None. Scores
          start at the threshold that the spec set for inference.

        Raises:
          DataError: some are no pictures or cannot be read; the message names all of them.
        """
        pictures, fits, problems = [], [], []
        for number, image in enumerate(as_pictures(images)):
            try:
                pictures.append(read_picture(image, self.channel_order))
                fits.append(image_files.fit(pictures[-1].shape[:2], self.geometry))
            except DataError as error:
                problems.append(f"picture {number}: {error}")
        if problems:
            raise DataError("\n".join(problems))
        rows: dict[int, Detections] = {}
        for canvas in dict.fromkeys(placed.canvas for placed in fits):
            chosen = [i for i, placed in enumerate(fits) if placed.canvas == canvas]
            batch = np.stack([image_files.apply_image(pictures[i], fits[i]) for i in chosen])
            found = jax.tree.map(np.asarray, self.predictor(batch)[0])
            for row, i in enumerate(chosen):
                one = jax.tree.map(lambda leaf, r=row, keep=found.valid[row]: leaf[r][keep], found)
                boxes = image_files.boxes_to_source(
                    one.boxes,
                    np.asarray(fits[i].scale),
                    np.asarray(pictures[i].shape[:2]),
                    image_files.origin(self.geometry),
                )
                rows[i] = one.replace(boxes=boxes)
        return [rows[i] for i in range(len(pictures))]


def load(path: str | Path, key: str | None = None, *, header: str | Path | None = None) -> Detector:
    """Returns the model of a file.

    Args:
      path: `.tlt` runs in JAX, `.onnx` and `.etlt` in ONNX Runtime on the CPU (through OpenVINO
        where the installed build has it), `.engine`, `.trt` and `.plan` in TensorRT.
      key: what a `.tlt` or `.etlt` was sealed with.
      header: exported model, or JSON, whose header an `.onnx` has that another tool rewrote.

    Raises:
      CheckpointError: the file is missing, damaged, sealed with another key or of another program.
      MissingDependencyError: an engine needs TensorRT and a GPU.
    """
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise CheckpointError(f"load: expected the path of a model file, found {path!r}")
    opened = open_model(Path(path), key, header=None if header is None else Path(header))
    if isinstance(opened, OpenBundle):
        return _from_bundle(opened)
    return _from_header(opened.header, opened.start())


def draw(
    image: Picture,
    detections: Detections,
    class_names: Sequence[str] = (),
    *,
    masks: bool = True,
) -> np.ndarray:
    """Returns a copy of a picture, u8[h w 3] in RGB, with detections drawn on it.

    Args:
      image: of any kind that a `Detector` takes.
      detections: of this picture, from a `Detector`.
      class_names: of the detector; a class without a name is captioned with its number.
      masks: draw masks, where there are any.

    Raises:
      DataError: `image` is no picture or cannot be read.
    """
    last = int(np.max(detections.classes, initial=-1))
    names = [*class_names, *map(str, range(len(class_names), last + 1))]
    picture = read_picture(image, "rgb")
    return draw_detections(picture, detections, names, captions=True, masks=masks)


def _from_header(header: Header, predictor: Predictor) -> Detector:
    return Detector(
        header.kind,
        header.class_names,
        header.category_ids,
        header.geometry,
        header.channel_order,
        predictor,
    )


def _from_bundle(opened: OpenBundle) -> Detector:
    experiment = opened.stored_experiment()
    return Detector(
        experiment.kind,
        experiment.task.class_names,
        experiment.category_ids,
        experiment.geometry,
        experiment.task.pixels.channel_order,
        opened.predictor(experiment, experiment.inference),
    )
