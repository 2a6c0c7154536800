"""Chooses what runs a model file, by its suffix."""

from pathlib import Path

from rcnn_jax.evaluate.backend import BUNDLE, Backend

GRAPH_SUFFIXES = (".onnx", ".etlt")


def backend_of(model: Path) -> Backend:
    """Returns the backend of a model file: bundles run in JAX, graphs in ONNX Runtime."""
    if model.suffix not in GRAPH_SUFFIXES:
        return BUNDLE
    from rcnn_jax.export.predictor import GRAPH

    return GRAPH
