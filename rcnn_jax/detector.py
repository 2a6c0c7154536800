"""The library in three lines: a model file of any form, pictures in, detections out.

    model = rcnn_jax.load("model.tlt", key="...")            .tlt .onnx .etlt .engine
    (found,) = model(["picture.jpg"])                        or u8[h w 3] arrays, RGB
    picture = rcnn_jax.draw(image, found, model.class_names)

The file alone suffices: bundles carry their spec, graphs and engines a header.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import jax
import numpy as np

from rcnn_jax.checkpoints.bundle import read_header as read_bundle_header
from rcnn_jax.checkpoints.state import load_model
from rcnn_jax.data import images as image_files
from rcnn_jax.data.categories import Categories
from rcnn_jax.errors import DataError
from rcnn_jax.evaluate import loop
from rcnn_jax.evaluate.loop import Predictor
from rcnn_jax.export.contracts import Header
from rcnn_jax.inference.draw import draw_detections
from rcnn_jax.settings import GeometrySettings
from rcnn_jax.spec.load import parse_spec
from rcnn_jax.structures import Detections
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.tasks.experiment import Kind

Picture = np.ndarray | str | Path
"""u8[h w 3] in RGB, or an image file."""


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

    def __call__(self, images: Sequence[Picture] | np.ndarray) -> list[Detections]:
        """Returns what is found in every picture, best first.

        Pictures of one input size are one batch, so a set that does not fit into memory is given
        in parts.

        Args:
          images: pictures of any size.

        Returns:
          One `Detections` per picture, all valid: boxes f32[d 4] (y1, x1, y2, x2) in pixels of the
          picture, scores f32[d], classes i32[d], masks f32[d s s] in the boxes, or None. Scores
          start at the threshold that the spec set for inference.

        Raises:
          DataError: a picture is not u8[h w 3], or its file cannot be read.
        """
        pictures = [self._read(image) for image in images]
        fits = [image_files.fit(picture.shape[:2], self.geometry) for picture in pictures]
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

    def _read(self, image: Picture) -> np.ndarray:
        """Returns u8[h w c] in the channel order of the network."""
        if isinstance(image, str | Path):
            return image_files.read_image(Path(image), self.channel_order)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise DataError(
                f"a picture is {image.dtype}{list(image.shape)}, expected uint8[h w 3] in RGB; "
                "one picture is given as model([picture])"
            )
        if self.channel_order == "l":
            return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
        return image[..., ::-1] if self.channel_order == "bgr" else image


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
    path = Path(path)
    if path.suffix in (".onnx", ".etlt"):
        from rcnn_jax.export.onnx_file import read_header, read_onnx
        from rcnn_jax.export.predictor import fastest_providers, file_predictor, open_session

        model = read_onnx(path, key)
        known = read_header(model, str(path), None if header is None else Path(header), key)
        session = open_session(model.SerializeToString(), str(path), fastest_providers())
        return _from_header(known, file_predictor(session, known, str(path)))
    if path.suffix in (".engine", ".trt", ".plan"):
        from rcnn_jax.export.engine import open_engine, read_info

        return _from_header(read_info(path).header, open_engine(path))
    return _from_bundle(path, key)


def draw(
    image: np.ndarray,
    detections: Detections,
    class_names: Sequence[str] = (),
    *,
    masks: bool = True,
) -> np.ndarray:
    """Returns a copy of a picture u8[h w 3], RGB, with detections drawn on it.

    Args:
      image: u8[h w 3], RGB.
      detections: of this picture, from a `Detector`.
      class_names: of the detector; without them captions show the number of the class.
      masks: draw masks, where there are any.
    """
    last = int(np.max(detections.classes, initial=-1))
    names = class_names or [str(number) for number in range(last + 1)]
    return draw_detections(image, detections, names, captions=True, masks=masks)


def _from_header(header: Header, predictor: Predictor) -> Detector:
    return Detector(
        header.kind,
        header.class_names,
        header.category_ids,
        header.geometry,
        header.channel_order,
        predictor,
    )


def _from_bundle(path: Path, key: str | None) -> Detector:
    kind, stored = read_bundle_header(path, key)
    config = parse_spec(stored["spec"], f"{path} (its spec)", kind, "inference").config
    categories = None
    if "category_ids" in stored:
        categories = Categories(tuple(stored["category_ids"]), tuple(stored["class_names"]))
    experiment = build_experiment(config, kind, categories=categories)
    experiment, variables = load_model(path, experiment, key)
    make = loop.jax_predictor(experiment, experiment.inference)
    return Detector(
        kind,
        experiment.task.class_names,
        experiment.category_ids,
        experiment.geometry,
        experiment.task.pixels.channel_order,
        loop.bind(make, variables),
    )
