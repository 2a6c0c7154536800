"""Suppression in standard operators, box by box beside ONNX Runtime's NonMaxSuppression."""

import functools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from rcnn_jax.export.lowering.portable_nms import Suppression, choose, suppress
from rcnn_jax.export.lowering.portable_nodes import Nodes
from rcnn_jax.runtime.onnx_runtime import open_session
from tests.export.lowering.nms_cases import CASES, boxes_of, disturbed


def session_of(nodes, output, kind, count):
    describe = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes.nodes,
        "g",
        [
            describe("boxes", TensorProto.FLOAT, ["rows", count, 4]),
            describe("scores", TensorProto.FLOAT, ["rows", 1, count]),
        ],
        [describe(output, kind, [None, None, None] if kind == TensorProto.FLOAT else [None, 3])],
        nodes.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return open_session(model.SerializeToString(), "test")


@functools.cache
def operator(count, threshold, most):
    nodes = Nodes("op")
    limits = nodes.integers(most), nodes.constant(np.float32([threshold]))
    absent = nodes.constant(np.float32([-0.5]))
    output = nodes.add("NonMaxSuppression", "boxes", "scores", *limits, absent)
    session = session_of(nodes, output, TensorProto.INT64, count)

    def run(boxes, scores):
        marks = np.zeros(scores.shape, bool)
        for row, _, index in session.run(None, {"boxes": boxes, "scores": scores})[0]:
            marks[row, 0, index] = True
        return marks

    return run


@functools.cache
def portable(form, count, threshold, most, ranked=False, sums=False):
    nodes = Nodes("nms")
    nms = Suppression(
        boxes="boxes", scores="scores", count=count, most=most, threshold=threshold, ranked=ranked
    )
    output = suppress(nodes, nms, form, sums=sums)
    session = session_of(nodes, output, TensorProto.FLOAT, count)
    return lambda boxes, scores: session.run(None, {"boxes": boxes, "scores": scores})[0] > 0.5


@pytest.mark.parametrize("form", ["loop", "select"])
@pytest.mark.parametrize("case", CASES)
def test_the_same_boxes_are_kept(case, form):
    for count, threshold in ((1, 0.5), (60, 0.3), (60, 0.7), (200, 0.5)):
        wanted_of = operator(count, threshold, count)
        found_of = portable(form, count, threshold, count)
        for seed in range(12):
            boxes = disturbed(*boxes_of(case, np.random.default_rng(seed), 3, count), seed)
            np.testing.assert_array_equal(found_of(*boxes), wanted_of(*boxes))


@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("form", ["loop", "select"])
def test_an_iou_of_exactly_the_threshold_does_not_suppress(form, threshold):
    square = np.float32([0, 0, 8, 8])
    others = np.float32([[0, 8, 8, 16], [0, 0, 4, 4], [0, 0, 4, 8], [0, 0, 8, 8]])  # IoU 0 .25 .5 1
    boxes = np.stack([np.stack([square, other]) for other in others])
    scores = np.tile(np.float32([[[0.9, 0.8]]]), (4, 1, 1))
    kept = portable(form, 2, threshold, 2)(boxes, scores)
    np.testing.assert_array_equal(kept[:, 0, 1], np.float32([0, 0.25, 0.5, 1]) <= threshold)
    np.testing.assert_array_equal(kept, operator(2, threshold, 2)(boxes, scores))


@pytest.mark.parametrize("case", CASES)
def test_select_ends_when_as_many_are_kept_as_are_asked_for(case):
    wanted_of, found_of = operator(80, 0.5, 7), portable("select", 80, 0.5, 7)
    for seed in range(12):
        boxes = disturbed(*boxes_of(case, np.random.default_rng(seed), 2, 80), seed)
        np.testing.assert_array_equal(found_of(*boxes), wanted_of(*boxes))


@pytest.mark.parametrize("form", ["loop", "select"])
def test_rows_without_a_box_keep_none_and_disturb_no_other(form):
    boxes, scores = boxes_of("clustered", np.random.default_rng(0), 4, 50)
    scores[1:3] = -1.0
    kept = portable(form, 50, 0.5, 50)(boxes, scores)
    assert not kept[1:3].any() and kept[[0, 3]].any()
    np.testing.assert_array_equal(kept, operator(50, 0.5, 50)(boxes, scores))


@pytest.mark.parametrize("case", CASES)
def test_ranked_rows_need_no_comparison_of_scores(case):
    ramp = np.arange(120, 0, -1, dtype=np.float32)[None, None].repeat(2, 0)
    for seed in range(6):
        boxes, _ = boxes_of(case, np.random.default_rng(seed), 2, 120)
        scores = np.where(np.random.default_rng(seed).uniform(0, 1, ramp.shape) < 0.2, -1, ramp)
        scores = scores.astype(np.float32)
        kept = portable("loop", 120, 0.5, 120, ranked=True)(boxes, scores)
        np.testing.assert_array_equal(kept, operator(120, 0.5, 120)(boxes, scores))


@pytest.mark.parametrize("case", CASES)
def test_loop_is_the_same_without_a_matrix_product(case):
    for seed in range(4):
        boxes = disturbed(*boxes_of(case, np.random.default_rng(seed), 3, 60), seed)
        kept = portable("loop", 60, 0.5, 60, sums=True)(*boxes)
        np.testing.assert_array_equal(kept, operator(60, 0.5, 60)(*boxes))


@pytest.mark.parametrize(
    ("most", "count", "rows", "form"),
    [
        (300, 5000, 1, "select"),  # Faster R-CNN, proposals
        (1000, 1000, 5, "loop"),  # Mask R-CNN, proposals of five levels
        (100, 1000, 80, "select"),  # its classes, whose matrices would be 320 MB
        (301, 301, 1, "loop"),
        (1000, 5000, 1, "select"),  # a matrix of 100 MB
    ],
)
def test_the_form_follows_the_size(most, count, rows, form):
    assert choose(most, count, rows) == form
