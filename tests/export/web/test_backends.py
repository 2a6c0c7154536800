"""The page's backends in a real browser: WebGPU by a software driver, wrong numbers, failures, threads.

And the pictures that people have: 50 megapixels, transparent, 16 bits.
"""

import contextlib
import functools
import http.server
import threading

import cv2
import numpy as np
import pytest

import rcnn_jax
from rcnn_jax.export.lowering.portable import to_portable
from rcnn_jax.export.web.page import write_web
from tests.browser.driver import WEBGPU, browser, served
from tests.export.web.pages import plain_graph, smooth

PICTURE = "a.png"
STATUS = "document.getElementById('status').textContent"
# In the place of the WebGPU build: WebAssembly under its name, so that what a GPU does is at hand.
FAULTY = """
import * as ort from "./ort.wasm.min.mjs";
export const { env, Tensor } = ort;
let runs = 0;
export const InferenceSession = {
  async create(bytes) {
    %(create)s
    env.wasm.wasmPaths = new URL("./", import.meta.url).href;
    const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
    return {
      inputNames: session.inputNames,
      async run(feeds) {
        runs += 1;
        %(run)s
        const outputs = await session.run(feeds);
        %(after)s
        return outputs;
      },
    };
  },
};
"""


@pytest.fixture(scope="module")
def with_webgpu():
    with browser(WEBGPU) as opened:
        yield opened


@pytest.fixture
def web(boxes_files, runtime, tmp_path):
    """(folder of a page of a portable graph with a picture in it, the model of the command line)."""
    graph, header = plain_graph(boxes_files)
    graph = to_portable(graph)
    folder = tmp_path / "web"
    write_web(folder, graph, header, title="Cells", threshold=0.0)
    (tmp_path / "m.onnx").write_bytes(graph.SerializeToString())
    # Of the size of the canvas, so that pixels are equal: what is compared here is the rest.
    noise = np.random.default_rng(1).integers(0, 256, (*header.canvas, 3)).astype(np.uint8)
    assert cv2.imwrite(str(folder / PICTURE), noise)
    return folder, rcnn_jax.load(tmp_path / "m.onnx")


def break_webgpu(folder, *, create="", run="", after=""):
    text = FAULTY % {"create": create, "run": run, "after": after}
    (folder / "runtime" / "ort.webgpu.min.mjs").write_text(text)


def ready(window, address, *, backend="", image=""):
    """Status line of the page when it has looked at a picture."""
    wanted = f"&backend={backend}" if backend else ""
    window.open(f"{address}/index.html?image={image or PICTURE}{wanted}")
    # Shaders of a software driver are compiled at the first run, which takes a minute on a busy machine.
    assert window.wait("document.body.dataset.state", 500) == "ready", window.value(STATUS)
    return window.value(STATUS)


def assert_objects(window, model, picture, pixels=0.1):
    seen = window.value("window.detections.map(d => [...d.box, d.score, d.label])")
    wanted = model([picture])[0]
    assert len(seen) == len(wanted.scores) > 0
    boxes, scores, labels = np.split(np.asarray(seen), [4, 5], axis=1)
    np.testing.assert_allclose(boxes, wanted.boxes, atol=pixels)
    np.testing.assert_allclose(scores[:, 0], wanted.scores, atol=2e-3)
    np.testing.assert_array_equal(labels[:, 0], wanted.classes)


def gpu(window, address):
    """Skips where this Chromium has no WebGPU, be it by software."""
    window.open(f"{address}/index.html")
    if not window.value(
        "(async () => !!(navigator.gpu && await navigator.gpu.requestAdapter()))()"
    ):
        pytest.skip("this Chromium has no WebGPU")


def test_the_page_sees_the_objects_of_the_command_line_on_webgpu(web, with_webgpu):
    folder, model = web
    with served(folder) as (address, asked):
        gpu(with_webgpu, address)
        assert ready(with_webgpu, address) == "ready on webgpu."
        assert with_webgpu.value("document.body.dataset.backend") == "webgpu"
        assert_objects(with_webgpu, model, folder / PICTURE)
        assert any("asyncify.wasm" in path for path in asked)


def test_a_webgpu_with_other_numbers_is_left_for_wasm_and_said(web, with_webgpu):
    folder, model = web
    break_webgpu(folder, after="outputs.boxes.data.forEach((v, i, all) => (all[i] = v + 3));")
    with served(folder) as (address, _):
        gpu(with_webgpu, address)
        status = ready(with_webgpu, address)
        assert status.startswith("ready on wasm. webgpu gives other objects than it should (")
        assert_objects(with_webgpu, model, folder / PICTURE)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("throw 5243136;", "the runtime stopped (number 5243136), most often for want of memory."),
        (
            "throw new Error('Out of memory: buffer of 2147483648 bytes.');",
            "Out of memory: buffer of",
        ),
    ],
)
def test_a_webgpu_that_does_not_start_is_told_in_a_sentence(web, with_webgpu, fault, words):
    folder, model = web
    break_webgpu(folder, create=fault)
    with served(folder) as (address, _):
        gpu(with_webgpu, address)
        status = ready(with_webgpu, address)
        assert "ready on wasm. webgpu does not run here: " in status and words in status
        assert_objects(with_webgpu, model, folder / PICTURE)


def test_a_webgpu_that_stops_in_the_middle_is_left_and_the_picture_is_not_lost(web, with_webgpu):
    folder, model = web
    # the first run is the check of the reference picture
    break_webgpu(folder, run="if (runs > 1) throw 77;")
    with served(folder) as (address, _):
        gpu(with_webgpu, address)
        status = ready(with_webgpu, address)
        assert status.startswith("ready on wasm. webgpu stopped: the runtime stopped (number 77)")
        assert with_webgpu.value("document.body.dataset.backend") == "wasm"
        assert_objects(with_webgpu, model, folder / PICTURE)


def test_one_thread_runs_and_the_page_says_which_headers_give_more(web, window):
    folder, model = web
    with served(folder) as (address, _):
        status = ready(window, address, backend="wasm")
        assert window.value("self.crossOriginIsolated") is False
        assert "One thread: served with Cross-Origin-Opener-Policy: same-origin" in status
        assert_objects(window, model, folder / PICTURE)


def test_a_server_with_the_headers_gives_all_cores_and_no_hint(web, window):
    folder, model = web
    with isolated(folder) as address:
        status = ready(window, address, backend="wasm")
        assert window.value("self.crossOriginIsolated") is True
        assert status == "ready on wasm."
        assert_objects(window, model, folder / PICTURE)


@contextlib.contextmanager
def isolated(folder):
    """Serves a folder with the two headers of cross-origin isolation."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def end_headers(self):
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            super().end_headers()

    handler = functools.partial(Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def transparent(canvas):
    """Colours under full transparency: a canvas of the browser would forget them."""
    picture = smooth(*canvas, 4)
    picture[: canvas[0] // 2, :, 3] = 0
    return picture


PICTURES = {
    "transparent": transparent,
    "16 bits": lambda canvas: smooth(*canvas).astype(np.uint16) * 257,
    "grey": lambda canvas: smooth(*canvas, 1),
    # A whole number of times the canvas, so that averages are the same to the last bit.
    "50 megapixels": lambda canvas: np.kron(
        smooth(*canvas), np.ones((*(-(-7072 // side) for side in canvas), 1), np.uint8)
    ),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_of_all_kinds_give_the_boxes_of_the_command_line(web, window, name):
    folder, model = web
    picture = PICTURES[name]((model.geometry.height, model.geometry.width))
    assert cv2.imwrite(str(folder / "b.png"), picture)
    if name == "50 megapixels":
        assert picture.shape[0] * picture.shape[1] >= 50e6
    with served(folder) as (address, _):
        ready(window, address, backend="wasm", image="b.png")
        assert_objects(window, model, folder / "b.png")
