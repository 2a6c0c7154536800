"""Calibration: runs the FP32 graph over images and counts histograms of its tensors.

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
_JOINING = ("Add", "Concat")


def observe(model: onnx.ModelProto, batches: Iterable[np.ndarray]) -> dict[str, Histogram]:
    """Returns the histogram of every quantised tensor.

    Args:
      model: FP32 graph with one input.
      batches: f32[b c h w], inputs of the graph.

    Raises:
      ExportError: a number is not finite.
    """
    names = list(place(ModelView(model)).readers)
    histograms = {name: Histogram() for name in names}
    session = open_session(showing(model, names).SerializeToString(), "the FP32 graph")
    # ONNX Runtime returns no input as an output; its values are at hand anyway.
    entry = session.get_inputs()[0].name
    fetched = [name for name in names if name != entry]
    for images, values in runs(session, fetched, batches):
        results = dict(zip(fetched, values, strict=True))
        for name in names:
            histograms[name].add(results.get(name, images), name)
    return histograms


def scales_of(histograms: dict[str, Histogram], method: Method) -> dict[str, float]:
    """Returns {tensor: scale}; a tensor that was always zero gets 1 / 127."""
    thresholds = {
        name: histogram.threshold(method) or 1.0 for name, histogram in histograms.items()
    }
    # Rounded to float32, as the cache stores it: an export that reads the cache has the same scales
    # as the one that wrote it.
    return {name: float(np.float32(t / LEVELS)) for name, t in thresholds.items()}


def with_fused(model: onnx.ModelProto, scales: dict[str, float]) -> dict[str, float]:
    """Adds the scales of tensors before an activation or pooling.

    With a cache, TensorRT 10 and older quantises by itself and needs the scale of every tensor. Between
    a layer and the activation it fuses with, that of the activation is right, and so is that of a sum for
    the branch that becomes one kernel with it. All inputs of a Concat have the scale of its output. A sum
    of which one branch has no scale would run in float.
    """
    view = ModelView(model)
    extended = dict(scales)
    # Backwards, so that a chain (Conv, Relu, MaxPool) hands the scale up to the layer.
    for node in reversed(model.graph.node):
        scale = extended.get(node.output[0])
        if scale is None or node.op_type not in (*_FUSED, *_JOINING):
            continue
        for name in node.input if node.op_type in _JOINING else node.input[:1]:
            if name in view.producers:
                extended.setdefault(name, scale)
    return extended


def showing(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """Returns a copy of a model with intermediate float tensors as further outputs."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    inputs = {value.name for value in model.graph.input}
    known = inputs | {value.name for value in model.graph.output}
    result.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, FLOAT, None) for name in names if name not in known
    )
    return result
