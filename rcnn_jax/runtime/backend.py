"""Backends: a model file in memory, and its predictor, whatever runs it.

Each form has its class: `bundle.OpenBundle` (JAX), `graph.OpenGraph` (ONNX Runtime), `engine.OpenEngine`
(TensorRT). `open.open_model` chooses by the suffix; evaluation and inference take what it returns.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from rcnn_jax.checkpoints.origin import Origin
from rcnn_jax.errors import UsageError
from rcnn_jax.runtime.header import Header
from rcnn_jax.runtime.outputs import read_outputs
from rcnn_jax.structures import Array, Detections, Proposals
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.task import TestSettings

Predictor = Callable[[Array], tuple[Detections, Proposals | None]]
"""Images u8[b h w c] on their canvas -> detections, and the proposals where the model tells them."""

RunGraph = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Normalised images f32[b c h w] -> {output: array}, for the batch sizes the graph takes."""


class OpenModel(Protocol):
    """A model file that was read, and opened with its key, once.

    Every command opens its model once: the key of an encrypted file takes 0.8 s to derive, on purpose.
    """

    @property
    def path(self) -> Path:
        """The file; its name begins every message."""
        ...

    @property
    def origin(self) -> Origin:
        """Kind, classes and settings of the model, as the file has them."""
        ...

    @property
    def report_name(self) -> str:
        """Name of reports on the model; a suffix is added to it."""
        ...

    def predictor(self, experiment: Experiment, test: TestSettings, devices: int = 1) -> Predictor:
        """Returns the predictor of the model.

        Args:
          experiment: of the spec, compared with the file already.
          test: counts and thresholds. A graph or engine keeps those it was exported with.
          devices: local devices that share a batch, which must be a multiple of them; a graph or engine
            runs on one.

        Raises:
          CheckpointError: the file cannot be run.
          MissingDependencyError: an engine needs TensorRT and a GPU.
          UsageError: more devices than there are, or than the file can use.
        """
        ...


def require_one_device(path: Path, devices: int) -> None:
    """Refuses several devices for a file that runs on one.

    Raises:
      UsageError: several are asked for.
    """
    if devices > 1:
        raise UsageError(
            f"--gpus {devices}: {path} runs on one device; only .tlt models use several"
        )


def predictor_of(run: RunGraph, header: Header, least: int, most: int | None) -> Predictor:
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
    # On the host and not in the graph: nvinfer feeds the same graph with numbers that it has
    # normalised itself. One copy at the end, after the transposition, since runtimes take
    # contiguous memory.
    return np.ascontiguousarray(((images.astype(np.float32) - mean) / std).transpose(0, 3, 1, 2))


def _in_batches(
    run: RunGraph, images: np.ndarray, least: int, most: int | None
) -> dict[str, np.ndarray]:
    """Runs a graph of limited batch sizes over any number of images."""
    parts = []
    for start in range(0, len(images), most or len(images)):
        part = images[start : start + (most or len(images))]
        missing = max(least - len(part), 0)
        filled = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part
        parts.append({name: array[: len(part)] for name, array in run(filled).items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
