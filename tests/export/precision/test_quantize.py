import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from rcnn_jax.errors import ExportError
from rcnn_jax.export.precision.calibration import observe, scales_of
from rcnn_jax.export.precision.fp16 import to_fp16
from rcnn_jax.export.precision.quantize import insert_qdq, quantise_weight
from rcnn_jax.export.verification.tensorrt_gate import complaints
from rcnn_jax.runtime.onnx_runtime import open_session
from tests.export.small import conv, model_of, residual_block
from tests.export.tiny import default_graph, images

F = TensorProto.FLOAT


def run(model, x):
    return open_session(model.SerializeToString(), "test").run(None, {"x": x})


def test_activations_round_to_even_and_saturate():
    """Scale 0.5: 0.25 lies half way and goes to 0, 0.75 to 1.0, 100 to 63.5 = 127 * 0.5.

    On the negative side int8 has one step more.
    """
    weight = 127.0 * np.eye(8, dtype=np.float32)[:, :, None, None]
    # The scale of the weights is 1: the layer hands its input on, times 127.
    nodes = [conv("x", "k", "c"), conv("c", "h", "head")]
    model = model_of(nodes, {"k": weight, "h": weight / 127}, ["head"], ("n", 8, 1, 6))
    quantised = insert_qdq(model, {"x": 0.5})
    x = np.asarray([0.25, 0.75, -0.75, 100.0, -100.0, 3.2], np.float32)
    (actual,) = run(quantised, np.tile(x, (1, 8, 1, 1)))
    np.testing.assert_allclose(actual[0, 3, 0] / 127, [0.0, 1.0, -1.0, 63.5, -64.0, 3.0], rtol=1e-6)


def test_weights_have_one_scale_per_output_channel_that_float16_holds():
    """Channel 0 ends at 127 / 128 and gets the scale 2^-7 exactly, channel 2 holds zeros."""
    weight = np.zeros((3, 2, 1, 1), np.float32)
    weight[0, :, 0, 0] = 127 / 128, -3.4 / 128
    weight[1, :, 0, 0] = 0.1, -0.0534
    steps, scale = quantise_weight(weight, 0)
    assert steps.dtype == np.int8
    assert steps[:, :, 0, 0].tolist() == [[127, -3], [127, -68], [0, 0]]
    assert scale[0] == 2**-7 and scale[2] == 1.0
    assert 0.1 / 127 <= scale[1] <= 1.001 * 0.1 / 127
    assert np.array_equal(scale.astype(np.float16).astype(np.float32), scale)


def test_weights_that_lie_on_a_grid_keep_it():
    """What training with fake quantisation leaves: no second rounding, and exactly the same scale."""
    steps = np.random.default_rng(1).integers(-127, 128, (5, 40)).astype(np.int8)
    steps[:, 0] = 127
    wanted = np.float32([0.3, 1e-4, 7.0, 0.011, 2.0]) * np.float32(1.0001)
    weight = steps * wanted[:, None]
    for factor in (np.float32(1.0), np.float32(-0.7391)):  # a folded batch norm
        rounded, scale = quantise_weight(weight * factor, 0)
        np.testing.assert_array_equal(rounded, np.sign(factor).astype(np.int8) * steps)
        np.testing.assert_allclose(scale, wanted * abs(factor), rtol=3e-7)


def test_a_scale_that_float16_cannot_hold_stays_exact():
    weight = np.asarray([[1e-7], [1e7]], np.float32)
    _, scale = quantise_weight(weight, 0)
    np.testing.assert_allclose(scale, [1e-7 / 127, 1e7 / 127], rtol=1e-6)


@pytest.mark.parametrize(
    ("op", "shape", "attributes", "axis", "source"),
    [
        ("ConvTranspose", (16, 8, 2, 2), {"strides": [2, 2]}, 1, ("n", 16, 8, 8)),
        ("Gemm", (4, 8), {}, 1, ("n", 4)),
        ("Gemm", (8, 4), {"transB": 1}, 0, ("n", 4)),
        ("MatMul", (4, 8), {}, 1, ("n", 4)),
        ("Conv", (8, 16, 1, 1), {}, 0, ("n", 16, 8, 8)),
    ],
)
def test_the_output_channel_of_every_layer_has_its_scale(op, shape, attributes, axis, source):
    rng = np.random.default_rng(0)
    size = 10.0 ** np.arange(8)  # channels of very different sizes: one scale would lose the small
    weight = rng.normal(0, 1, shape) * size.reshape(
        [-1 if i == axis else 1 for i in range(len(shape))]
    )
    node = helper.make_node(op, ["x", "k"], ["y"], name="y", **attributes)
    head = {"Gemm": (8, 2), "MatMul": (8, 2)}.get(op, (2, 8, 1, 1))
    last = helper.make_node(
        "MatMul" if len(head) == 2 else "Conv", ["y", "h"], ["head"], name="head"
    )
    model = model_of(
        [node, last], {"k": weight, "h": rng.normal(0, 1, head)}, ["head", "y"], source
    )
    quantised = insert_qdq(model, {"x": 4 / 127})
    onnx.checker.check_model(quantised, full_check=True)
    x = rng.uniform(-4, 4, (3, *source[1:])).astype(np.float32)
    exact, rounded = run(model, x)[1], run(quantised, x)[1]
    channels = tuple(i for i in range(exact.ndim) if i != 1)
    error = np.abs(exact - rounded).max(channels) / np.abs(exact).max(channels)
    assert (error < 0.03).all(), error


def test_the_graph_stores_int8_and_no_float_weight_of_a_quantised_layer():
    quantised = insert_qdq(residual_block(), dict.fromkeys(("x", "ra", "rs", "s"), 0.05))
    kinds = {t.name: t.data_type for t in quantised.graph.initializer}
    assert kinds["ka/int8"] == TensorProto.INT8 and "ka" not in kinds
    assert kinds["kh"] == F, "the last layer keeps its float weights"
    assert complaints(quantised) == []
    assert [n.op_type for n in quantised.graph.node if n.op_type == "QuantizeLinear"] == [
        "QuantizeLinear"
    ] * 4


def test_scales_of_another_graph_are_refused():
    with pytest.raises(ExportError, match="scales belong to another graph: 3 of 4 .* 'ra'"):
        insert_qdq(residual_block(), {"x": 0.1})


def test_a_quantised_graph_is_not_quantised_again():
    scales = dict.fromkeys(("x", "ra", "rs", "s"), 0.05)
    with pytest.raises(ExportError, match="quantised already"):
        insert_qdq(insert_qdq(residual_block(), scales), scales)


@pytest.mark.parametrize("detector", ["faster_rcnn", "mask_rcnn"])
def test_a_whole_detector_becomes_int8_and_then_int8_with_half(detector):
    """The last layers of the heads, decoding, NMS and RoIAlign stay float."""
    single, header = default_graph(detector)
    x = images(2).astype(np.float32).transpose(0, 3, 1, 2) / 57 - 2
    scales = scales_of(observe(single, [x]), "entropy")
    quantised = insert_qdq(single, scales)
    for model in (quantised, to_fp16(quantised)):
        onnx.checker.check_model(model, full_check=True)
        assert complaints(model) == []
        makers = {n.output[0]: n for n in model.graph.node}
        last = [n for n in model.graph.node if n.op_type in ("Conv", "Gemm")][-1]
        assert makers.get(last.input[0]) is None or "dequantized" not in last.input[0]
        for node in model.graph.node:
            if node.op_type in ("RoiAlign", "NonMaxSuppression", "TopK", "Softmax"):
                assert not any("dequantized" in name for name in node.input)
        rows = open_session(model.SerializeToString(), "x").run(
            None, {model.graph.input[0].name: x}
        )
        assert all(np.isfinite(row).all() for row in rows)
    sizes = [len(model.SerializeToString()) for model in (quantised, single)]
    assert sizes[0] < 0.5 * sizes[1]
