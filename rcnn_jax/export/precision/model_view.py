"""An ONNX model read as a graph: who makes a tensor, who reads it, what type it has.

Passes over finished models (fp16, Q/DQ, calibration) read through this; the exporter itself builds
on `graph.Graph`.
"""

from collections import defaultdict
from functools import cached_property

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from rcnn_jax.errors import ExportError

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators with trained weights: where the arithmetic is."""
PASSING = frozenset({
    "Add", "AveragePool", "Clip", "Concat", "Div", "Flatten", "GlobalAveragePool", "HardSigmoid",
    "LeakyRelu", "Max", "MaxPool", "Min", "Mul", "Pad", "ReduceMean", "Relu", "Reshape", "Resize",
    "Sigmoid", "Slice", "Split", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze",
})  # fmt: skip
"""Operators that stand between layers: activations, sums of branches, pooling, changes of shape."""


class ModelView:
    """Indices over a model; they describe the model as it was when they were asked for.

    Attributes:
      model: the model itself.
      constants: {initializer: its proto}.
      producers: {tensor: the node that makes it}.
      consumers: {tensor: [(node, input place)]}, in the order of computation.
    """

    def __init__(self, model: onnx.ModelProto):
        """Reads the graph of a model; sub-graphs are not entered."""
        self.model = model
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.producers: dict[str, onnx.NodeProto] = {}
        self.consumers: dict[str, list[tuple[onnx.NodeProto, int]]] = defaultdict(list)
        for node in model.graph.node:
            for name in node.output:
                self.producers[name] = node
            for place, name in enumerate(node.input):
                self.consumers[name].append((node, place))

    def array(self, name: str) -> np.ndarray:
        """Returns the content of an initializer."""
        return numpy_helper.to_array(self.constants[name])

    @cached_property
    def types(self) -> dict[str, int]:
        """{tensor: ONNX element type}, as shape inference finds them.

        Raises:
          ExportError: the graph contradicts itself.
        """
        try:
            inferred = onnx.shape_inference.infer_shapes(self.model, data_prop=True)
        except onnx.shape_inference.InferenceError as error:
            raise ExportError(f"the ONNX graph contradicts itself: {error}") from error
        graph = inferred.graph
        found = {t.name: t.data_type for t in graph.initializer}
        for value in (*graph.value_info, *graph.input, *graph.output):
            found[value.name] = value.type.tensor_type.elem_type
        return found

    def is_layer(self, node: onnx.NodeProto) -> bool:
        """Says whether the node multiplies with weights that are known, quantised or not."""
        return (
            node.op_type in LAYERS and len(node.input) > 1 and self.weight_of(node.input[1]) != ""
        )

    def weight_of(self, name: str) -> str:
        """Returns the initializer behind a weight, looking through its DequantizeLinear, or ""."""
        if name in self.constants:
            return name
        node = self.producers.get(name)
        if node is not None and node.op_type == "DequantizeLinear":
            return node.input[0] if node.input[0] in self.constants else ""
        return ""


def layer_name(node: onnx.NodeProto) -> str:
    """Returns what keep-lists and reports call a layer: the tensor it makes."""
    return node.output[0]


def opset_of(model: onnx.ModelProto) -> int:
    """Returns the version of the standard operators a model uses.

    Raises:
      ExportError: it uses none.
    """
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            return entry.version
    raise ExportError("the ONNX graph names no version of the standard operators")


def raise_opset(model: onnx.ModelProto, version: int, ir_version: int) -> None:
    """Moves a model in place to a newer version of the operators, as far as 17 to 19.

    What changed for the operators of detectors: reductions take their axes as an input (18).

    Raises:
      ExportError: the model is older than 17 or uses an operator whose meaning changed otherwise.
    """
    found = opset_of(model)
    if found >= version:
        return
    if found < 17:
        raise ExportError(f"the ONNX graph has opset {found}; fp16 and Q/DQ need 17 or newer")
    for place, node in enumerate(model.graph.node):
        if node.op_type in ("ReduceMax", "ReduceMin", "ReduceMean", "ReduceProd", "ReduceL2"):
            axes = [a for a in node.attribute if a.name == "axes"]
            if axes:
                name = f"{node.output[0]}/axes"
                array = np.asarray(axes[0].ints, np.int64)
                model.graph.initializer.append(numpy_helper.from_array(array, name))
                node.attribute.remove(axes[0])
                node.input.append(name)
        elif node.op_type == "Split" and len(node.input) < 2:
            raise ExportError(f"Split '{node.name}' (node {place}) without sizes")
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = version
    model.ir_version = max(model.ir_version, ir_version)
