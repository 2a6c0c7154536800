import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rcnn_jax.errors import ExportError
from rcnn_jax.export.precision.calibration import observe, scales_of, with_fused
from rcnn_jax.export.precision.fp16 import to_fp16
from rcnn_jax.export.precision.model_view import ModelView
from rcnn_jax.export.precision.placement import place, tied_scales
from rcnn_jax.export.precision.quantize import insert_qdq, quantise_weight
from rcnn_jax.export.precision.sensitivity import sensitivity
from rcnn_jax.export.verification.tensorrt_gate import complaints
from rcnn_jax.runtime.onnx_runtime import open_session
from tests.export.small import model_of
from tests.export.tiny import default_graph, images

F = TensorProto.FLOAT


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


def run(model, x):
    return open_session(model.SerializeToString(), "test").run(None, {"x": x})


def test_of_a_residual_sum_the_shortcut_is_quantised_and_nothing_before_an_activation():
    placement = place(ModelView(residual_block()))
    assert placement.layers == ("a", "b", "s", "c")
    assert placement.readers == {
        "x": (("a", 0), ("s", 0)),
        "ra": (("b", 0),),
        "rs": (("c", 0),),
        "s": (("sum", 0),),
    }


def test_an_identity_shortcut_reads_the_quantised_tensor_of_the_layers():
    nodes = [
        conv("x", "k0", "c0"),
        relu("c0", "r0"),
        conv("r0", "k1", "c1"),
        helper.make_node("Add", ["c1", "r0"], ["sum"], name="sum"),
        relu("sum", "r1"),
        conv("r1", "k2", "c2"),
        conv("c2", "k3", "head"),
    ]
    placement = place(ModelView(model_of(nodes, kernels("k0", "k1", "k2", "k3"), ["head"])))
    assert placement.readers["r0"] == (("c1", 0), ("sum", 1))
    assert "c1" not in placement.readers


@pytest.mark.parametrize("kept", ["a", "b", "s", "c"])
def test_keeping_a_layer_asks_for_no_new_tensor(kept):
    view = ModelView(residual_block())
    assert set(place(view, frozenset({kept})).readers) <= set(place(view).readers)


def test_of_a_sum_without_a_layer_at_its_end_both_inputs_are_quantised():
    """As in DarkNet-53: both branches end in an activation, so nothing fuses with the sum."""
    nodes = [
        conv("x", "k0", "c0"),
        relu("c0", "r0"),
        conv("r0", "k1", "c1"),
        relu("c1", "r1"),
        helper.make_node("Add", ["r0", "r1"], ["sum"], name="sum"),
        conv("sum", "k2", "c2"),
        conv("c2", "k3", "head"),
    ]
    placement = place(ModelView(model_of(nodes, kernels("k0", "k1", "k2", "k3"), ["head"])))
    assert placement.readers["r0"] == (("c1", 0), ("sum", 0))
    assert placement.readers["r1"] == (("sum", 1),)


@pytest.mark.parametrize(
    ("widths", "layers"),
    [
        ((8, 24, 16), ("c0", "c1")),
        ((12, 24, 16), ("c1",)),
        ((16, 12, 16), ()),
        ((3, 64, 20), ("c1",)),
    ],
)
def test_a_convolution_of_few_channels_stays_float_unless_they_are_a_multiple_of_eight(
    widths, layers
):
    nodes = [conv("x", "k0", "c0"), conv("c0", "k1", "c1"), conv("c1", "k2", "head")]
    a, b, c = widths
    weights = {
        **kernels("k0", shape=(b, a, 1, 1)),
        **kernels("k1", shape=(c, b, 1, 1)),
        **kernels("k2", shape=(2, c, 1, 1)),
    }
    model = model_of(nodes, weights, ["head"], ("n", a, 8, 8))
    assert place(ModelView(model)).layers == layers


def test_a_depthwise_convolution_has_the_channels_of_its_input():
    nodes = [conv("x", "k0", "c0", group=24), conv("c0", "k1", "c1"), conv("c1", "k2", "head")]
    weights = {**kernels("k0", shape=(24, 1, 1, 1)), **kernels("k1", "k2", shape=(24, 24, 1, 1))}
    assert place(ModelView(model_of(nodes, weights, ["head"], ("n", 24, 8, 8)))).layers == (
        "c0",
        "c1",
    )


def test_a_product_of_one_row_or_column_stays_float():
    def product(source, weight, target):
        return helper.make_node("MatMul", [source, weight], [target], name=target)

    nodes = [product("x", "k0", "c0"), product("c0", "k1", "c1"), product("c1", "k2", "head")]
    weights = {
        **kernels("k0", shape=(32, 1)),
        **kernels("k1", shape=(1, 32)),
        **kernels("k2", shape=(32, 2)),
    }
    assert place(ModelView(model_of(nodes, weights, ["head"], ("n", 32)))).layers == ()


def test_inputs_of_a_concatenation_share_a_scale():
    nodes = [
        conv("x", "k0", "c0"),
        conv("x", "k1", "c1"),
        helper.make_node("Concat", ["c0", "c1"], ["both"], name="both", axis=1),
        conv("c0", "k2", "c2"),
        conv("both", "k3", "c3"),
        conv("c2", "k4", "h1"),
        conv("c3", "k4", "h2"),
    ]
    weights = {**kernels("k0", "k1", "k2", "k4"), **kernels("k3", shape=(8, 16, 1, 1))}
    model = model_of(nodes, weights, ["h1", "h2"])
    placement = place(ModelView(model))
    scales = tied_scales(placement, {"x": 1.0, "c0": 2.0, "both": 3.0, "c2": 4.0, "c3": 5.0})
    assert (scales["c0"], scales["both"]) == (3.0, 3.0)
    extended = with_fused(model, scales)
    assert extended["c1"] == 3.0, "in a cache also the input that no layer reads"


def test_tensors_that_pass_unchanged_have_the_largest_scale():
    nodes = [
        conv("x", "k0", "c0"),
        helper.make_node("MaxPool", ["c0"], ["pool"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        conv("c0", "k1", "c1"),
        conv("pool", "k2", "c2"),
        conv("c1", "k3", "h1"),
        conv("c2", "k4", "h2"),
    ]  # fmt: skip
    names = ["k0", "k1", "k2", "k3", "k4"]
    placement = place(ModelView(model_of(nodes, kernels(*names), ["h1", "h2"])))
    assert placement.tied == (frozenset({"c0", "pool"}),)
    scales = tied_scales(placement, {"x": 1.0, "c0": 2.0, "pool": 3.0, "c1": 9.0, "c2": 8.0})
    assert (scales["c0"], scales["pool"], scales["x"]) == (3.0, 3.0, 1.0)


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
        found, scale = quantise_weight(weight * factor, 0)
        np.testing.assert_array_equal(found, np.sign(factor).astype(np.int8) * steps)
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


def calibrated(model, x):
    return scales_of(observe(model, [x]), "max")


def test_calibration_sees_the_tensors_that_are_rounded():
    model = residual_block()
    x = np.random.default_rng(5).normal(0, 1, (3, 8, 8, 8)).astype(np.float32)
    scales = calibrated(model, x)
    assert scales["x"] == np.float32(np.abs(x).max() / 127)
    hidden = np.maximum(np.einsum("oi,bihw->bohw", kernels("ka")["ka"][:, :, 0, 0], x), 0)
    assert scales["ra"] == pytest.approx(hidden.max() / 127, rel=1e-5)
    assert set(scales) == set(place(ModelView(model)).readers)
    error = np.abs(run(insert_qdq(model, scales), x)[0] - run(model, x)[0])
    assert 0 < error.max() < 0.05 * np.abs(run(model, x)[0]).max()


def test_the_cache_also_names_what_lies_before_an_activation():
    model = residual_block()
    scales = with_fused(model, {"x": 1.0, "ra": 2.0, "rs": 3.0, "s": 4.0})
    assert scales == {"x": 1.0, "ra": 2.0, "rs": 3.0, "s": 4.0, "sum": 3.0, "a": 2.0, "b": 3.0}


def test_a_fixed_batch_is_filled_up():
    model = residual_block()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    x = np.random.default_rng(5).normal(0, 1, (3, 8, 8, 8)).astype(np.float32)
    assert calibrated(model, x) == pytest.approx(calibrated(residual_block(), x), rel=1e-5)


def test_the_layer_whose_weights_differ_most_within_a_channel_is_the_worst():
    """One large weight among small ones: the small ones lose their digits."""
    model = residual_block()
    weight = kernels("kc")["kc"] * 0.01
    weight[:, 0] = 50.0
    for i, tensor in enumerate(model.graph.initializer):
        if tensor.name == "kc":
            model.graph.initializer[i].CopyFrom(
                numpy_helper.from_array(weight.astype(np.float32), "kc")
            )
    nodes = model.graph.node
    nodes.insert(6, helper.make_node("Mul", ["rs", "mask"], ["masked"], name="masked"))
    nodes[7].input[0] = "masked"
    mask = np.ones((1, 8, 1, 1), np.float32)
    mask[:, 0] = 0.0  # the channel of the large weight says nothing
    model.graph.initializer.append(numpy_helper.from_array(mask, "mask"))
    x = np.random.default_rng(5).normal(0, 1, (3, 8, 8, 8)).astype(np.float32)
    result = sensitivity(model, calibrated(model, x), [x])
    assert next(iter(result.layers)) == "c"
    values = list(result.layers.values())
    assert values == sorted(values) and values[0] < 10 < 25 < values[1]
    assert set(result.tensors) == {"x", "ra", "masked"}, "s is a layer's result"


def test_the_signal_to_noise_of_a_tensor_is_that_of_its_rounding():
    model = residual_block()
    x = np.random.default_rng(5).normal(0, 1, (2, 8, 8, 8)).astype(np.float32)
    scales = calibrated(model, x)
    rounded = np.clip(np.rint(x / np.float32(scales["x"])), -127, 127) * np.float32(scales["x"])
    wanted = 10 * np.log10((x**2).sum() / ((x - rounded) ** 2).sum())
    assert sensitivity(model, scales, [x]).tensors["x"] == pytest.approx(wanted, abs=0.01)


def test_float16_that_overflows_is_the_worst_there_is():
    model = residual_block()
    x = np.full((1, 8, 8, 8), 4e4, np.float32)
    result = sensitivity(model, None, [x])
    assert min(result.layers.values()) == -200.0 and result.tensors == {}
    assert set(result.layers) == {"a", "b", "s", "c", "head"}


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
