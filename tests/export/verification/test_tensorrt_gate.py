import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from rcnn_jax.export.verification.tensorrt_gate import complaints


def model(*nodes, shapes=None, constants=None):
    shapes = shapes or {"x": [1, 6000]}
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    outputs = [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)]
    arrays = [numpy_helper.from_array(np.asarray(a), n) for n, a in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "g", inputs, outputs, arrays)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def node(op, *inputs, outputs=("y",), **attributes):
    return helper.make_node(op, inputs, outputs, name="the_node", **attributes)


NMS_LIMITS = {
    "k": np.int64([3]),
    "iou": np.float32([0.5]),
    "score": np.float32([0.1]),
}


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (model(node("NonZero", "x")), "has no such operator"),
        (
            model(node("TopK", "x", "k", outputs=("y", "i")), constants={"k": np.int64([4000])}),
            "TopK 'the_node': k = 4000 is greater than 3840",
        ),
        (
            model(node("TopK", "x", "k", outputs=("y", "i")), shapes={"x": [1, 9], "k": [1]}),
            "input 1 must be a constant",
        ),
        (
            model(
                node("NonMaxSuppression", "b", "s", "k", "iou", "score"),
                shapes={"b": [1, 5001, 4], "s": [1, 1, 5001]},
                constants=NMS_LIMITS,
            ),
            "5001 boxes are more than 5000",
        ),
        (
            model(
                node("ScatterND", "x", "i", "u", reduction="add"),
                shapes={"x": [4], "u": [1]},
                constants={"i": np.int64([[0]])},
            ),
            "a reduction is not supported",
        ),
        (
            model(
                node("QuantizeLinear", "x", "s", "z"),
                constants={"s": np.float32(0.1), "z": np.uint8(0)},
            ),
            "QuantizeLinear 'the_node': the zero point must be an int8 constant",
        ),
        (
            model(
                node("QuantizeLinear", "x", "s", "z"),
                constants={"s": np.float32(-0.1), "z": np.int8(0)},
            ),
            "the scale must be positive",
        ),
        (
            model(
                node("QuantizeLinear", "x", "s", "z"),
                shapes={"x": [1], "s": []},
                constants={"z": np.int8(0)},
            ),
            "input 1 must be a constant",
        ),
        (
            model(node("MaxPool", "x", kernel_shape=[3]), shapes={"x": [1, 3, 9]}),
            "only 2D and 3D pooling is supported",
        ),
        (
            model(
                node("DequantizeLinear", "q", "s", "z"),
                constants={"q": np.int8([1]), "s": np.float32(0.1), "z": np.int8(3)},
            ),
            "the zero point must be 0",
        ),
    ],
)
def test_what_tensorrt_refuses_is_named(bad, text):
    (complaint,) = complaints(bad)
    assert text in complaint


def test_what_tensorrt_takes_is_left_alone():
    good = model(node("TopK", "x", "k", outputs=("y", "i")), constants={"k": np.int64([3840])})
    assert complaints(good) == []
