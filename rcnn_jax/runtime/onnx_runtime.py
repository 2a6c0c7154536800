"""An exported graph as a predictor: `images u8[b h w c] -> (Detections, None)`, in ONNX Runtime."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from rcnn_jax.checkpoints.origin import Origin
from rcnn_jax.errors import CheckpointError
from rcnn_jax.printable import reason
from rcnn_jax.runtime.backend import Backend, Predictor
from rcnn_jax.runtime.header import DETECTIONS, MASKS, Header
from rcnn_jax.runtime.onnx_file import read_header, read_onnx
from rcnn_jax.structures import Array, Detections
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.task import TestSettings

Run = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Normalised images f32[b c h w] -> {output: array}, for the batch sizes the graph takes."""

Rewrite = Callable[[onnx.ModelProto, str], onnx.ModelProto]
"""(graph, name of its file) -> graph."""

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
    options.log_severity_level = 4  # what goes wrong is raised, and said once
    try:
        return onnxruntime.InferenceSession(model, options, providers=providers)
    except Exception as error:  # the runtime raises a dozen unrelated classes
        raise CheckpointError(f"{name}: ONNX Runtime cannot load it: {reason(error)}") from error


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


def stored_origin(path: Path, key: str | None, source: Path | None = None) -> Origin:
    """Returns what an exported graph says of its model; `source` has its header, see `read_header`.

    Raises:
      CheckpointError: the file cannot be used.
    """
    return read_header(read_onnx(path, key), str(path), source, key).origin


def load_predictor(
    path: Path,
    experiment: Experiment,
    test: TestSettings,
    key: str | None,
    rewrite: Rewrite | None = None,
    source: Path | None = None,
) -> Predictor:
    """Returns the predictor of a file.

    Args:
      path: `.onnx` or `.etlt`.
      experiment: without effect: the header says all that is needed.
      test: without effect: counts and thresholds are those the graph was exported with.
      key: what an `.etlt` was sealed with.
      rewrite: changes the graph before it runs, for example to int8.
      source: file whose header the graph has, see `read_header`.

    Raises:
      CheckpointError: the file cannot be used.
      RcnnError: the graph cannot be rewritten.
    """
    del experiment, test
    model = read_onnx(path, key)
    header = read_header(model, str(path), source, key)
    if rewrite is not None:
        model = rewrite(model, str(path))
    session = open_session(model.SerializeToString(), str(path), fastest_providers())
    return file_predictor(session, header, str(path))


def predictor(session: onnxruntime.InferenceSession, header: Header) -> Predictor:
    """Returns the function of a session: uint8 canvases to detections in pixels of the canvas."""
    return predictor_of(_runner(session), header, least=header.batch or 1, most=header.batch)


def file_predictor(session: onnxruntime.InferenceSession, header: Header, name: str) -> Predictor:
    """Returns the function of a file's session, which is not trusted to be an exporter's.

    Args:
      session: of the graph.
      header: of the graph.
      name: of the file, begins the message when a batch fails.
    """
    run = _runner(session)

    def checked(batch: np.ndarray) -> dict[str, np.ndarray]:
        try:
            outputs = run(batch)
        except Exception as error:  # the runtime raises a dozen unrelated classes
            raise CheckpointError(f"{name}: ONNX Runtime cannot run it: {reason(error)}") from error
        check_outputs(outputs, len(batch), header, name)
        return outputs

    return predictor_of(checked, header, least=header.batch or 1, most=header.batch)


def _runner(session: onnxruntime.InferenceSession) -> Run:
    input_name = session.get_inputs()[0].name
    names = [output.name for output in session.get_outputs()]

    def run(batch: np.ndarray) -> dict[str, np.ndarray]:
        results = session.run(names, {input_name: batch})
        return {name: np.asarray(array) for name, array in zip(names, results, strict=True)}

    return run


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


def check_outputs(outputs: dict[str, np.ndarray], batch: int, header: Header, name: str) -> None:
    """Stops when the outputs of a graph are not such as its header promises.

    Shapes and classes index arrays further on, and a file may hold any graph.

    Raises:
      CheckpointError: they are not.
    """
    arrays = list(outputs.values())
    by_place = header.contract == "tao" and header.kind == "faster_rcnn"
    if not outputs.keys() >= set(header.output_names()) or (by_place and len(arrays) != 2):
        raise CheckpointError(
            f"{name}: its outputs are {', '.join(outputs)}, which are not those of a {header.kind} "
            f"of the contract '{header.contract}'; export the model again"
        )
    if header.contract == "plain":
        ranks = {"boxes": (3, "f"), "scores": (2, "f"), "classes": (2, "i"), "valid": (2, "b")}
        shapes = [(outputs[part], *form) for part, form in ranks.items()]
        count = outputs["scores"].shape[1:2]
        sound = outputs["boxes"].shape[1:] == (*count, 4)
        sound &= all(outputs[part].shape[1:] == count for part in ("classes", "valid"))
        masks = outputs.get("masks")
    elif by_place:
        shapes = [(arrays[0], 4, "f"), (arrays[1], 4, "i")]
        sound = arrays[0].shape[1::2] == (1, 7) and arrays[1].shape[1:] == (1, 1, 1)
        masks = None
    else:
        shapes = [(outputs[DETECTIONS], 3, "f")]
        count, sound = outputs[DETECTIONS].shape[1:2], outputs[DETECTIONS].shape[2:] == (6,)
        masks = outputs.get(MASKS)
    if masks is not None:
        rank = 4 if header.contract == "plain" else 5
        shapes.append((masks, rank, "f"))
        sound &= masks.shape[1:2] == count
        sound &= rank == 4 or masks.shape[2:3] == (len(header.class_names) + 1,)
    sound &= all(
        array.ndim == rank and array.dtype.kind == kind and len(array) == batch
        for array, rank, kind in shapes
    )
    if not sound:
        found = ", ".join(f"{part} {a.dtype}{list(a.shape)}" for part, a in outputs.items())
        raise CheckpointError(
            f"{name}: its outputs are not those of a {header.kind} of the contract "
            f"'{header.contract}': {found}; export the model again"
        )
    count = len(header.class_names)
    known = f"{name}: gives classes that are none of the {count} of its header"
    if header.contract == "tao":
        labels = arrays[0][..., 1] if by_place else outputs[DETECTIONS][..., 4]
        if not ((labels >= _NOT_FOUND) & (labels <= count)).all():  # NaN is neither
            raise CheckpointError(known)
    detections = read_outputs(outputs, header)
    valid = np.asarray(detections.valid)
    classes = np.asarray(detections.classes)[valid]
    if ((classes < 0) | (classes >= count)).any():
        raise CheckpointError(known)
    numbers = (np.asarray(detections.boxes)[valid], np.asarray(detections.scores)[valid])
    if not all(np.isfinite(part).all() for part in numbers):
        raise CheckpointError(f"{name}: gives boxes or scores that are not finite numbers")


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


GRAPH = Backend(stored_origin, load_predictor)
"""Runs exported graphs on the CPU."""


def graph_backend(rewrite: Rewrite | None = None, source: Path | None = None) -> Backend:
    """Returns the backend of exported graphs.

    Args:
      rewrite: changes a graph before it runs.
      source: file whose header the graph has, where another tool dropped its own.
    """
    return Backend(
        functools.partial(stored_origin, source=source),
        functools.partial(load_predictor, rewrite=rewrite, source=source),
    )
