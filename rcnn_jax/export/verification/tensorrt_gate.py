"""Static check of a graph against a table of TensorRT's operators and limits, without TensorRT.

The table is the parser's operator matrix (onnx-tensorrt/docs/operators.md) of TensorRT 10.8, cut to
operators a detector can use; limits are those of NvInfer.h of 10.x and 11.1.
"""

from collections.abc import Collection, Iterator, Mapping

import onnx
from onnx import numpy_helper

# The first release on which NVIDIA builds a Faster R-CNN of standard operators (`dds_faster_rcnn`).
# The limits are not imported from `lowering`: a check that shares constants with what it checks
# finds no mistake in them.
TENSORRT_VERSION = "10.8"
TOPK_LIMIT = 3840
NMS_LIMIT = 5000
# fmt: off
OPERATORS = frozenset({
    "Abs", "Add", "And", "ArgMax", "AveragePool", "Cast", "Ceil", "Clip", "Concat",
    "ConstantOfShape", "Conv", "ConvTranspose", "CumSum", "DequantizeLinear", "Div", "Equal",
    "Erf", "Exp", "Expand", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Gemm",
    "GlobalAveragePool", "Greater", "GreaterOrEqual", "GridSample", "HardSigmoid", "Identity",
    "InstanceNormalization",
    "LeakyRelu", "Less", "LessOrEqual", "Log", "Loop", "MatMul", "Max", "MaxPool", "Min", "Mul", "Neg",
    "NonMaxSuppression", "Not", "Or", "Pad", "Pow", "QuantizeLinear", "Reciprocal", "ReduceMax",
    "ReduceMean", "ReduceMin", "ReduceSum", "Relu", "Reshape", "Resize", "RoiAlign",
    "ScatterElements", "ScatterND", "Shape", "Sigmoid", "Sign", "Slice", "Softmax", "Split",
    "Sqrt", "Squeeze", "Sub", "Tanh", "TopK", "Transpose", "Unsqueeze", "Where",
})
# fmt: on
"""Operators that TensorRT imports; RoiAlign as its own plugin ROIAlign_TRT."""
_CONSTANT_INPUTS = {
    "Conv": (1,),
    "ConvTranspose": (1,),
    "CumSum": (1,),
    "DequantizeLinear": (1,),
    "NonMaxSuppression": (2, 3, 4),
    "QuantizeLinear": (1,),
    "TopK": (1,),
}


def complaints(model: onnx.ModelProto) -> list[str]:
    """Returns a sentence for every node that TensorRT would refuse."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    # int8 weights are constants behind a DequantizeLinear, and TensorRT takes them as such.
    weights = {*constants, *_dequantised_weights(model, constants)}
    shapes = _shapes(model)
    faults = []
    for node in all_nodes(model.graph):
        where = f"{node.op_type} '{node.name}'"
        if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
            faults.append(f"{where}: TensorRT {TENSORRT_VERSION} has no such operator")
            continue
        for index in _CONSTANT_INPUTS.get(node.op_type, ()):
            if index < len(node.input) and node.input[index] not in weights:
                faults.append(f"{where}: input {index} must be a constant")
        if node.op_type == "TopK" and node.input[1] in constants:
            k = int(numpy_helper.to_array(constants[node.input[1]]).item())
            if k > TOPK_LIMIT:
                faults.append(f"{where}: k = {k} is greater than {TOPK_LIMIT}")
        elif node.op_type == "NonMaxSuppression":
            boxes = shapes.get(node.input[0], ())
            if len(boxes) == 3 and isinstance(boxes[1], int) and boxes[1] > NMS_LIMIT:
                faults.append(f"{where}: {boxes[1]} boxes are more than {NMS_LIMIT}")
        elif node.op_type == "ScatterND" and _attribute(node, "reduction", b"none") != b"none":
            faults.append(f"{where}: a reduction is not supported")
        elif node.op_type == "MaxPool":
            if len(_attribute(node, "kernel_shape", [])) not in (2, 3):
                faults.append(f"{where}: only 2D and 3D pooling is supported")
            if any(d != 1 for d in _attribute(node, "dilations", [])):
                faults.append(f"{where}: a dilated window is not supported")
        elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            faults.extend(f"{where}: {text}" for text in _quantization(node, constants))
    return faults


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yields the nodes of a graph and of the bodies of its loops."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from all_nodes(attribute.g)


def _quantization(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> Iterator[str]:
    """Yields the faults of a Q or DQ: TensorRT's are symmetric and int8."""
    scale = constants.get(node.input[1])
    if scale is not None and not (numpy_helper.to_array(scale) > 0).all():
        yield "the scale must be positive"
    zero = constants.get(node.input[2]) if len(node.input) > 2 else None
    if zero is None or zero.data_type != onnx.TensorProto.INT8:
        yield "the zero point must be an int8 constant"
    elif numpy_helper.to_array(zero).any():
        yield "the zero point must be 0"


def _dequantised_weights(model: onnx.ModelProto, constants: Collection[str]) -> set[str]:
    """Returns the dequantised int8 weights, which count as constants."""
    return {
        node.output[0]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in constants
    }


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int | str, ...]]:
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    described = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    return {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param
            for dim in value.type.tensor_type.shape.dim
        )
        for value in described
    }


def _attribute(node: onnx.NodeProto, name: str, default):
    for attribute in node.attribute:
        if attribute.name == name:
            return onnx.helper.get_attribute_value(attribute)
    return default
