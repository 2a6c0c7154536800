"""Graphs of a few nodes."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def model_of(nodes, weights, outputs, shape=("n", 8, 8, 8)):
    """The graph of some nodes over "x" of a shape; its outputs have as many dims."""
    made = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * len(shape))
            for name in outputs
        ],
        [numpy_helper.from_array(np.asarray(a, np.float32), n) for n, a in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
