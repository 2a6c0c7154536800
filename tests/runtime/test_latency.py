"""Latencies: every graph is timed in either runtime; no number is expected of them."""

import pytest

from rcnn_jax.runtime.latency import latencies
from tests.conftest import HAS_OPENVINO
from tests.export.tiny import default_graph


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_every_graph_has_a_latency(runtime):
    if runtime == "openvino" and not HAS_OPENVINO:
        pytest.skip("openvino is not installed")
    content = default_graph("faster_rcnn")[0].SerializeToString()
    seconds_by_graph = latencies({"one": content, "other": content}, runtime, runs=2)
    assert seconds_by_graph.keys() == {"one", "other"}
    assert all(0 < seconds < 60 for seconds in seconds_by_graph.values())
