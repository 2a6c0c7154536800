"""ONNX Runtime on the CPU: sessions of graphs, and their predictors."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import onnxruntime

from rcnn_jax.errors import CheckpointError
from rcnn_jax.printable import reason
from rcnn_jax.runtime.backend import Predictor, RunGraph, predictor_of
from rcnn_jax.runtime.header import Header

Provider = str | tuple[str, dict[str, str]]
"""Of ONNX Runtime: what computes a graph, with its options."""

REFERENCE: tuple[Provider, ...] = ("CPUExecutionProvider",)
"""The runtime's own kernels, in every build of it: graphs are checked and calibrated with them."""

_AS_WRITTEN = ("session.disable_quant_qdq", "1")
"""Q and DQ are computed as the graph has them. Else the runtime rounds biases to int32 as well: of the
activations 1 % then fall on another step than in JAX and in TensorRT, and its signed int8 kernels take
longer than the float ones."""


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
    if tuple(providers) == REFERENCE:  # other providers have int8 kernels that pay
        options.add_session_config_entry(*_AS_WRITTEN)
    try:
        return onnxruntime.InferenceSession(model, options, providers=providers)
    except Exception as error:  # the runtime raises a dozen unrelated classes
        raise CheckpointError(f"{name}: ONNX Runtime cannot load it: {reason(error)}") from error


def runs(
    session: onnxruntime.InferenceSession, names: Sequence[str], batches: Iterable[np.ndarray]
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Yields (input, chosen outputs) of a graph, in batches of its size.

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
            # Copies of its own images: a range that is observed here meets no value that is not in
            # the data.
            filled = part[np.arange(size) % len(part)]
            yield filled, [np.asarray(array) for array in session.run(names, {entry.name: filled})]


def predictor(session: onnxruntime.InferenceSession, header: Header) -> Predictor:
    """Returns the function of a session: uint8 canvases to detections in pixels of the canvas."""
    return predictor_of(runner(session), header, least=header.batch or 1, most=header.batch)


def runner(session: onnxruntime.InferenceSession) -> RunGraph:
    """Returns the function of a session: normalised images to all outputs by name."""
    input_name = session.get_inputs()[0].name
    names = [output.name for output in session.get_outputs()]

    def run(batch: np.ndarray) -> dict[str, np.ndarray]:
        results = session.run(names, {input_name: batch})
        return {name: np.asarray(array) for name, array in zip(names, results, strict=True)}

    return run
