"""Sensitivity: the error of every layer in a lower precision, measured alone.

    x ---- layer --------- y      signal = sum y^2
      `--- layer, rounded - y'    noise  = sum (y - y')^2      SQNR = 10 log10(signal / noise) dB

Every layer gets a copy that reads the rounded FP32 input and rounded weights, so its SQNR contains its
own error and none of earlier layers. All copies run in one graph that returns the sums: one run over the
images, where a graph per layer would need as many runs as there are layers.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from rcnn_jax.export.precision.fp16 import half_nodes, truly_half
from rcnn_jax.export.precision.model_view import FLOAT, HALF, ModelView, layer_name
from rcnn_jax.export.precision.placement import place
from rcnn_jax.export.precision.quantize import Offsets, insert_qdq
from rcnn_jax.runtime.onnx_runtime import open_session, runs

LIMIT_DB = 200.0
"""SQNR is clipped to +-200 dB: no noise at all, or a result that is not finite."""
DIFFERENCE = "/difference"
_ROUNDED, _SIGNAL, _NOISE = "/rounded", "/signal", "/noise"


@dataclass(frozen=True)
class Sensitivity:
    """Signal to quantisation noise in dB, the worst first.

    Attributes:
      tensors: of the rounded inputs of layers; empty for float16.
      layers: of the results of layers.
    """

    tensors: dict[str, float]
    layers: dict[str, float]


def sensitivity(
    model: onnx.ModelProto,
    scales: dict[str, float] | None,
    batches: Iterable[np.ndarray],
    offsets: Offsets | None = None,
) -> Sensitivity:
    """Measures the SQNR of every layer and of every quantised tensor.

    Args:
      model: FP32 graph.
      scales: of int8; None measures float16.
      batches: f32[b c h w], inputs of the graph.
      offsets: of the biases of int8 layers.
    """
    copies = _half_copies(model) if scales is None else int8_copies(model, scales, offsets)
    names = [name for name, _ in copies.pairs]
    # truly_half: on a CPU ONNX Runtime would compute the float16 copies in float32.
    measured = truly_half(_with_sums(model, copies))
    session = open_session(measured.SerializeToString(), "the graph with rounded copies")
    wanted = [f"{name}{kind}" for name in names for kind in (_SIGNAL, _NOISE)]
    # sums, not ratios, are added over images: an image in which a layer says nothing has no ratio
    sums = np.zeros((len(names), 2))
    for _, values in runs(session, wanted, batches):
        sums += np.asarray(values, np.float64).reshape(-1, 2)
    decibels = {name: _decibels(*row) for name, row in zip(names, sums, strict=True)}
    layers = {name: decibels.pop(name) for name in copies.layers}
    return Sensitivity(tensors=_worst_first(decibels), layers=_worst_first(layers))


def _decibels(signal: float, noise: float) -> float:
    # Overflow in float16 is the worst that a layer can do, so it sorts first.
    if not np.isfinite(noise) or not np.isfinite(signal):
        return -LIMIT_DB
    if noise == 0.0:
        return LIMIT_DB
    ratio = 10 * np.log10(max(signal, 1e-300) / noise)
    return float(np.clip(ratio, -LIMIT_DB, LIMIT_DB))


def _worst_first(decibels: dict[str, float]) -> dict[str, float]:
    return dict(sorted(decibels.items(), key=lambda item: item[1]))


@dataclass
class Copies:
    """Nodes and constants that compute rounded copies of tensors of an FP32 graph.

    Attributes:
      nodes: to add to the FP32 graph.
      constants: to add.
      pairs: (tensor, its rounded copy).
      layers: the tensors among them that are outputs of layers.
    """

    nodes: list[onnx.NodeProto]
    constants: list[onnx.TensorProto]
    pairs: list[tuple[str, str]]
    layers: list[str]


def int8_copies(
    model: onnx.ModelProto, scales: dict[str, float], offsets: Offsets | None = None
) -> Copies:
    """Returns the layers of the quantised graph, with inputs from the FP32 graph."""
    placement = place(ModelView(model))
    # taken from the real pass: copies made here would measure another rounding than the one written
    quantised = insert_qdq(model, scales, offsets=offsets)
    theirs = {tensor.name for tensor in model.graph.initializer}
    constants = [t for t in quantised.graph.initializer if t.name not in theirs]
    nodes = []
    for node in quantised.graph.node:
        # Q/DQ read tensors of the FP32 graph under their own names: only the outputs of layers are
        # renamed, so no copy feeds another.
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            nodes.append(node)
        elif node.output[0] in placement.layers:
            # only the result is renamed: its Q reads the FP32 tensor, so no earlier error comes in
            copy = onnx.NodeProto.FromString(node.SerializeToString())
            copy.name = copy.output[0] = node.output[0] + _ROUNDED
            nodes.append(copy)
    # a tensor that a layer makes is in the list once, as the result of its layer
    tensors = [name for name in placement.readers if name not in placement.layers]
    pairs = [(name, f"{name}/dequantized") for name in tensors]
    pairs += [(name, name + _ROUNDED) for name in placement.layers]
    return Copies(nodes, constants, pairs, list(placement.layers))


def _half_copies(model: onnx.ModelProto) -> Copies:
    """Returns the layers that compute in float16, each between casts of its own."""
    view = ModelView(model)
    nodes, constants, pairs, layers = [], {}, [], []
    for node in half_nodes(view, frozenset()):
        if not view.is_layer(node):
            continue
        name = layer_name(node)
        entry, half, rounded = (name + part for part in ("/entry", "/half", _ROUNDED))
        inputs = [entry]
        for weight in node.input[1:]:
            array = view.array(weight).astype(np.float16)
            constants.setdefault(weight, numpy_helper.from_array(array, f"{weight}/half"))
            inputs.append(f"{weight}/half")
        copy = onnx.NodeProto.FromString(node.SerializeToString())
        copy.name = half
        copy.input[:], copy.output[:] = inputs, [half]
        nodes.append(helper.make_node("Cast", [node.input[0]], [entry], to=HALF))
        nodes.append(copy)
        nodes.append(helper.make_node("Cast", [half], [rounded], to=FLOAT))
        pairs.append((name, rounded))
        layers.append(name)
    return Copies(nodes, list(constants.values()), pairs, layers)


def with_copies(model: onnx.ModelProto, copies: Copies) -> onnx.ModelProto:
    """Adds the copies to the FP32 graph, and `<tensor>/difference` for every pair; no outputs."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    graph.node.extend(copies.nodes)
    graph.initializer.extend(copies.constants)
    del graph.output[:]
    for name, rounded in copies.pairs:
        graph.node.append(helper.make_node("Sub", [name, rounded], [name + DIFFERENCE]))
    return result


def _with_sums(model: onnx.ModelProto, copies: Copies) -> onnx.ModelProto:
    """Returns the FP32 graph with the copies and sums of squares as outputs."""
    result = with_copies(model, copies)
    graph = result.graph
    for name, _ in copies.pairs:
        for source, kind in ((name, _SIGNAL), (name + DIFFERENCE, _NOISE)):
            total = name + kind
            graph.node.append(
                helper.make_node("ReduceSumSquare", [source], [total], keepdims=0, name=total)
            )
            graph.output.append(helper.make_tensor_value_info(total, FLOAT, []))
    return result
