"""Read-only view of an ONNX model: producers, consumers and types of tensors.

For passes over finished models (fp16, Q/DQ, calibration); the exporter itself builds on `graph.Graph`.
"""

from collections import defaultdict
from functools import cached_property

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from rcnn_jax.errors import ExportError

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators with trained weights, which have nearly all of the arithmetic."""
PASSING = frozenset({
    "Add", "AveragePool", "Clip", "Concat", "Div", "Flatten", "GlobalAveragePool", "HardSigmoid",
    "InstanceNormalization", "LeakyRelu", "Max", "MaxPool", "Min", "Mul", "Pad", "ReduceMean", "Relu",
    "Reshape", "Resize", "Sigmoid", "Slice", "Split", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze",
})  # fmt: skip
"""Operators between layers: activations, sums of branches, pooling, changes of shape."""


_CROPS_OF = "RoiAlign of "


def crops_of(feature: str) -> str:
    """Returns the note on the last node of a RoiAlign in standard operators: the map it crops."""
    return _CROPS_OF + feature


def cropped_map(node: onnx.NodeProto) -> str | None:
    """Returns the feature map whose crops a node makes, as one RoiAlign or the last of its nodes."""
    if node.op_type == "RoiAlign":
        return node.input[0]
    noted = node.doc_string.startswith(_CROPS_OF)
    return node.doc_string.removeprefix(_CROPS_OF) if noted else None


class ModelView:
    """Indices over a model, built once: they do not follow later changes of the model.

    Attributes:
      model: the model itself.
      constants: {initializer: its proto}.
      producers: {tensor: the node that computes it}.
      consumers: {tensor: [(node, input index)]}, in the order of computation.
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
            for index, name in enumerate(node.input):
                self.consumers[name].append((node, index))

    def array(self, name: str) -> np.ndarray:
        """Returns the content of an initializer."""
        return numpy_helper.to_array(self.constants[name])

    @cached_property
    def types(self) -> dict[str, int]:
        """{tensor: ONNX element type}, from shape inference.

        Raises:
          ExportError: the graph contradicts itself.
        """
        try:
            # data_prop: shapes that are computed from shapes (the batch of an Expand) would be
            # unknown without.
            inferred = onnx.shape_inference.infer_shapes(self.model, data_prop=True)
        except onnx.shape_inference.InferenceError as error:
            raise ExportError(f"the ONNX graph contradicts itself: {error}") from error
        graph = inferred.graph
        types = {t.name: t.data_type for t in graph.initializer}
        for value in (*graph.value_info, *graph.input, *graph.output):
            types[value.name] = value.type.tensor_type.elem_type
        return types

    def is_layer(self, node: onnx.NodeProto) -> bool:
        """Returns whether the node multiplies with constant weights, quantised or not."""
        return (
            # A product of two feature maps has no weights: nothing to quantise per channel.
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
    """Returns the name of a layer in keep-lists and reports: its output tensor."""
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
    """Moves a model in index to a newer version of the operators, as far as 17 to 19.

    What changed for the operators of detectors: reductions take their axes as an input (18).

    Raises:
      ExportError: the model is older than 17 or uses an operator whose meaning changed otherwise.
    """
    current = opset_of(model)
    if current >= version:
        return
    if current < 17:
        raise ExportError(f"the ONNX graph has opset {current}; fp16 and Q/DQ need 17 or newer")
    for index, node in enumerate(model.graph.node):
        if node.op_type in ("ReduceMax", "ReduceMin", "ReduceMean", "ReduceProd", "ReduceL2"):
            # ReduceSum has had its axes as an input since 13 and needs no change.
            axes = [a for a in node.attribute if a.name == "axes"]
            if axes:
                name = f"{node.output[0]}/axes"
                array = np.asarray(axes[0].ints, np.int64)
                model.graph.initializer.append(numpy_helper.from_array(array, name))
                node.attribute.remove(axes[0])
                node.input.append(name)
        elif node.op_type == "Split" and len(node.input) < 2:
            raise ExportError(f"Split '{node.name}' (node {index}) without sizes")
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = version
    model.ir_version = max(model.ir_version, ir_version)
