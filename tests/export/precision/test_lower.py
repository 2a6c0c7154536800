"""Lowering: thresholds of a precision, and the layers that stay in float until they hold."""

import numpy as np
import pytest
from onnx import TensorProto

from rcnn_jax.errors import ExportError
from rcnn_jax.export.precision.lower import compare_with_thresholds, lower, lower_until_good
from rcnn_jax.export.precision.sensitivity import Sensitivity
from rcnn_jax.export.verification.accuracy import Accuracy
from rcnn_jax.export.verification.agreement import agreement
from rcnn_jax.reporter import SILENT
from rcnn_jax.structures import Detections
from tests.export.small import residual_block

A, B = [0, 0, 10, 10], [20, 20, 40, 50]


def detections(boxes, scores, classes, masks=None):
    count = len(scores)
    return Detections(
        boxes=np.asarray(boxes, np.float32).reshape(1, count, 4),
        scores=np.asarray(scores, np.float32)[None],
        classes=np.asarray(classes, np.int32)[None],
        valid=np.asarray(scores)[None] > 0,
        masks=masks,
    )


BOTH = detections([A, B], [0.8, 0.4], [0, 1])


def test_the_gate_names_what_is_missed():
    poor = agreement(BOTH, detections([A], [0.8], [0]))
    accuracy = Accuracy(
        images=9,
        model={"AP": 0.5, "APs": 0.4, "AP50": -1.0},
        graph={"AP": 0.3, "APs": 0, "AP50": 0},
    )
    assert accuracy.losses() == {"AP": 0.2}, "AP50 measured nothing, APs is not gated"
    assert compare_with_thresholds(poor, accuracy, "fp16").problems == [
        "fp16: detections agree to 0.800, at least 0.97 is expected",
        "fp16: AP falls from 0.5000 to 0.3000 on 9 images, a loss of 0.005 is allowed",
    ]
    assert compare_with_thresholds(agreement(BOTH, BOTH), None, "int8").problems == []


def test_an_average_precision_that_is_no_number_does_not_pass():
    accuracy = Accuracy(images=9, model={"mAP": 0.5}, graph={"mAP": float("nan")})
    assert len(compare_with_thresholds(agreement(BOTH, BOTH), accuracy, "int8").problems) == 1


LAYERS = ("c", "a", "b", "s", "head")
"""Of the residual block, the worst first."""
SENSITIVITY = Sensitivity(tensors={}, layers={name: float(i) for i, name in enumerate(LAYERS)})
SCALES = dict.fromkeys(("x", "ra", "rs", "s"), 0.05)


def half_layers(model):
    """The layers whose weights are float16."""
    halves = {t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT16}
    layers = (node for node in model.graph.node if node.op_type == "Conv")
    return {node.output[0].split("/")[0] for node in layers if node.input[1] in halves}


def search(needed):
    """The graph that comes out where a graph passes as soon as `needed` layers are in float."""

    def compare(model):
        passes = len(half_layers(model)) <= len(LAYERS) - needed
        other = BOTH if passes else detections([A], [0.8], [0])
        return compare_with_thresholds(agreement(BOTH, other), None, "fp16")

    return lower_until_good(residual_block(), "fp16", {}, {}, SENSITIVITY, compare, SILENT)


def test_a_graph_that_passes_at_once_keeps_no_layer():
    lowered = search(0)
    assert lowered.kept == [] and lowered.comparison.problems == []
    assert len(half_layers(lowered.model)) == len(LAYERS)


@pytest.mark.parametrize("needed", [1, 2, 3])
def test_the_most_sensitive_layers_stay_in_float_until_the_graph_passes(needed):
    """A sixteenth, an eighth, a quarter and a half of 5 layers are 1, 1, 2 and 3."""
    lowered = search(needed)
    assert lowered.kept == list(LAYERS[:needed]) and lowered.comparison.problems == []
    assert len(half_layers(lowered.model)) == len(LAYERS) - needed


def test_the_last_graph_comes_back_with_its_problems_where_none_passes():
    lowered = search(5)
    assert lowered.kept == list(LAYERS[:3]) and lowered.comparison.problems


def test_a_graph_without_layers_cannot_be_lowered():
    with pytest.raises(ExportError, match="fp16: the graph has no layer that can be lowered"):
        lower_until_good(residual_block(), "fp16", {}, {}, Sensitivity({}, {}), None, SILENT)


def test_a_data_type_is_a_pass_over_the_graph():
    block = residual_block()
    assert lower(block, "fp32", {}, {}, frozenset()) is block
    kinds = {node.op_type for node in lower(block, "int8", SCALES, {}, frozenset()).graph.node}
    assert "QuantizeLinear" in kinds
    assert len(half_layers(lower(block, "fp16", {}, {}, frozenset({"a"})))) == len(LAYERS) - 1
