"""A graph is compared with JAX: agreement of detections, and accuracy where images are evaluated."""

import numpy as np
import pytest

from rcnn_jax.export.comparison import make_comparison
from rcnn_jax.export.precision.fp16 import to_fp16
from rcnn_jax.reporter import SILENT
from rcnn_jax.runtime.onnx_runtime import open_session, predictor
from tests.export.tiny import default_graph, images


@pytest.fixture(scope="module")
def graph():
    return default_graph("faster_rcnn")


@pytest.fixture
def reference(graph):
    """The graph itself in place of JAX; `calls` counts how often it runs."""
    model, header = graph
    run = predictor(open_session(model.SerializeToString(), "x"), header)

    def predict(pixels):
        predict.calls += 1
        return run(pixels)

    predict.calls = 0
    return predict


def comparison_of(reference, header, data_type="fp32"):
    return make_comparison(None, reference, images(2), header, data_type, None, SILENT)


def test_a_graph_agrees_with_itself_and_the_reference_runs_once(graph, reference):
    model, header = graph
    compare = comparison_of(reference, header)
    for _ in range(3):
        result = compare(model)
        assert result.problems == [] and result.accuracy is None
        assert result.agreement.detections > 0
    assert reference.calls == 1


def test_a_graph_of_other_weights_fails_the_threshold(graph, reference):
    model, header = graph
    wrong = type(model)()
    wrong.CopyFrom(model)
    kernel = max(wrong.graph.initializer, key=lambda t: np.prod(t.dims) * (t.data_type == 1))
    kernel.raw_data = np.zeros(np.prod(kernel.dims), np.float32).tobytes()
    (problem,) = comparison_of(reference, header)(wrong).problems
    assert problem.startswith("fp32: detections agree to 0.") and "0.99 is expected" in problem


def test_float16_is_rounded_although_a_cpu_would_not(graph, reference):
    model, header = graph
    result = comparison_of(reference, header, "fp16")(to_fp16(model))
    assert result.agreement.iou < 1.0, "in float32 the boxes would be the same"
