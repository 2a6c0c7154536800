"""Half precision of a finished ONNX graph: layers and the operators between them.

    float32 ..... Cast | Conv - Relu - Conv - Add - Relu | Cast ..... RoiAlign, decode, NMS
                       '------------- float16 -----------'

Precision is in the types of the graph: TensorRT 11 has no flags for it. Tensors keep their names; one
needed in both types gets a Cast with `/half` or `/single` added to its name.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from rcnn_jax.export.precision.model_view import (
    FLOAT,
    HALF,
    LAYERS,
    PASSING,
    ModelView,
    layer_name,
    raise_opset,
)

QDQ = ("QuantizeLinear", "DequantizeLinear")
# Only where there are Q/DQ: without them the graph stays at 17, which more runtimes read.
QDQ_OPSET, QDQ_IR_VERSION = 19, 9
"""The first with float16 in QuantizeLinear and DequantizeLinear."""
SINGLE_ONLY = frozenset({"GlobalAveragePool", "InstanceNormalization", "ReduceMean"})
"""Means and variances over whole maps are accumulated in float32, between float16 neighbours."""
SINGLE_INPUTS = {"Resize": (1, 2)}
"""Input indices whose type is float32 in any precision."""
ROUNDING = frozenset(
    {"Add", "AveragePool", "Cast", "DequantizeLinear", "Div", "HardSigmoid", "LeakyRelu", "Mul"}
    | {"Sigmoid", "Sub", "Tanh", *LAYERS}
)
"""Operators whose float16 outputs are not among their float16 inputs."""
LARGEST_LOSS = 1e-3
"""Largest relative error of constants in float16; rounding alone is 5e-4 at most."""


def to_fp16(model: onnx.ModelProto, keep: frozenset[str] = frozenset()) -> onnx.ModelProto:
    """Returns a copy of a model with its dense part in float16.

    Layers (Conv, ConvTranspose, Gemm, MatMul with constant weights) and the operators between them
    compute in float16; box decoding, softmax, NMS, TopK and RoIAlign, and the inputs and outputs of
    the graph stay float32. A layer whose weights float16 cannot hold stays float32. Works on any
    ONNX model of opset 17 or newer, also one with Q/DQ: it moves to opset 19, where those take
    float16. What is float16 already stays as it is.

    Args:
      model: FP32, with or without Q/DQ.
      keep: layers to leave in float32, by their output tensors.

    Raises:
      ExportError: the graph contradicts itself or is too old.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    # Before the view: it indexes nodes, and raising the opset changes some.
    if any(node.op_type in QDQ for node in result.graph.node):
        raise_opset(result, QDQ_OPSET, QDQ_IR_VERSION)
    view = ModelView(result)
    chosen = {id(node) for node in half_nodes(view, keep)}
    _Rewriter(view, chosen).run()
    return result


def truly_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy of a model that rounds to float16 in ONNX Runtime on a CPU too.

    There the runtime computes layers in float32 and drops the pairs of casts between them: nothing is
    rounded and nothing overflows, so a check of such a run would not hold for a GPU. A Max of one
    tensor can be computed in float16, and two in a row are; behind every float16 output they keep the
    casts.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    types = ModelView(result).types
    nodes = []
    for node in result.graph.node:
        nodes.append(node)
        name = node.output[0] if node.output else ""
        if node.op_type in ROUNDING and types.get(name) == HALF:
            exact, rounded = f"{name}/exact", f"{name}/half/rounded"
            node.output[0] = exact
            nodes.append(helper.make_node("Max", [exact], [rounded], name=f"{name}/max"))
            nodes.append(helper.make_node("Max", [rounded], [name], name=f"{name}/max2"))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del result.graph.node[:]
    result.graph.node.extend(copies)
    return result


def half_nodes(view: ModelView, keep: frozenset[str]) -> list[onnx.NodeProto]:
    """Returns the nodes that compute in float16: layers, and operators between two of them."""
    made: set[str] = set()
    able = []
    for node in view.model.graph.node:
        if _is_able(view, node, made, keep):
            able.append(node)
            made.update(node.output)
    # Backwards from the layers: an operator without a float16 layer behind it stays float32, as all of
    # box decoding does.
    needed: set[str] = set()
    chosen = []
    for node in reversed(able):
        if view.is_layer(node) or needed.intersection(node.output):
            chosen.append(node)
            needed.update(node.input)
    return [node for node in reversed(chosen) if node.op_type not in SINGLE_ONLY]


def fits(array: np.ndarray) -> bool:
    """Returns whether float16 holds an array: no overflow, and little underflow."""
    # The norm of the whole array decides: a few tiny weights that underflow to 0 lose nothing.
    # Infinities (masks) are infinities in float16 too.
    finite = array[np.isfinite(array)].astype(np.float64)
    with np.errstate(over="ignore"):
        error = finite.astype(np.float16).astype(np.float64) - finite
    return bool(np.linalg.norm(error) <= LARGEST_LOSS * np.linalg.norm(finite))


def _is_able(view: ModelView, node: onnx.NodeProto, made: set[str], keep: frozenset[str]) -> bool:
    """Returns whether a node could compute in float16, given the float16 tensors before it."""
    if node.op_type == "DequantizeLinear":
        return view.types.get(node.input[1]) == FLOAT and _constants_fit(view, node)
    if node.op_type == "QuantizeLinear":
        return node.input[0] in made and _constants_fit(view, node)
    if view.types.get(node.output[0], FLOAT) != FLOAT or not _constants_fit(view, node):
        return False
    if view.is_layer(node):
        weight = view.producers.get(node.input[1])
        return layer_name(node) not in keep and (weight is None or weight.output[0] in made)
    if node.op_type not in PASSING:
        return False
    floats = [n for n in node.input if n and view.types.get(n, FLOAT) == FLOAT]
    return all(name in made or name in view.constants for name in floats)


def _constants_fit(view: ModelView, node: onnx.NodeProto) -> bool:
    return all(
        fits(view.array(name))
        for index, name in enumerate(node.input)
        if name in view.constants and _becomes_half(view, node, index)
    )


def _becomes_half(view: ModelView, node: onnx.NodeProto, index: int) -> bool:
    return (
        view.types.get(node.input[index], FLOAT) == FLOAT
        and index not in SINGLE_INPUTS.get(node.op_type, ())
        and node.input[index] != ""
    )


class _Rewriter:
    """Changes the types of the chosen nodes in place and adds casts at the borders."""

    def __init__(self, view: ModelView, chosen: set[int]):
        self.view, self.graph, self.chosen = view, view.model.graph, chosen
        self.outputs = {value.name for value in self.graph.output}
        self.nodes: list[onnx.NodeProto] = []
        self.casts: set[str] = set()
        self.halves: dict[str, onnx.TensorProto] = {}
        # A Q among the chosen ones reads float16, but its output is int8.
        self.made = {
            name
            for node in self.graph.node
            if id(node) in chosen and node.op_type != "QuantizeLinear"
            for name in node.output
        }

    def run(self) -> None:
        for node in self.graph.node:
            half = id(node) in self.chosen
            for index, name in enumerate(node.input):
                # A node may read float16 here and float32 there (a residual sum next to a kept
                # layer), so every input is decided by itself.
                if half and _becomes_half(self.view, node, index):
                    node.input[index] = self._half(name)
                elif name in self.made:
                    node.input[index] = self._single(name)
            self.nodes.append(node)
            for index, name in enumerate(node.output):
                # Outputs of the graph keep name and type: the float16 tensor gets the suffix.
                if name in self.made and name in self.outputs:
                    node.output[index] = f"{name}/half"
                    self._cast(f"{name}/half", name, FLOAT)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        self._keep_used_constants()
        del self.graph.value_info[:]  # they name the old types

    def _half(self, name: str) -> str:
        """Returns the float16 form of a float32 tensor."""
        half = f"{name}/half"
        if name in self.view.constants:
            array = self.view.array(name).astype(np.float16)
            self.halves.setdefault(half, numpy_helper.from_array(array, half))
            return half
        if name in self.made:
            # An output of the graph has kept its name for the float32 tensor; readers in float16
            # take the one before its cast.
            return half if name in self.outputs else name
        return self._cast(name, half, HALF)

    def _single(self, name: str) -> str:
        """Returns the float32 form of a float16 tensor."""
        return name if name in self.outputs else self._cast(name, f"{name}/single", FLOAT)

    def _cast(self, source: str, target: str, kind: int) -> str:
        # One cast per tensor and direction, however many nodes read it.
        if target not in self.casts:
            self.casts.add(target)
            self.nodes.append(helper.make_node("Cast", [source], [target], name=target, to=kind))
        return target

    def _keep_used_constants(self) -> None:
        used = {name for node in self.graph.node for name in node.input} | self.outputs
        kept = [t for t in (*self.graph.initializer, *self.halves.values()) if t.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)
