"""Half precision, written into a finished ONNX graph: convolutions and what stands between them."""

import onnx


def to_fp16(model: onnx.ModelProto, keep: frozenset[str] = frozenset()) -> onnx.ModelProto:
    """Returns a copy of a model with its dense part in float16.

    Layers (Conv, ConvTranspose, Gemm, MatMul with constant weights) and the operators between them
    compute in float16; box decoding, softmax, NMS, TopK and RoIAlign, and the inputs and outputs of
    the graph stay float32. A layer whose weights float16 cannot hold stays float32. Works on any
    ONNX model of opset 17 or newer, also one with Q/DQ: it moves to opset 19, where those take
    float16.

    Args:
      model: FP32, with or without Q/DQ.
      keep: layers to leave in float32, by the tensor they make.

    Raises:
      ExportError: the graph contradicts itself or is too old.
    """
    raise NotImplementedError
