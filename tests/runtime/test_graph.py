"""An exported graph, opened: described by its header, and run."""

import numpy as np
import onnx
import pytest

from rcnn_jax.errors import CheckpointError, RcnnError
from rcnn_jax.runtime.graph import open_graph
from tests.export.tiny import CANVAS, default_graph, images


@pytest.fixture
def path(tmp_path):
    model, _ = default_graph("faster_rcnn")
    file = tmp_path / "model.onnx"
    file.write_bytes(model.SerializeToString())
    return file


def without_metadata(path):
    model = onnx.load(path)
    del model.metadata_props[:]
    bare = path.with_name("bare.onnx")
    onnx.save(model, bare)
    return bare


def test_a_graph_says_itself_what_it_is(path):
    graph, header = open_graph(path, None), default_graph("faster_rcnn")[1]
    assert graph.origin == header.origin and graph.origin.fixed_canvas
    assert graph.report_name == "model.onnx" and graph.path == path


def test_detections_lie_on_the_canvas_for_any_number_of_images(path):
    predict = open_graph(path, None).start()
    detections, proposals = predict(images(3))
    assert proposals is None and detections.scores.shape[0] == 3
    boxes = detections.boxes[detections.valid]
    assert len(boxes) and boxes.min() >= 0
    assert (boxes <= np.array(CANVAS * 2)).all()


def test_a_rewrite_is_applied_when_the_graph_is_started_and_not_to_the_model(path):
    seen = []

    def rewrite(model, name):
        seen.append(name)
        return model

    graph = open_graph(path, None, rewrite=rewrite)
    assert seen == []
    graph.start()
    assert seen == [str(path)] and graph.model == onnx.load(path)


def test_a_graph_without_header_takes_that_of_another_file(path):
    bare = without_metadata(path)
    with pytest.raises(CheckpointError, match="bare.onnx"):
        open_graph(bare, None)
    assert open_graph(bare, None, header=path).origin == open_graph(path, None).origin


def test_a_file_that_is_no_graph_is_one_message(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(RcnnError, match="a.onnx"):
        open_graph(path, None)
