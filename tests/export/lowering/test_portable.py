"""Whole graphs of both detectors in standard operators, beside the ordinary ones."""

import functools
import json

import numpy as np
import onnx
import pytest
from onnx import helper

from rcnn_jax.errors import ExportError
from rcnn_jax.export.lowering.portable import Forms, forms_of, is_portable, to_portable
from rcnn_jax.export.precision.calibration import observe, scales_of
from rcnn_jax.export.precision.fp16 import half_nodes, to_fp16, truly_half
from rcnn_jax.export.precision.model_view import ModelView
from rcnn_jax.export.precision.placement import place
from rcnn_jax.export.precision.quantize import insert_qdq
from rcnn_jax.export.verification.parity import Tolerance, compare_detections
from rcnn_jax.export.verification.tensorrt_gate import all_nodes, complaints
from rcnn_jax.runtime.backend import preprocess
from rcnn_jax.runtime.header import HEADER_KEY, Header
from rcnn_jax.runtime.onnx_runtime import open_session, runner
from rcnn_jax.runtime.outputs import read_outputs
from tests.export import tiny

KINDS = ("faster_rcnn", "mask_rcnn")
FORMS = (Forms(), Forms(nms="loop", roi_align="grid"), Forms(nms="loop", roi_align="gather"))


def ordinary(kind):
    return tiny.default_graph(kind)[0]


@functools.cache
def portable(kind, forms=FORMS[0]):
    return to_portable(ordinary(kind), forms)


def detections(model, kind, count, header=None):
    header = header or tiny.default_graph(kind)[1]
    run = runner(open_session(model.SerializeToString(), "test"))
    return read_outputs(run(preprocess(tiny.images(count), header)), header)


def assert_same_detections(one, other, pixels=2e-3, scores=1e-5):
    np.testing.assert_array_equal(one.valid, other.valid)
    np.testing.assert_array_equal(one.classes, other.classes)
    np.testing.assert_allclose(one.boxes, other.boxes, atol=pixels)
    np.testing.assert_allclose(one.scores, other.scores, atol=scores)
    if one.masks is not None:
        np.testing.assert_allclose(one.masks, other.masks, atol=1e-3)


@pytest.mark.parametrize("forms", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_form_finds_what_the_ordinary_graph_finds(kind, forms):
    model = portable(kind, forms)
    onnx.checker.check_model(model, full_check=True)
    assert is_portable(model) and not is_portable(ordinary(kind)) and complaints(model) == []
    for count in (1, 3):
        wanted = detections(ordinary(kind), kind, count)
        assert np.asarray(wanted.valid).any()
        assert_same_detections(wanted, detections(model, kind, count))


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_of_a_fixed_batch_is_portable_too(kind):
    experiment = getattr(tiny, kind)()
    model, header = tiny.graph(experiment, batch=2)
    for forms in FORMS[:2]:
        replaced = detections(to_portable(model, forms), kind, 2, header)
        assert_same_detections(detections(model, kind, 2, header), replaced)


@pytest.mark.parametrize("kind", KINDS)
def test_the_header_names_the_form_of_every_replaced_node(kind):
    (entry,) = [each for each in portable(kind).metadata_props if each.key == HEADER_KEY]
    header = Header.from_metadata({HEADER_KEY: entry.value})
    replaced = {
        node.output[0]: "select" if node.op_type == "NonMaxSuppression" else "gather"
        for node in ordinary(kind).graph.node
        if node.op_type in ("NonMaxSuppression", "RoiAlign")
    }
    assert header.portable == replaced and tiny.default_graph(kind)[1].portable is None
    older = {k: v for k, v in json.loads(entry.value).items() if k != "portable"}
    assert Header.from_json(older).portable is None


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_all_other_tensors_stay(kind):
    names = {name for node in portable(kind).graph.node for name in node.output}
    before = [node for node in ordinary(kind).graph.node if node.op_type not in ("Shape", "Slice")]
    scattered = ("NonMaxSuppression", "ConstantOfShape")
    assert {n.output[0] for n in before if n.op_type not in scattered} <= names


@pytest.mark.parametrize("kind", KINDS)
def test_precision_is_placed_as_in_the_ordinary_graph(kind):
    """A calibration cache of one flavour is that of the other."""
    one, other = ModelView(ordinary(kind)), ModelView(portable(kind))
    assert place(one) == place(other) and place(one).layers

    def layers(view):
        return [node.output[0] for node in half_nodes(view, frozenset()) if view.is_layer(node)]

    assert layers(one) == layers(other)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", ["portable", "lowered"])
def test_fp16_may_come_before_or_after(kind, first):
    wanted = to_fp16(ordinary(kind))
    graph = to_fp16(portable(kind)) if first == "portable" else to_portable(wanted)
    onnx.checker.check_model(graph, full_check=True)
    if first == "lowered":  # Turing multiplies no matrices in float32
        assert not {node.op_type for node in graph.graph.node} & {"MatMul"}
    # the same layers round in both, so that only the crops differ in their last bit
    agree = detections(truly_half(graph), kind, 2), detections(truly_half(wanted), kind, 2)
    assert_same_detections(*agree, pixels=0.5, scores=5e-3)


@functools.cache
def of_batch(kind, batch):
    """(graph, header, scales) of a tiny detector; scales from its own images."""
    model, header = tiny.graph(getattr(tiny, kind)(), batch=batch)
    images = preprocess(tiny.images(batch or 2), header)
    return model, header, scales_of(observe(model, [images]), "max")


@pytest.mark.parametrize("types", ["fp16", "int8", "int8 in fp16"])
@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_every_precision_agrees_with_free_and_fixed_batch(kind, batch, types):
    model, header, scales = of_batch(kind, batch)
    lowered = insert_qdq(model, scales) if types != "fp16" else model
    lowered = to_fp16(lowered) if "fp16" in types else lowered
    changed = to_portable(lowered)
    assert is_portable(changed) and complaints(changed) == []
    (entry,) = [each for each in changed.metadata_props if each.key == HEADER_KEY]
    assert set(Header.from_metadata({HEADER_KEY: entry.value}).portable.values()) == {
        "select",
        "gather",
    }
    for count in (2,) if batch else (1, 2):
        wanted, theirs = (detections(each, kind, count, header) for each in (lowered, changed))
        # A crop that differs in its last bit may round to the next of 255 levels.
        parity = compare_detections(wanted, theirs, Tolerance(box=0.5, score=2e-2, mask=5e-2))
        assert parity.detections > count and parity.unmatched == 0, parity
        assert parity.box < 0.5 and parity.score < 2e-2 and parity.mask < 5e-2, parity


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", ["portable", "lowered"])
def test_int8_with_fp16_around_moves_loops_to_opset_19(kind, first):
    scales = dict.fromkeys(place(ModelView(ordinary(kind))).readers, 0.05)

    def lowered(model):
        return to_fp16(insert_qdq(model, scales))

    model = lowered(portable(kind)) if first == "portable" else to_portable(lowered(ordinary(kind)))
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == 19 and complaints(model) == []
    kinds = [node.op_type for node in all_nodes(model.graph)]
    assert kinds.count("Loop") == 2 and "GatherND" in kinds
    detections(model, kind, 2)


def test_a_portable_graph_stays_as_it_is():
    assert to_portable(portable("faster_rcnn")) is portable("faster_rcnn")


def test_nothing_is_left_that_no_output_needs():
    model = portable("mask_rcnn")
    read = {name for node in all_nodes(model.graph) for name in node.input}
    read |= {value.name for value in model.graph.output}
    assert {tensor.name for tensor in model.graph.initializer} <= read
    assert all(read.intersection(node.output) for node in model.graph.node)


def test_a_suppression_that_another_tool_rearranged_is_refused():
    model = onnx.ModelProto.FromString(ordinary("faster_rcnn").SerializeToString())
    (scatter,) = [
        node
        for node in model.graph.node
        if node.op_type == "ScatterND" and node.input[1] == "NonMaxSuppression"
    ]
    scatter.input[1] = "elsewhere"
    model.graph.node.insert(
        list(model.graph.node).index(scatter),
        helper.make_node("Identity", ["NonMaxSuppression"], ["elsewhere"]),
    )
    with pytest.raises(ExportError, match="'NonMaxSuppression' does not end in one ScatterND"):
        to_portable(model)


def test_another_kind_of_crop_is_refused():
    model = onnx.ModelProto.FromString(ordinary("faster_rcnn").SerializeToString())
    (node,) = [node for node in model.graph.node if node.op_type == "RoiAlign"]
    (mode,) = [each for each in node.attribute if each.name == "mode"]
    mode.s = b"max"
    with pytest.raises(ExportError, match="only square averages"):
        to_portable(model)


@pytest.mark.parametrize(
    ("names", "forms"),
    [
        (["loop", "grid"], Forms(nms="loop", roi_align="grid")),
        (["select"], Forms(nms="select")),
        (["gather"], Forms(roi_align="gather")),
    ],
)
def test_forms_are_read_from_their_names(names, forms):
    assert forms_of(names) == forms


@pytest.mark.parametrize(
    ("names", "text"),
    [(["matrix"], "matrix"), (["loop", "select"], "two forms"), ([""], "^''$")],
)
def test_forms_that_are_none_are_named(names, text):
    with pytest.raises(ValueError, match=text):
        forms_of(names)
