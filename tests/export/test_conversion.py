"""Conversion of an exported graph: its precision, what can be asked of it, and its description."""

import re

import pytest

from rcnn_jax.errors import UsageError
from rcnn_jax.export.contracts import make_header
from rcnn_jax.export.conversion import (
    as_int8,
    describe,
    precision_of,
    read_calibration,
    values_of,
    with_precision,
)
from rcnn_jax.export.precision.fp16 import to_fp16
from rcnn_jax.export.precision.quantize import insert_qdq
from rcnn_jax.export.precision.scales import write_cache
from tests.export.small import residual_block
from tests.export.tiny import faster_rcnn

SCALES = dict.fromkeys(("x", "ra", "rs", "s"), 0.05)


def graphs():
    block = residual_block()
    return {"fp32": block, "fp16": to_fp16(block), "int8": insert_qdq(block, SCALES)}


@pytest.fixture
def cache(tmp_path):
    path = tmp_path / "cal.bin"
    path.write_text(write_cache(SCALES))
    return path


def test_the_precision_is_the_lowest_among_the_types():
    assert {name: precision_of(graph) for name, graph in graphs().items()} == {
        "fp32": "fp32",
        "fp16": "fp16",
        "int8": "int8",
    }
    kept = to_fp16(residual_block(), frozenset({"a", "b", "s", "c"}))
    assert precision_of(kept) == "fp16", "whatever layers stayed in float32"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_graph_keeps_what_it_has_where_nothing_else_is_asked_for(precision):
    graph = graphs()[precision]
    for wanted in (None, precision):
        made = with_precision(graph, wanted, None, strict=False, name="a.onnx")
        assert precision_of(made) == precision


@pytest.mark.parametrize(
    ("have", "wanted"), [("fp16", "fp32"), ("int8", "fp32"), ("fp16", "int8"), ("int8", "fp16")]
)
def test_a_precision_cannot_be_taken_back(have, wanted, cache):
    with pytest.raises(UsageError, match=f"-t {wanted}: a.onnx is {have} already"):
        with_precision(graphs()[have], wanted, cache, strict=False, name="a.onnx")


def halves(graph):
    return any(tensor.data_type == 10 for tensor in graph.graph.initializer)


def test_around_int8_layers_is_float16_unless_types_are_strict(cache):
    for strict in (False, True):
        made = with_precision(graphs()["fp32"], "int8", cache, strict=strict, name="a.onnx")
        assert precision_of(made) == "int8" and halves(made) is not strict
        again = with_precision(graphs()["int8"], None, None, strict=strict, name="a.onnx")
        assert halves(again) is not strict
    assert not halves(as_int8(cache)(residual_block(), "a.onnx")), "emulated on a CPU"


def test_int8_needs_its_calibration_cache(tmp_path):
    with pytest.raises(UsageError, match="-c .*gone.bin: there is no such calibration cache"):
        read_calibration(tmp_path / "gone.bin")


def test_a_free_batch_has_no_number():
    assert values_of(residual_block().graph.input) == {"x": (None, 8, 8, 8)}


def test_a_description_tells_classes_shapes_and_preprocessing():
    header = make_header(faster_rcnn(), "tao", None)
    text = describe(residual_block(), header, "a.onnx")
    first, classes, source, output = text.splitlines()
    assert re.fullmatch(r"a.onnx: faster_rcnn, fp32, opset 17, rcnn-jax \S+", first)
    assert classes == "  classes  disc, rod, star"
    assert source == (
        "  input    x Nx8x8x8, bgr, (pixel - [103.939, 116.779, 123.68]) / [57, 57, 57]"
    )
    assert output == "  output   head NxNxNxN"
