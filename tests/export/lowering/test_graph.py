"""The growing graph: shared nodes, layouts, free batch axes, names."""

import numpy as np
import onnx
import onnxruntime
import pytest

from rcnn_jax.errors import ExportError
from rcnn_jax.export.lowering.graph import Graph, Tensor
from rcnn_jax.export.lowering.values import identity

NHWC, NCHW = (0, 1, 2, 3), (0, 3, 1, 2)
F32 = np.dtype(np.float32)


def run(graph, **inputs):
    """What ONNX Runtime computes; the model is checked first."""
    model = graph.to_model("test", {})
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, inputs)


def image_graph(perm=NCHW, shape=(2, 4, 6, 3)):
    graph = Graph()
    return graph, graph.add_input("x", shape, F32, perm)


def test_equal_expressions_share_a_node_and_other_attributes_do_not():
    graph, x = image_graph()
    tensor = Tensor(x.stored, F32)
    first = graph.emit("Softmax", [x.name], [tensor], axis=1)
    assert graph.emit("Softmax", [x.name], [tensor], axis=1) == first
    assert graph.emit("Softmax", [x.name], [tensor], axis=2) != first
    assert [node.op for node in graph.nodes] == ["Softmax", "Softmax"]


def test_constants_of_one_content_are_one_initializer():
    graph = Graph()
    ones = graph.constant(np.ones(3, np.float32))
    assert graph.constant(np.ones(3, np.float32)) == ones
    assert graph.constant(np.ones(3, np.float64)) != ones
    assert graph.constant(np.ones((3, 1), np.float32)) != ones


def test_an_output_returns_to_its_logical_order():
    graph, x = image_graph()
    graph.add_output(x, "y")
    stored = np.random.default_rng(0).normal(0, 1, (2, 3, 4, 6)).astype(np.float32)
    np.testing.assert_array_equal(run(graph, x=stored)[0], stored.transpose(0, 2, 3, 1))


def test_moving_axes_of_length_one_is_a_reshape():
    graph, x = image_graph(shape=(2, 1, 1, 3))
    name, shape = graph.stored(x, NHWC)
    assert shape == (2, 1, 1, 3)
    assert graph.producer(name).op == "Reshape"


def test_reshapes_in_a_row_are_one():
    graph, x = image_graph(perm=NHWC)
    once = graph.reshaped(x.name, (8, 18))
    assert graph.producer(graph.reshaped(once, (144,))).inputs[0] == x.name
    assert graph.reshaped(once, (2, 4, 6, 3)) == x.name  # back again is the input


def test_the_batch_index_counts_the_images_of_a_fixed_and_of_a_free_batch():
    for shape in ((3, 2), ("b", 2)):
        graph = Graph()
        x = graph.add_input("x", shape, F32, identity(2))
        index = graph.batch_index(2)
        graph.add_output(graph.make(index, (shape[0], 1), F32), "index")
        graph.add_output(x, "y")
        index, _ = run(graph, x=np.zeros((3, 2), np.float32))
        np.testing.assert_array_equal(index, [[0.0], [1.0], [2.0]])


def test_two_unknown_lengths_cannot_be_reshaped():
    graph = Graph()
    graph.add_input("x", ("a", "b"), F32, identity(2))
    with pytest.raises(ExportError, match="two unknown lengths"):
        graph.reshaped("x", ("a", "b", 1))


def test_an_output_takes_its_name_or_none():
    graph, x = image_graph()
    graph.add_output(x, "y")
    for taken in ("y", "x"):  # an output, and the input
        with pytest.raises(ExportError, match=f"two tensors are called {taken}"):
            graph.add_output(x, taken)
    assert graph.outputs == ["y"]


def test_tensors_are_named_after_the_layer_in_scope():
    graph, x = image_graph()
    graph.scope = "conv1"
    first, second = (
        graph.emit(op, [x.name], [Tensor(x.stored, F32)])[0] for op in ("Relu", "Relu")
    )
    assert (first, second) == ("conv1/Relu", "conv1/Relu")
    assert graph.emit("Relu", [first], [Tensor(x.stored, F32)]) == ["conv1/Relu_1"]
