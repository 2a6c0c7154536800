"""An exported graph as a predictor: `images u8[b h w c] -> (Detections, None)`, in ONNX Runtime."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from rcnn_jax.data.categories import Categories
from rcnn_jax.errors import CheckpointError
from rcnn_jax.evaluate.backend import Backend
from rcnn_jax.evaluate.loop import Predictor
from rcnn_jax.export.contracts import DETECTIONS, MASKS, Header
from rcnn_jax.export.conversion import with_precision
from rcnn_jax.export.onnx_file import read_header, read_onnx
from rcnn_jax.structures import Array, Detections
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.task import TestSettings

Run = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Normalised images f32[b c h w] -> {output: array}, for the batch sizes the graph takes."""

Provider = str | tuple[str, dict[str, str]]
"""Of ONNX Runtime: what computes a graph, with its options."""

REFERENCE: tuple[Provider, ...] = ("CPUExecutionProvider",)
"""The runtime's own kernels, in every build of it: graphs are checked and calibrated with them."""

_OPENVINO = "OpenVINOExecutionProvider"
_NOT_FOUND = -1


def fastest_providers() -> tuple[Provider, ...]:
    """Returns what runs a graph fastest on this CPU, best first.

    OpenVINO where the installed build of ONNX Runtime brings it (the package
    `onnxruntime-openvino`), in float32 whatever the CPU prefers; else the runtime's own kernels.
    """
    if _OPENVINO not in onnxruntime.get_available_providers():
        return REFERENCE
    return ((_OPENVINO, {"device_type": "CPU", "precision": "FP32"}), *REFERENCE)


def open_session(
    model: bytes, name: str, providers: Sequence[Provider] = REFERENCE
) -> onnxruntime.InferenceSession:
    """Returns a session on the CPU.

    Args:
      model: the ONNX model.
      name: of the file, for messages.
      providers: what may compute it, best first.

    Raises:
      CheckpointError: the runtime cannot load the model.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model, options, providers=providers)
    except Exception as error:  # the runtime raises a dozen unrelated classes
        raise CheckpointError(f"{name}: ONNX Runtime cannot load it: {error}") from error


def runs(
    session: onnxruntime.InferenceSession, names: Sequence[str], batches: Iterable[np.ndarray]
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Yields what a graph was given and the outputs asked for, as many images at once as it takes.

    Args:
      session: of a graph with one input.
      names: of outputs.
      batches: f32[b c h w]; the rest of one is filled up with its own images where the batch is fixed,
        and goes image by image where it is free.
    """
    entry = session.get_inputs()[0]
    size = entry.shape[0] if isinstance(entry.shape[0], int) else 1
    for batch in batches:
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            filled = part[np.arange(size) % len(part)]
            yield filled, [np.asarray(array) for array in session.run(names, {entry.name: filled})]


def stored_categories(path: Path, key: str | None) -> Categories | None:
    """Returns the classes of an exported Mask R-CNN, None where the spec names them.

    Raises:
      CheckpointError: the file cannot be used.
    """
    return categories_of(read_header(read_onnx(path, key), str(path)))


def categories_of(header: Header) -> Categories | None:
    """Returns the classes of a Mask R-CNN's header, None for a Faster R-CNN."""
    if header.category_ids is None:
        return None
    return Categories(header.category_ids, header.class_names)


def load_predictor(
    path: Path,
    experiment: Experiment,
    test: TestSettings,
    key: str | None,
    cache: Path | None = None,
) -> Predictor:
    """Returns the predictor of a file.

    Args:
      path: `.onnx` or `.etlt`.
      experiment: the model the spec describes; the file must be of the same.
      test: without effect: counts and thresholds are those the graph was exported with.
      key: what an `.etlt` was sealed with.
      cache: calibration cache of an fp32 graph that is to run as int8.

    Raises:
      CheckpointError: the file cannot be used or is of another model.
      RcnnError: the cache cannot be used or belongs to another graph.
    """
    del test
    model = read_onnx(path, key)
    header = read_header(model, str(path))
    check_same_model(header, experiment, str(path))
    if cache is not None:
        model = with_precision(model, "int8", cache, strict=True, name=str(path))
    session = open_session(model.SerializeToString(), str(path), fastest_providers())
    return predictor(session, header)


def predictor(session: onnxruntime.InferenceSession, header: Header) -> Predictor:
    """Returns the function of a session: uint8 canvases to detections in pixels of the canvas."""
    input_name = session.get_inputs()[0].name
    names = [output.name for output in session.get_outputs()]

    def run(batch: np.ndarray) -> dict[str, np.ndarray]:
        results = session.run(names, {input_name: batch})
        return {name: np.asarray(array) for name, array in zip(names, results, strict=True)}

    return predictor_of(run, header, least=header.batch or 1, most=header.batch)


def predictor_of(run: Run, header: Header, least: int, most: int | None) -> Predictor:
    """Returns the function of anything that runs a graph.

    Args:
      run: normalised images f32[b c h w] -> {output: array}.
      header: of the graph.
      least: smallest batch it takes; smaller ones are filled up.
      most: largest batch it takes; None for any. Larger ones are cut into several.
    """

    def predict(images: Array) -> tuple[Detections, None]:
        batch = preprocess(np.asarray(images), header)
        return read_outputs(_in_batches(run, batch, least, most), header), None

    return predict


def preprocess(images: np.ndarray, header: Header) -> np.ndarray:
    """Returns u8[b h w c] as the graph takes it: f32[b c h w], normalised."""
    mean, std = np.asarray(header.mean, np.float32), np.asarray(header.std, np.float32)
    return np.ascontiguousarray(((images.astype(np.float32) - mean) / std).transpose(0, 3, 1, 2))


def read_outputs(outputs: dict[str, np.ndarray], header: Header) -> Detections:
    """Returns the detections that the outputs of any contract describe."""
    if header.contract == "plain":
        return Detections(
            boxes=outputs["boxes"],
            scores=outputs["scores"],
            classes=outputs["classes"],
            valid=outputs["valid"],
            masks=outputs.get("masks"),
        )
    if header.kind == "faster_rcnn":
        return _read_nms(outputs, header.canvas)
    return _read_generate_detections(outputs)


def _read_nms(outputs: dict[str, np.ndarray], canvas: tuple[int, int]) -> Detections:
    # by position, as the parser does: the names may have been changed
    rows, total = list(outputs.values())
    rows = rows[:, 0]
    height, width = canvas
    valid = np.arange(rows.shape[1])[None, :] < total.reshape(-1, 1)
    boxes = rows[..., [4, 3, 6, 5]] * np.asarray([height, width, height, width], np.float32)
    classes = np.maximum(rows[..., 1], 0).astype(np.int32)
    return Detections(boxes=boxes, scores=rows[..., 2], classes=classes, valid=valid)


def _read_generate_detections(outputs: dict[str, np.ndarray]) -> Detections:
    rows = outputs[DETECTIONS]
    valid = rows[..., 4] != _NOT_FOUND
    classes = np.where(valid, rows[..., 4] - 1, 0).astype(np.int32)
    masks = None
    if MASKS in outputs:
        own = (classes + 1)[:, :, None, None, None]
        logits = np.take_along_axis(outputs[MASKS], own, axis=2)[:, :, 0]
        masks = 1.0 / (1.0 + np.exp(-logits))
    return Detections(
        boxes=rows[..., :4], scores=rows[..., 5], classes=classes, valid=valid, masks=masks
    )


def _in_batches(
    run: Run, images: np.ndarray, least: int, most: int | None
) -> dict[str, np.ndarray]:
    """Runs a graph of limited batch sizes over any number of images."""
    parts = []
    for start in range(0, len(images), most or len(images)):
        part = images[start : start + (most or len(images))]
        missing = max(least - len(part), 0)
        filled = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part
        parts.append({name: array[: len(part)] for name, array in run(filled).items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def check_same_model(header: Header, experiment: Experiment, name: str) -> None:
    """Stops when an exported model is not what the spec describes.

    Raises:
      CheckpointError: detector, classes, input size or preprocessing differ.
    """
    geometry, task = experiment.geometry, experiment.task
    for what, stored, wanted in (
        ("detector", header.kind, experiment.kind),
        ("classes", ", ".join(header.class_names), ", ".join(task.class_names)),
        ("input size (height, width)", header.canvas, (geometry.height, geometry.width)),
        ("way of fitting images to the input", header.geometry, geometry),
        ("preprocessing", header.pixels, task.pixels),
    ):
        if stored != wanted:
            raise CheckpointError(
                f"{name}: was exported with another {what}: {stored}; the spec says {wanted}. Use "
                "the spec it was exported with"
            )


GRAPH = Backend(stored_categories, load_predictor)
"""Runs exported graphs on the CPU."""


def quantised(cache: Path) -> Backend:
    """Returns the backend that runs an exported fp32 graph as int8.

    Args:
      cache: calibration cache of the graph.
    """
    return Backend(stored_categories, functools.partial(load_predictor, cache=cache))
