"""The page of a model in a real browser: the objects of `inference`, and nothing from elsewhere."""

import base64
import json

import cv2
import numpy as np
import onnx
import pytest

import rcnn_jax
from rcnn_jax.cli.main import main
from rcnn_jax.export.lowering.portable import is_portable
from rcnn_jax.export.web import page
from rcnn_jax.export.web.onnxruntime_web import PARTS
from rcnn_jax.export.web.page import write_web
from rcnn_jax.runtime.onnx_file import read_header
from tests.browser.driver import served
from tests.export.web.pages import plain_graph

RUNTIME = {name for parts in PARTS.values() for name in parts}


@pytest.mark.parametrize("fixture", ["boxes_files", "masks_files"])
def test_the_page_sees_the_objects_of_the_command_line(fixture, request, runtime, window, tmp_path):
    files = request.getfixturevalue(fixture)
    graph, header = plain_graph(files)
    folder = tmp_path / "web"
    write_web(folder, graph, header, title="Cells", threshold=0.0)
    # Of the size of the canvas, so that pixels are equal: what is compared here is the rest.
    rng = np.random.default_rng(1)
    names = ["a.png", "b.png"]
    for name in names:
        noise = rng.integers(0, 256, (*header.canvas, 3)).astype(np.uint8)
        assert cv2.imwrite(str(folder / name), noise)
    (tmp_path / "m.onnx").write_bytes(graph.SerializeToString())
    model = rcnn_jax.load(tmp_path / "m.onnx")
    with served(folder) as (address, asked):
        for name in names:
            window.open(f"{address}/index.html?image={name}&backend=wasm")
            assert window.wait("document.body.dataset.state") == "ready"
            seen = window.value("window.detections.map(d => [...d.box, d.score, d.label])")
            detections = model([folder / name])[0]
            assert len(seen) == len(detections.scores) > 0
            boxes, scores, labels = np.split(np.asarray(seen), [4, 5], axis=1)
            np.testing.assert_allclose(boxes, detections.boxes, atol=0.1)
            np.testing.assert_allclose(scores[:, 0], detections.scores, atol=2e-3)
            np.testing.assert_array_equal(labels[:, 0], detections.classes)
        assert window.value("document.body.dataset.backend") == "wasm"
        asked_for = {path.partition("?")[0] for path in asked}
        assert any(path.endswith(".wasm") for path in asked_for)
        resources = window.value("performance.getEntriesByType('resource').map(e => e.name)")
        assert all(name.startswith((address, "data:", "blob:")) for name in resources)
        # What a person sees: more than the page of one colour that a canvas without a picture is.
        picture = tmp_path / "page.png"
        picture.write_bytes(base64.b64decode(window.picture()))
        shown = cv2.imread(str(picture))
        assert shown.shape[0] > 200 and shown.shape[1] > 400
        assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 1000


@pytest.fixture(scope="module")
def int8_page(boxes_files, runtime, tmp_path_factory):
    """The folder of a page that the command has written."""
    root = tmp_path_factory.mktemp("int8")
    flags = ["-e", boxes_files.spec, "-m", boxes_files.model, "-o", root / "model.onnx"]
    flags += ["--data_type", "int8", "--web", root / "page", "--accept-loss"]
    flags += ["--batches", "1", "--batch_size", "2", "--cal_cache_file", root / "cal.bin"]
    assert main(["faster_rcnn", "export", *map(str, flags)]) == 0
    return root / "page"


def test_the_command_writes_the_page_of_an_int8_graph(int8_page):
    written = {path.name for path in int8_page.rglob("*") if path.is_file()}
    assert written == {*page._ASSETS, "model.onnx", "model.json", "reference.png", *RUNTIME}
    graph = onnx.load(int8_page / "model.onnx")
    assert is_portable(graph)
    assert "QuantizeLinear" in {node.op_type for node in graph.graph.node}
    header = read_header(graph, "x")
    assert (header.contract, header.batch) == ("plain", 1)
    content = json.loads((int8_page / "model.json").read_text())
    assert content["class_names"] == ["disc", "rod", "star"]
    assert content["reference"]["count"] > 0


def test_an_int8_page_of_the_command_passes_its_check_in_a_browser(int8_page, window):
    with served(int8_page) as (address, _):
        window.open(f"{address}/index.html?backend=wasm")
        assert window.wait("document.body.dataset.state") == "ready"
        assert window.value("document.body.dataset.backend") == "wasm"
        assert window.value("window.detections.length") > 0
