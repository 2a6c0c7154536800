"""Placement of Q/DQ: the tensors that are quantised, and those of one scale."""

import pytest
from onnx import helper

from rcnn_jax.export.precision.calibration import with_fused
from rcnn_jax.export.precision.model_view import ModelView
from rcnn_jax.export.precision.placement import place, tied_scales
from tests.export.small import conv, kernels, model_of, relu, residual_block


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
