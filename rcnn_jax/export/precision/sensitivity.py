"""Which layer suffers most from a lower precision, measured one layer at a time.

    x ---- layer --------- y      signal = sum y^2
      `--- layer, rounded - y'    noise  = sum (y - y')^2      SQNR = 10 log10(signal / noise) dB

Every layer gets a copy that reads the FP32 input, rounded, and rounded weights, so its number holds
its own error and none of the layers before. All copies run in one graph that returns the sums.
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
"""Numbers beyond are cut: no noise at all, or a result that is not finite."""
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
    """Returns how much every layer and tensor suffers.

    Args:
      model: FP32 graph.
      scales: of int8; None measures float16.
      batches: f32[b c h w] as the graph takes them.
      offsets: of the biases of int8 layers.
    """
    copies = _half_copies(model) if scales is None else int8_copies(model, scales, offsets)
    names = [name for name, _ in copies.pairs]
    # without it ONNX Runtime drops the casts around a float16 layer, and every layer looks perfect
    shadowed = truly_half(_shadowed(model, copies))
    session = open_session(shadowed.SerializeToString(), "the shadowed graph")
    wanted = [f"{name}{kind}" for name in names for kind in (_SIGNAL, _NOISE)]
    # sums, not ratios, are added over images: an image in which a layer says nothing has no ratio
    sums = np.zeros((len(names), 2))
    for _, found in runs(session, wanted, batches):
        sums += np.asarray(found, np.float64).reshape(-1, 2)
    decibels = {name: _decibels(*row) for name, row in zip(names, sums, strict=True)}
    layers = {name: decibels.pop(name) for name in copies.layers}
    return Sensitivity(tensors=_worst_first(decibels), layers=_worst_first(layers))


def _decibels(signal: float, noise: float) -> float:
    # what overflows comes first in the order of what is kept in float
    if not np.isfinite(noise) or not np.isfinite(signal):
        return -LIMIT_DB
    if noise == 0.0:
        return LIMIT_DB
    ratio = 10 * np.log10(max(signal, 1e-300) / noise)
    return float(np.clip(ratio, -LIMIT_DB, LIMIT_DB))


def _worst_first(found: dict[str, float]) -> dict[str, float]:
    return dict(sorted(found.items(), key=lambda item: item[1]))


@dataclass
class Copies:
    """Nodes and constants that compute rounded twins of tensors of an FP32 graph.

    Attributes:
      nodes: to add to the FP32 graph.
      constants: to add.
      pairs: (tensor, its rounded twin).
      layers: tensors among them that layers make.
    """

    nodes: list[onnx.NodeProto]
    constants: list[onnx.TensorProto]
    pairs: list[tuple[str, str]]
    layers: list[str]


def int8_copies(
    model: onnx.ModelProto, scales: dict[str, float], offsets: Offsets | None = None
) -> Copies:
    """Returns the layers of the quantised graph, reading float tensors of the FP32 graph."""
    placement = place(ModelView(model))
    # taken from the real pass: copies made here would measure another rounding than the one written
    quantised = insert_qdq(model, scales, offsets=offsets)
    theirs = {tensor.name for tensor in model.graph.initializer}
    constants = [t for t in quantised.graph.initializer if t.name not in theirs]
    nodes = []
    for node in quantised.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            nodes.append(node)
        elif node.output[0] in placement.layers:
            # only the result is renamed: its Q reads the FP32 tensor, so no earlier error comes in
            twin = onnx.NodeProto.FromString(node.SerializeToString())
            twin.name = twin.output[0] = node.output[0] + _ROUNDED
            nodes.append(twin)
    # a tensor that a layer makes is in the list once, as the result of its layer
    tensors = [name for name in placement.readers if name not in placement.layers]
    pairs = [(name, f"{name}/dequantized") for name in tensors]
    pairs += [(name, name + _ROUNDED) for name in placement.layers]
    return Copies(nodes, constants, pairs, list(placement.layers))


def _half_copies(model: onnx.ModelProto) -> Copies:
    """Returns the layers that float16 would compute, each between casts of its own."""
    view = ModelView(model)
    nodes, constants, pairs, layers = [], {}, [], []
    for node in half_nodes(view, frozenset()):
        if not view.is_layer(node):
            continue
        name = layer_name(node)
        entry, half, twin = (name + part for part in ("/entry", "/half", _ROUNDED))
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
        nodes.append(helper.make_node("Cast", [half], [twin], to=FLOAT))
        pairs.append((name, twin))
        layers.append(name)
    return Copies(nodes, list(constants.values()), pairs, layers)


def beside(model: onnx.ModelProto, copies: Copies) -> onnx.ModelProto:
    """Returns the FP32 graph with the copies and `<tensor>/difference` of every pair; no outputs."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    graph.node.extend(copies.nodes)
    graph.initializer.extend(copies.constants)
    del graph.output[:]
    for name, twin in copies.pairs:
        graph.node.append(helper.make_node("Sub", [name, twin], [name + DIFFERENCE]))
    return result


def _shadowed(model: onnx.ModelProto, copies: Copies) -> onnx.ModelProto:
    """Returns the FP32 graph with the copies, and sums of squares as its outputs."""
    result = beside(model, copies)
    graph = result.graph
    for name, _ in copies.pairs:
        for source, kind in ((name, _SIGNAL), (name + DIFFERENCE, _NOISE)):
            total = name + kind
            graph.node.append(
                helper.make_node("ReduceSumSquare", [source], [total], keepdims=0, name=total)
            )
            graph.output.append(helper.make_tensor_value_info(total, FLOAT, []))
    return result
