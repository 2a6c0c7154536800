"""Exported graphs through OpenVINO, as the build `onnxruntime-openvino` of ONNX Runtime runs them."""

import onnxruntime
import pytest

from rcnn_jax.runtime.onnx_runtime import open_session
from rcnn_jax.runtime.openvino import fastest_providers
from tests.export.test_contracts import DETECTORS, assert_equal_detections, both, exported

pytestmark = pytest.mark.peers

OPENVINO = "OpenVINOExecutionProvider"
if OPENVINO not in onnxruntime.get_available_providers():
    reason = "onnxruntime-openvino is not installed; `make test-peers` does"
    pytest.skip(reason, allow_module_level=True)


def test_it_is_chosen_before_the_kernels_of_the_runtime():
    *_, model, _ = exported("faster_rcnn")
    session = open_session(model, "test", fastest_providers())
    assert session.get_providers() == [OPENVINO, "CPUExecutionProvider"]


def test_checks_and_calibration_keep_the_kernels_of_the_runtime():
    *_, model, _ = exported("faster_rcnn")
    assert open_session(model, "test").get_providers() == ["CPUExecutionProvider"]


@pytest.mark.parametrize("case", ["usual", "nothing found", "all places taken"])
@pytest.mark.parametrize("contract", ["tao", "plain"])
@pytest.mark.parametrize("kind", DETECTORS)
def test_it_gives_the_detections_of_jax_for_any_batch(kind, contract, case):
    for count in (1, 3):
        args = kind, count, case, contract
        assert_equal_detections(*both(*args, providers=fastest_providers()))
