"""A graph for a page, and pictures to look at."""

import cv2
import numpy as np

from rcnn_jax.export.contracts import make_header, outputs_of
from rcnn_jax.export.lowering.dense import NCHW
from rcnn_jax.export.lowering.jaxpr_onnx import trace
from rcnn_jax.tasks.families import family


def plain_graph(files):
    """(graph, header) with plain outputs for one image."""
    header = make_header(files.experiment, "plain", 1)
    shape = (1, *header.canvas, 3)
    outputs = outputs_of(files.experiment, files.variables, "plain")
    graph = trace(outputs, family(files.kind).input_name, shape, NCHW)
    return graph.to_model("detector", header.to_metadata()), header


def smooth(height, width, channels=3):
    """A picture without edges, in which a shift of half a pixel shows."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, channels)).astype(np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 6), None, 0, 255, cv2.NORM_MINMAX)
