"""What rounding adds to a layer on average, taken back by its bias.

    y = W x + b       y' = W' x' + b       b' = b + mean(y - y') of every output channel

Over an even background an activation is nearly the same everywhere, so it is rounded to the same side
everywhere: the error does not average out, it moves the whole channel. Measured one layer at a time,
from FP32 inputs that are rounded but not clipped: what int8 clips is rare and large, and its mean says
nothing of the other places.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV
2019, section 4.2 and appendix D (the empirical way).
"""

import dataclasses
from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from rcnn_jax.export.precision.model_view import FLOAT
from rcnn_jax.export.precision.quantize import Offsets
from rcnn_jax.export.precision.sensitivity import DIFFERENCE, Copies, beside, int8_copies
from rcnn_jax.runtime.onnx_runtime import open_session, runs

_AVERAGED = {"Conv": [0, 2, 3], "ConvTranspose": [0, 2, 3], "Gemm": [0]}
"""Axes of a layer's result that count no channels; MatMul has no bias."""


def rounding_offsets(
    model: onnx.ModelProto, scales: dict[str, float], batches: Iterable[np.ndarray]
) -> Offsets:
    """Returns what rounding takes from every layer on average.

    Args:
      model: FP32 graph.
      scales: of int8, by tensor.
      batches: f32[b c h w] as the graph takes them; real images, a handful is enough.
    """
    # without offsets: the copies measure what rounding does before anything is taken back
    copies = _without_clipping(int8_copies(model, scales))
    kinds = {node.output[0]: node.op_type for node in model.graph.node}
    layers = [name for name in copies.layers if kinds[name] in _AVERAGED]
    means = [f"{name}/offset" for name in layers]
    measured = beside(model, copies)
    for name, mean in zip(layers, means, strict=True):
        axes = _AVERAGED[kinds[name]]
        measured.graph.node.append(
            helper.make_node("ReduceMean", [name + DIFFERENCE], [mean], axes=axes, keepdims=0)
        )
        measured.graph.output.append(helper.make_tensor_value_info(mean, FLOAT, [None]))
    session = open_session(measured.SerializeToString(), "the rounded layers")
    # every run counts alike: a fixed batch fills up its last one with the same images, a free one has
    # one image a run, so a mean of means is the mean
    rows = zip(*(found for _, found in runs(session, means, batches)), strict=True)
    return {name: np.mean(row, axis=0) for name, row in zip(layers, rows, strict=True)}


def _without_clipping(copies: Copies) -> Copies:
    """Returns the copies with rounding that has no ends, and rounded weights as floats.

    ONNX Runtime would round the input of a Gemm by itself where it meets int8 weights.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in copies.constants}
    nodes, weights = [], []
    for node in copies.nodes:
        # weights are rounded for good, so theirs is a number; of activations only the clipping goes
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            weights.append(_dequantised(node, constants))
        else:
            nodes += _unbounded(node)
    return dataclasses.replace(copies, nodes=nodes, constants=copies.constants + weights)


def _dequantised(node: onnx.NodeProto, constants: dict[str, np.ndarray]) -> onnx.TensorProto:
    """Returns the weights that a DequantizeLinear makes."""
    steps, scale = constants[node.input[0]], constants[node.input[1]]
    axis = node.attribute[0].i  # the only attribute that `insert_qdq` gives a DQ of weights
    shape = [-1 if i == axis else 1 for i in range(steps.ndim)]
    return numpy_helper.from_array(steps * scale.reshape(shape), node.output[0])


def _unbounded(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Returns a node of a rounded copy; Q and DQ of an activation as Round between two scales."""
    source, target = node.input[0], node.output[0]
    if node.op_type == "QuantizeLinear":
        steps = f"{target}/steps"
        return [
            helper.make_node("Div", [source, node.input[1]], [steps], name=steps),
            helper.make_node("Round", [steps], [target], name=target),
        ]
    if node.op_type == "DequantizeLinear":
        return [helper.make_node("Mul", [source, node.input[1]], [target], name=target)]
    return [node]
