"""Our outputs through the post-processing of NVIDIA's `nvidia-tao-deploy`, its own code.

Its modules import TensorRT and CUDA when they are loaded, so the functions are taken from the source of
the installed package, one by one, and run as they are.
"""

import ast
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from rcnn_jax.runtime.backend import preprocess
from rcnn_jax.runtime.onnx_runtime import open_session, runner
from rcnn_jax.runtime.outputs import read_outputs
from tests.export import tiny

pytestmark = pytest.mark.peers

PACKAGE = importlib.util.find_spec("nvidia_tao_deploy")
if PACKAGE is None or PACKAGE.origin is None:
    reason = "nvidia-tao-deploy is not installed; `make test-peers` does"
    pytest.skip(reason, allow_module_level=True)
ROOT = Path(PACKAGE.origin).parent


def theirs(file, name, **known):
    """A function or class of a file of the package."""
    source = (ROOT / file).read_text(encoding="utf-8")
    (node,) = [
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name
    ]
    space = {"np": np, **known}
    exec(compile(ast.Module([node], []), str(ROOT / file), "exec"), space)
    return space[name]


def outputs_of(kind, count):
    """(outputs by name, what `inference` reads from them, header)."""
    model, header = tiny.graph(getattr(tiny, kind)(), contract="tao")
    run = runner(open_session(model.SerializeToString(), "test"))
    outputs = run(preprocess(tiny.images(count), header))
    return outputs, read_outputs(outputs, header), header


def buffers(outputs):
    memory = theirs("inferencer/utils.py", "HostDeviceMem")
    return [memory(array.reshape(-1), None, array.shape) for array in outputs.values()]


def test_faster_rcnn_gives_the_objects_of_inference():
    process = theirs("cv/faster_rcnn/inferencer.py", "trt_output_process_fn")
    outputs, detections, header = outputs_of("faster_rcnn", 3)
    height, width = header.canvas
    total = 0
    for index, rows in enumerate(process(buffers(outputs))):
        valid = np.asarray(detections.valid)[index]
        rows = rows[rows[:, 0] >= 0]  # free rows have class -1
        total += len(rows)
        np.testing.assert_array_equal(rows[:, 0], np.asarray(detections.classes)[index][valid])
        np.testing.assert_allclose(rows[:, 1], np.asarray(detections.scores)[index][valid])
        corners = rows[:, [3, 2, 5, 4]] * [height, width, height, width]
        np.testing.assert_allclose(corners, np.asarray(detections.boxes)[index][valid], atol=1e-3)
    assert total > 3


def test_mask_rcnn_boxes_become_those_of_inference():
    process = theirs("cv/mask_rcnn/inferencer.py", "process_prediction_for_eval")
    outputs, detections, _ = outputs_of("mask_rcnn", 2)
    rows = outputs["generate_detections"]
    boxes = process([1.0, 1.0], rows[..., :4])
    valid = np.asarray(detections.valid)
    assert valid.any()
    y1, x1, y2, x2 = np.moveaxis(np.asarray(detections.boxes), -1, 0)
    wanted = np.stack([x1, y1, x2 - x1, y2 - y1], -1)
    np.testing.assert_allclose(boxes[valid], wanted[valid], atol=1e-3)
    np.testing.assert_array_equal(rows[..., 4][valid], np.asarray(detections.classes)[valid] + 1)


def test_its_mask_rcnn_still_stops_at_its_own_fault():
    """docs/deployment.md says so; the day this fails, the page has a sentence to lose."""
    process = theirs("cv/mask_rcnn/inferencer.py", "trt_output_process_fn")
    outputs, _, header = outputs_of("mask_rcnn", 1)
    count, classes = outputs["generate_detections"].shape[1], len(header.class_names) + 1
    with pytest.raises(AttributeError, match="reshape"):
        process(buffers(outputs), nms_size=count, mask_size=28, n_classes=classes)
