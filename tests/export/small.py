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


def conv(source, kernel, target, **attributes):
    return helper.make_node("Conv", [source, kernel], [target], name=target, **attributes)


def relu(source, target):
    return helper.make_node("Relu", [source], [target], name=target)


def kernels(*names, shape=(8, 8, 1, 1)):
    rng = np.random.default_rng(3)
    return {name: rng.normal(0, 0.5, shape) for name in names}


def residual_block():
    """x -> a -> relu -> b + s(x) -> relu -> c -> relu -> head; the head is the last layer."""
    nodes = [
        conv("x", "ka", "a"),
        relu("a", "ra"),
        conv("ra", "kb", "b"),
        conv("x", "ks", "s"),
        helper.make_node("Add", ["s", "b"], ["sum"], name="sum"),
        relu("sum", "rs"),
        conv("rs", "kc", "c"),
        relu("c", "rc"),
        conv("rc", "kh", "head"),
    ]
    return model_of(nodes, kernels("ka", "kb", "ks", "kc", "kh"), ["head"])
