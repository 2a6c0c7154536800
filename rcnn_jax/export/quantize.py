"""INT8, written into a finished FP32 ONNX graph as explicit QuantizeLinear / DequantizeLinear."""

import onnx

from rcnn_jax.export.scales import read_cache as read_cache


def insert_qdq(
    model: onnx.ModelProto, scales: dict[str, float], keep: frozenset[str] = frozenset()
) -> onnx.ModelProto:
    """Returns a copy of a model whose layers take int8 inputs and weights.

    Opset 17 stays: the operators around stay float32. `to_fp16(insert_qdq(...))` is the graph with
    float16 around the int8 layers (opset 19), which is what TensorRT should build unless
    `--strict_type_constraints` was asked for.

    Args:
      model: FP32, without Q/DQ.
      scales: {tensor: largest value / 127}, of at least the tensors of `placement.place(model)`;
        more are ignored.
      keep: layers to leave in float, by the tensor they make.

    Raises:
      ExportError: a scale is missing (the scales belong to another graph).
    """
    raise NotImplementedError
