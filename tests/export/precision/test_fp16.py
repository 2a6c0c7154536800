import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rcnn_jax.errors import ExportError
from rcnn_jax.export.precision.fp16 import fits, to_fp16, truly_half
from rcnn_jax.runtime.onnx_runtime import open_session, predictor
from tests.export.tiny import default_graph, images

F, H = TensorProto.FLOAT, TensorProto.FLOAT16


def small_model(kernel_scale=1.0, bias=0.0):
    """x -> Conv a -> Relu -> Conv b -> Sigmoid -> y, and the Relu is an output too."""
    rng = np.random.default_rng(0)
    weights = {
        "ka": rng.normal(0, kernel_scale, (4, 3, 3, 3)),
        "ba": np.full(4, bias),
        "kb": rng.normal(0, 0.1, (2, 4, 1, 1)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "ka", "ba"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "kb"], ["b"]),
        helper.make_node("Sigmoid", ["b"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", F, ["n", 3, 8, 8])],
        [
            helper.make_tensor_value_info("y", F, ["n", 2, 8, 8]),
            helper.make_tensor_value_info("r", F, ["n", 4, 8, 8]),
        ],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def types_of(model):
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    types = {v.name: v.type.tensor_type.elem_type for v in values}
    return types | {t.name: t.data_type for t in inferred.initializer}


def run(model, x):
    return open_session(model.SerializeToString(), "test").run(None, {"x": x})


def test_the_layers_and_what_stands_between_them_are_half_and_the_ends_are_single():
    model = to_fp16(small_model())
    onnx.checker.check_model(model, full_check=True)
    types = types_of(model)
    assert {types[n] for n in ("x", "y", "r", "b/single")} == {F}
    assert {types[n] for n in ("x/half", "a", "r/half", "b", "ka/half", "kb/half")} == {H}
    assert [n.op_type for n in model.graph.node] == [
        "Cast", "Conv", "Relu", "Cast", "Conv", "Cast", "Sigmoid",
    ]  # fmt: skip
    assert not {"ka", "kb"} & {t.name for t in model.graph.initializer}, "no weight is kept twice"


def test_the_numbers_are_those_of_half_precision():
    x = np.random.default_rng(1).normal(0, 1, (2, 3, 8, 8)).astype(np.float32)
    for single, half in zip(run(small_model(), x), run(to_fp16(small_model()), x), strict=True):
        assert half.dtype == np.float32
        assert 0 < np.abs(single - half).max() < 4e-3 * np.abs(single).max()


def test_a_check_on_a_cpu_rounds_and_overflows_as_half_precision_does():
    """ONNX Runtime computes float16 in float32 on a CPU and rounds nothing in between."""
    x = np.random.default_rng(1).normal(0, 1, (2, 3, 8, 8)).astype(np.float32)
    half = to_fp16(small_model())
    casual, honest = run(half, x)[1], run(truly_half(half), x)[1]
    assert not np.array_equal(casual, casual.astype(np.float16).astype(np.float32))
    assert np.array_equal(honest, honest.astype(np.float16).astype(np.float32))
    assert np.isfinite(run(half, x * 1e5)[1]).all()
    assert np.isinf(run(truly_half(half), x * 1e5)[1]).any()


def test_the_model_that_is_given_stays_as_it_is():
    model = small_model()
    before = model.SerializeToString()
    to_fp16(model)
    assert model.SerializeToString() == before


def test_what_is_half_already_stays_as_it_is():
    once = to_fp16(small_model())
    assert to_fp16(once).SerializeToString() == once.SerializeToString()


@pytest.mark.parametrize("change", [{"kernel_scale": 1e5}, {"bias": 7e4}, {"kernel_scale": 1e-8}])
def test_a_layer_that_half_precision_cannot_hold_stays_single(change):
    """65504 is the largest number of float16; below 6e-5 digits are lost."""
    model = to_fp16(small_model(**change))
    onnx.checker.check_model(model, full_check=True)
    types = types_of(model)
    assert types["a"] == F and types["ka"] == F and types["b"] == H


def test_a_kept_layer_stays_single():
    types = types_of(to_fp16(small_model(), keep=frozenset({"b"})))
    assert types["b"] == F and types["a"] == H


@pytest.mark.parametrize(
    ("array", "good"),
    [
        ([1.0, -65504.0], True),
        ([65520.0], False),
        ([1.0, 1e-9], True),
        ([1e-9, 2e-9], False),
        ([-np.inf, 1.0], True),
        ([], True),
    ],
)
def test_what_half_precision_can_hold(array, good):
    """65520 rounds to infinity; a tiny number next to a large one does no harm."""
    assert fits(np.asarray(array, np.float32)) is good


def test_an_old_model_with_reductions_moves_to_the_opset_of_half_qdq():
    """Up to opset 17 ReduceMean has its axes as an attribute, since 18 as an input."""
    model = small_model()
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        *model.graph.node,
        helper.make_node("ReduceMean", ["r"], ["m"], axes=[2, 3], keepdims=1),
        helper.make_node("Conv", ["m", "kb"], ["c"]),
    ]
    nodes[2].input[0] = "d"
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.float32(0.03125), "s"),
            numpy_helper.from_array(np.int8(0), "z"),
        ]
    )
    model.graph.output.append(helper.make_tensor_value_info("c", F, ["n", 2, 1, 1]))
    onnx.checker.check_model(model, full_check=True)
    half = to_fp16(model)
    onnx.checker.check_model(half, full_check=True)
    assert (half.opset_import[0].version, half.ir_version) == (19, 9)
    types = types_of(half)
    assert types["d"] == H and types["s"] == F, "the input is quantised in single precision"
    assert types["m"] == F, "a mean is accumulated in single precision"
    x = np.random.default_rng(1).normal(0, 1, (2, 3, 8, 8)).astype(np.float32)
    for single, rounded in zip(run(model, x), run(half, x), strict=True):
        assert np.abs(single - rounded).max() < 4e-3 * np.abs(single).max()


def test_an_older_opset_is_refused():
    model = small_model()
    model.opset_import[0].version = 13
    model.graph.node.insert(0, helper.make_node("QuantizeLinear", ["x", "s"], ["q"]))
    with pytest.raises(ExportError, match="has opset 13; fp16 and Q/DQ need 17 or newer"):
        to_fp16(model)


@pytest.mark.parametrize("detector", ["faster_rcnn", "mask_rcnn"])
def test_a_whole_detector_in_half_precision_has_the_same_detections(detector):
    single, header = default_graph(detector)
    pictures = images(2)
    half = to_fp16(single)
    onnx.checker.check_model(half, full_check=True)
    types = types_of(half)
    by_op = {}
    for node in half.graph.node:
        by_op.setdefault(node.op_type, []).append(types[node.output[0]])
    assert set(by_op["Conv"]) == set(by_op["Gemm"]) == {H}
    for op in ("RoiAlign", "TopK", "Sigmoid", "Softmax", "Exp"):
        assert set(by_op[op]) == {F}, op
    sizes = [len(model.SerializeToString()) for model in (half, single)]
    assert sizes[0] < 0.62 * sizes[1], "the rest are anchors"
    ours, theirs = (
        predictor(open_session(model.SerializeToString(), "test"), header)(pictures)[0]
        for model in (single, half)
    )
    for row in range(2):
        for slot in np.argsort(-ours.scores[row])[:3]:
            assert np.abs(theirs.boxes[row] - ours.boxes[row, slot]).max(axis=1).min() < 1.0
