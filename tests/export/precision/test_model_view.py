"""A read-only view of a model: producers, consumers, types, and newer operators."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from rcnn_jax.errors import ExportError
from rcnn_jax.export.precision.model_view import ModelView, layer_name, opset_of, raise_opset
from rcnn_jax.export.precision.quantize import insert_qdq
from rcnn_jax.runtime.onnx_runtime import open_session
from tests.export.small import model_of, relu, residual_block


def test_makers_and_readers_of_a_tensor_are_known():
    view = ModelView(residual_block())
    assert view.producers["ra"].op_type == "Relu" and "x" not in view.producers
    assert [(layer_name(node), i) for node, i in view.consumers["x"]] == [("a", 0), ("s", 0)]
    assert view.array("ka").shape == (8, 8, 1, 1)
    assert view.types["sum"] == TensorProto.FLOAT and view.types["kb"] == TensorProto.FLOAT


def test_a_layer_multiplies_with_constant_weights_quantised_or_not():
    view = ModelView(residual_block())
    assert [layer_name(n) for n in view.model.graph.node if view.is_layer(n)] == [
        "a", "b", "s", "c", "head",
    ]  # fmt: skip
    quantised = ModelView(insert_qdq(residual_block(), dict.fromkeys(("x", "ra", "rs", "s"), 0.1)))
    layers = [n for n in quantised.model.graph.node if quantised.is_layer(n)]
    assert [layer_name(n) for n in layers] == ["a", "b", "s", "c", "head"]
    assert quantised.weight_of(layers[0].input[1]) == "ka/int8"


def test_a_product_of_two_maps_is_no_layer():
    nodes = [
        relu("x", "r"),
        helper.make_node("MatMul", ["x", "r"], ["y"], name="y"),
    ]
    view = ModelView(model_of(nodes, {}, ["y"], ("n", 4, 8, 8)))
    assert not any(view.is_layer(node) for node in view.model.graph.node)


def test_a_graph_whose_types_cannot_be_inferred_is_an_error():
    model = model_of([relu("x", "y")], {}, ["y"])
    del model.opset_import[:]
    with pytest.raises(ExportError, match="the ONNX graph contradicts itself: .*No opset import"):
        _ = ModelView(model).types


def test_axes_of_reductions_become_inputs_and_the_numbers_stay():
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], name="m", axes=[2, 3], keepdims=1),
        helper.make_node("Add", ["m", "x"], ["y"], name="y"),
    ]
    model = model_of(nodes, {}, ["y"])
    raised = onnx.ModelProto()
    raised.CopyFrom(model)
    raise_opset(raised, 19, 9)
    onnx.checker.check_model(raised, full_check=True)
    assert (opset_of(raised), raised.ir_version) == (19, 9)
    x = np.random.default_rng(0).normal(0, 1, (2, 8, 8, 8)).astype(np.float32)
    before, after = (
        open_session(each.SerializeToString(), "x").run(None, {"x": x})[0]
        for each in (model, raised)
    )
    np.testing.assert_array_equal(before, after)
    raise_opset(raised, 17, 8)  # never back
    assert opset_of(raised) == 19


def test_what_cannot_be_raised_is_an_error():
    model = model_of([relu("x", "y")], {}, ["y"])
    model.opset_import[0].version = 16
    with pytest.raises(ExportError, match="has opset 16; fp16 and Q/DQ need 17 or newer"):
        raise_opset(model, 19, 9)
    del model.opset_import[:]
    with pytest.raises(ExportError, match="names no version of the standard operators"):
        opset_of(model)
    split = helper.make_node("Split", ["x"], ["y", "z"], name="s", axis=1)
    with pytest.raises(ExportError, match="Split 's' .* without sizes"):
        raise_opset(model_of([split], {}, ["y"]), 18, 8)
