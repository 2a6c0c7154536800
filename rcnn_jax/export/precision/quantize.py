"""INT8 quantisation of a finished FP32 ONNX graph by QuantizeLinear / DequantizeLinear.

    q = clip(round(x / scale), -128, 127),   x' = q * scale

Symmetric, zero point 0, halves round to even. Activations have one scale per tensor, from
calibration; weights have one per output channel, their largest number divided by 127, and are
stored as int8. Biases stay float. Weights use the full range: TensorRT and CPUs with VNNI accumulate
without saturation. ONNX Runtime's int8 kernels may saturate on a CPU without it, which the comparison
with JAX there would show.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from rcnn_jax.errors import ExportError
from rcnn_jax.export.precision.model_view import ModelView
from rcnn_jax.export.precision.placement import channel_axis, place, tied_scales
from rcnn_jax.export.precision.scales import LEVELS

Offsets = dict[str, np.ndarray]
"""{layer, by its output tensor: f32[output channels] to add to its bias}."""

ROUNDED = 2e-4
"""Distance to the next integer, in steps, below which weights count as rounded already: folding batch
norm into them moves them by 1e-5."""
_ZERO = "int8/zero"


def insert_qdq(
    model: onnx.ModelProto,
    scales: dict[str, float],
    keep: frozenset[str] = frozenset(),
    offsets: Offsets | None = None,
) -> onnx.ModelProto:
    """Returns a copy of a model whose layers have int8 inputs and weights.

    Opset 17 stays: the operators around stay float32. `to_fp16(insert_qdq(...))` is the graph with
    float16 around the int8 layers (opset 19), the graph for TensorRT unless
    `--strict_type_constraints` is set.

    Args:
      model: FP32, without Q/DQ.
      scales: {tensor: largest value / 127}, of at least the tensors of `placement.place`; more are
        ignored.
      keep: layers to leave in float, by their output tensors.
      offsets: additions to the biases of layers, see `bias_correction`; layers that stay in float and
        those without an entry keep theirs.

    Raises:
      ExportError: the graph has Q/DQ already, has nothing to quantise, or a scale is missing (the
        scales belong to another graph).
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    # Indices of the untouched graph: below, nodes are changed while it is read.
    view = ModelView(result)
    if any(node.op_type == "QuantizeLinear" for node in result.graph.node):
        raise ExportError("the ONNX graph is quantised already; expected the FP32 graph")
    placement = place(view, keep)
    if not placement.layers:
        raise ExportError("the ONNX graph has no layer to quantise")
    missing = [tensor for tensor in placement.readers if tensor not in scales]
    if missing:
        raise ExportError(
            f"the scales belong to another graph: {len(missing)} of {len(placement.readers)} "
            f"tensors have none, the first is '{missing[0]}'"
        )
    # Max pooling, Concat and Resize keep values: with one scale on both sides their integers pass
    # through, with two TensorRT would requantise between.
    known = tied_scales(placement, scales)
    quantised = {
        (node, index): t for t, readers in placement.readers.items() for node, index in readers
    }
    layers = set(placement.layers)
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, np.ndarray] = {_ZERO: np.asarray(0, np.int8)}
    done: set[str] = set()
    for node in result.graph.node:
        for index in range(len(node.input)):
            tensor = quantised.get((node.output[0], index))
            if tensor is None:
                continue
            if tensor not in done:  # one pair per tensor, however many layers read it
                done.add(tensor)
                constants[f"{tensor}/scale"] = np.asarray(known[tensor], np.float32)
                # Directly before the first reader, so that the order stays one of computation.
                nodes += _pair(tensor)
            node.input[index] = f"{tensor}/dequantized"
        if node.output[0] in layers:
            # Weights carry DequantizeLinear alone, on int8 constants, a quarter of the size.
            weight = node.input[1]
            if weight not in done:
                done.add(weight)
                axis = channel_axis(node)
                number, scale = quantise_weight(view.array(weight), axis)
                constants[f"{weight}/int8"] = number
                constants[f"{weight}/scale"] = scale
                constants[f"{weight}/zero"] = np.zeros(scale.shape, np.int8)
                nodes.append(_dequantize(f"{weight}/int8", weight, f"{weight}/zero", axis=axis))
            node.input[1] = f"{weight}/dequantized"
            offset = (offsets or {}).get(node.output[0])
            if offset is not None:
                constants[_bias_name(node)] = _corrected_bias(node, offset, view)
                node.input[:] = [*node.input[:2], _bias_name(node)]
        nodes.append(node)
    _replace(result, nodes, constants)
    return result


def quantise_weight(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns int8 weights and their scales f32[channels].

    A scale is the largest number of its channel / 127, rounded up to a float16 number (0.1 % at most),
    so that the graph can become float16 without rounding weights again. A channel of zeros has
    scale 1. A channel that consists of multiples of its scale already keeps it: training with fake
    quantisation leaves such weights, and they must not be rounded a second time.
    """
    others = tuple(i for i in range(weight.ndim) if i != axis)
    largest = np.abs(weight).max(axis=others).astype(np.float32)
    exact = np.where(largest > 0, largest / np.float32(LEVELS), np.float32(1)).astype(np.float32)
    # Up, not to nearest: 127 steps then still reach the largest weight of the channel.
    with np.errstate(over="ignore"):
        half = exact.astype(np.float16)
        half = np.where(half < exact, np.nextafter(half, np.float16(np.inf)), half)
    rounded = half.astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    multiples = weight / exact.reshape(shape)
    is_rounded = np.abs(multiples - np.rint(multiples)).max(axis=others) < ROUNDED
    # A scale that float16 holds only coarsely (subnormal) or not at all stays float32.
    scale = np.where((rounded <= 1.001 * exact) & ~is_rounded, rounded, exact)
    steps = np.rint(weight / scale.reshape(shape))
    return np.clip(steps, -LEVELS, LEVELS).astype(np.int8), scale


def _bias_name(node: onnx.NodeProto) -> str:
    return f"{node.output[0]}/corrected_bias"


def _corrected_bias(node: onnx.NodeProto, offset: np.ndarray, view: ModelView) -> np.ndarray:
    bias = view.array(node.input[2]) if len(node.input) > 2 else np.float32(0)
    return (bias + offset).astype(np.float32)


def _pair(tensor: str) -> list[onnx.NodeProto]:
    quantize = helper.make_node(
        "QuantizeLinear",
        [tensor, f"{tensor}/scale", _ZERO],
        [f"{tensor}/quantized"],
        name=f"{tensor}/quantized",
    )
    return [quantize, _dequantize(f"{tensor}/quantized", tensor, _ZERO)]


def _dequantize(source: str, tensor: str, zero: str, axis: int | None = None) -> onnx.NodeProto:
    target = f"{tensor}/dequantized"
    node = helper.make_node(
        "DequantizeLinear", [source, f"{tensor}/scale", zero], [target], name=target
    )
    if axis is not None:
        node.attribute.append(helper.make_attribute("axis", axis))
    return node


def _replace(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]
) -> None:
    """Replaces the nodes, adds the constants and drops float weights without readers."""
    # Copied first: `nodes` holds protos of the list that is emptied.
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    used = {name for node in copies for name in node.input}
    used.update(value.name for value in model.graph.output)
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    kept += [numpy_helper.from_array(array, name) for name, array in constants.items()]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
