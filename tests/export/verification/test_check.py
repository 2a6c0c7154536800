"""Checks of a graph: validity and operators, stages against JAX, final detections against JAX."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from rcnn_jax.export.contracts import make_header
from rcnn_jax.export.verification.check import check_detections, check_model, check_stages
from rcnn_jax.export.verification.parity import FP32
from rcnn_jax.runtime.onnx_runtime import open_session, predictor
from tests.export.small import model_of, relu, residual_block
from tests.export.tiny import default_graph, faster_rcnn, images

HEADER = make_header(faster_rcnn(canvas=(16, 16)), "plain", None)


def test_a_sound_graph_has_its_operators_counted_and_no_problem():
    check = check_model(residual_block())
    assert check.operators == {"Conv": 5, "Relu": 3, "Add": 1} and check.problems == ()


def test_wrong_shapes_and_operators_that_tensorrt_lacks_are_problems():
    wrong = residual_block()
    wrong.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    assert check_model(wrong).problems[0].text.startswith("onnx.checker: ")
    lacking = model_of([helper.make_node("Unique", ["x"], ["y"], name="y")], {}, ["y"])
    assert any(p.text.startswith("TensorRT: ") for p in check_model(lacking).problems)


def stages():
    """A graph that returns a dense stage and one of a set of rois."""
    nodes = [relu("x", "stage:rpn['a']"), helper.make_node("Neg", ["x"], ["stage:classify['b']"])]
    return model_of(nodes, {}, ["stage:rpn['a']", "stage:classify['b']"], ("n", 3, 16, 16))


def reference(batch, error=0.0):
    """What JAX would give for normalised NHWC images."""
    x = batch.transpose(0, 3, 1, 2)
    rpn = np.maximum(x, 0)
    # Rois in another order are the same set.
    return {"stage:rpn['a']": rpn + error * rpn.max(), "stage:classify['b']": -x[:, ::-1]}


def test_stages_that_agree_have_no_problem_and_rois_may_come_in_any_order():
    check = check_stages(stages(), reference, images(2, (16, 16)), HEADER, FP32)
    assert check.problems == () and set(check.differences) == {"rpn['a']", "classify['b']"}
    assert max(check.differences.values()) < 1e-6


@pytest.mark.parametrize("error", [0.01, float("nan")])
def test_a_dense_stage_that_differs_is_a_problem_and_nan_is_too(error):
    def wrong(batch):
        return reference(batch, error)

    check = check_stages(stages(), wrong, images(2, (16, 16)), HEADER, FP32)
    (problem,) = check.problems
    assert problem.text.startswith("stage rpn['a'] differs by") and not problem.lowering


def test_detections_are_compared_for_all_images_and_for_one_alone():
    model, header = default_graph("faster_rcnn")
    run = predictor(open_session(model.SerializeToString(), "x"), header)
    pixels = images(2)
    check = check_detections(model, run, pixels, header, FP32)
    assert check.problems == () and check.parity.images == 2 and check.parity.detections > 0

    def moved(batch):
        detections, _ = run(batch)
        return detections.replace(boxes=np.asarray(detections.boxes) + 0.25), None

    problems = [
        problem.text for problem in check_detections(model, moved, pixels, header, FP32).problems
    ]
    assert [text.partition(":")[0] for text in problems] == [
        "detections differ",
        "detections of a single image differ",
    ]
