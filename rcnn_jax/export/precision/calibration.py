"""Calibration: the FP32 graph runs over images while histograms of its tensors grow.

    batches -> one image at a time -> ONNX Runtime, quantised tensors as outputs -> histograms
            -> {tensor: scale}

Memory does not grow with the number of images: tensors of one run are counted and dropped.
"""

from collections.abc import Iterable

import numpy as np
import onnx

from rcnn_jax.export.precision.model_view import FLOAT, ModelView
from rcnn_jax.export.precision.placement import place
from rcnn_jax.export.precision.ranges import Histogram, Method
from rcnn_jax.export.precision.scales import LEVELS
from rcnn_jax.runtime.onnx_runtime import open_session, runs

_FUSED = ("Clip", "HardSigmoid", "LeakyRelu", "MaxPool", "Relu", "Reshape", "Resize")


def observe(model: onnx.ModelProto, batches: Iterable[np.ndarray]) -> dict[str, Histogram]:
    """Returns the histogram of every tensor that quantisation rounds.

    Args:
      model: FP32 graph with one input.
      batches: f32[b c h w], as the graph takes them.

    Raises:
      ExportError: a number is not finite.
    """
    names = list(place(ModelView(model)).readers)
    histograms = {name: Histogram() for name in names}
    session = open_session(showing(model, names).SerializeToString(), "the FP32 graph")
    entry = session.get_inputs()[0].name
    fetched = [name for name in names if name != entry]
    for images, found in runs(session, fetched, batches):
        results = dict(zip(fetched, found, strict=True))
        for name in names:
            histograms[name].add(results.get(name, images), name)
    return histograms


def scales_of(histograms: dict[str, Histogram], method: Method) -> dict[str, float]:
    """Returns {tensor: scale}; a tensor that was always zero gets 1 / 127."""
    thresholds = {name: found.threshold(method) or 1.0 for name, found in histograms.items()}
    return {name: float(np.float32(t / LEVELS)) for name, t in thresholds.items()}


def with_fused(model: onnx.ModelProto, scales: dict[str, float]) -> dict[str, float]:
    """Returns the scales with those of the tensors before an activation or pooling added.

    TensorRT 10 and older quantises by itself from a cache and asks for the scale of every tensor;
    between a layer and the activation that it fuses with, that of the activation is right.
    """
    view = ModelView(model)
    found = dict(scales)
    for node in reversed(model.graph.node):
        scale = found.get(node.output[0])
        if scale is not None and node.op_type in _FUSED and node.input[0] in view.producers:
            found.setdefault(node.input[0], scale)
    return found


def showing(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """Returns a copy of a model that also gives float tensors from its middle."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    inputs = {value.name for value in model.graph.input}
    known = inputs | {value.name for value in model.graph.output}
    result.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, FLOAT, None) for name in names if name not in known
    )
    return result
