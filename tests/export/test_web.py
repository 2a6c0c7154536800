"""The web page of a model in a real browser: the objects of `inference`, and nothing from elsewhere."""

import base64
import dataclasses
import hashlib
import io
import json
import shutil
import tarfile
from importlib import resources

import cv2
import numpy as np
import onnx
import pytest

import rcnn_jax
from rcnn_jax.checkpoints.cache import Digest
from rcnn_jax.cli.main import main
from rcnn_jax.data.loader import images
from rcnn_jax.errors import ExportError
from rcnn_jax.export.contracts import make_header, outputs_of
from rcnn_jax.export.lowering.dense import NCHW
from rcnn_jax.export.lowering.jaxpr_onnx import trace
from rcnn_jax.export.lowering.portable import is_portable
from rcnn_jax.export.web import page
from rcnn_jax.export.web.page import write_web
from rcnn_jax.runtime.onnx_file import read_header
from rcnn_jax.settings.data import GeometrySettings
from rcnn_jax.tasks.families import family
from tests.browser.driver import browser, served

RUNTIME = {name for parts in page._PARTS.values() for name in parts}


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    """The npm package in the cache of the machine; skips where it cannot be had."""
    try:
        return page.runtime_files(offline=False, reporter=page.SILENT)
    except Exception as error:  # no network
        pytest.skip(f"onnxruntime-web cannot be fetched: {error}")


def plain_graph(files):
    """(graph, header) with plain outputs for one image."""
    header = make_header(files.experiment, "plain", 1)
    shape = (1, *header.canvas, 3)
    outputs = outputs_of(files.experiment, files.variables, "plain")
    graph = trace(outputs, family(files.kind).input_name, shape, NCHW)
    return graph.to_model("detector", header.to_metadata()), header


def smooth(height, width, channels=3):
    """A picture without edges, in which a shift of half a pixel shows."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, channels)).astype(np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 6), None, 0, 255, cv2.NORM_MINMAX)


@pytest.fixture(scope="module")
def window():
    with browser() as opened:
        yield opened


GEOMETRIES = [
    GeometrySettings(mode="keep_aspect", height=64, width=64),
    GeometrySettings(mode="stretch", height=96, width=128),
    GeometrySettings(mode="pad_crop", height=96, width=96),
    GeometrySettings(mode="pad_crop", height=64, width=64, crop=(8, 4, 70, 60), prescale=(80, 90)),
    GeometrySettings(mode="keep_aspect", height=416, width=416),
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: f"{g.mode}-{g.height}")
def test_the_browser_makes_the_pixels_of_the_command_line(window, geometry, tmp_path):
    asset = resources.files("rcnn_jax.export.web") / "assets" / "pixels.mjs"
    (tmp_path / "pixels.mjs").write_bytes(asset.read_bytes())
    (tmp_path / "index.html").write_text("<html></html>")
    shapes = {
        "large.png": smooth(300, 420),
        "small.png": smooth(70, 50),
        "deep.png": smooth(100, 90).astype(np.uint16) * 257,
    }
    with served(tmp_path) as (address, _):
        window.open(f"{address}/index.html")
        for name, image in shapes.items():
            assert cv2.imwrite(str(tmp_path / name), image)
            for order, count in (("rgb", 3), ("bgr", 3), ("l", 1)):
                model = {"channel_order": order, "mean": [0] * count, "std": [1] * count}
                script = f"""(async () => {{
                    const pixels = await import('./pixels.mjs');
                    const blob = await (await fetch('{name}')).blob();
                    const image = await pixels.decode(blob);
                    const geometry = {json.dumps(dataclasses.asdict(geometry))};
                    const placed = pixels.fit(image.height, image.width, geometry);
                    return Array.from(pixels.networkInput(image, placed, {json.dumps(model)}));
                }})()"""
                shape = (count, geometry.height, geometry.width)
                seen = np.asarray(window.value(script)).reshape(shape).transpose(1, 2, 0)
                source = images.read_image(tmp_path / name, order)
                canvas = images.apply_image(source, images.fit(source.shape[:2], geometry))
                # OpenCV rounds positions to 1/32 of a pixel, and grey levels once more.
                difference = np.abs(seen - canvas.astype(np.float64))
                assert difference.max() <= 2
                assert difference.mean() < 0.8


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


def test_a_backend_with_other_numbers_is_said_and_left(boxes_files, runtime, window, tmp_path):
    graph, header = plain_graph(boxes_files)
    folder = tmp_path / "web"
    write_web(folder, graph, header, title="Cells", threshold=0.0)
    content = json.loads((folder / "model.json").read_text())
    content["reference"]["objects"][0]["box"][0] += 5
    (folder / "model.json").write_text(json.dumps(content))
    with served(folder) as (address, _):
        window.open(f"{address}/index.html")
        assert window.wait("document.body.dataset.state") == "failed"
        status = window.value("document.getElementById('status').textContent")
        assert "other objects than it should" in status


REFERENCE = {
    "objects": [
        {"box": [1, 2, 30, 40], "score": 0.9, "label": 0, "mask": [3, 1, 0, 0]},
        {"box": [5, 6, 20, 20], "score": 0.2, "label": 1, "mask": [4, 4, 4, 4]},
    ],
    "count": 2,
}
SEEN = [
    {
        "box": [1, 2, 30.1, 40],
        "score": 0.9,
        "label": 0,
        "side": 4,
        "mask": [1, 1, 1, 0, 1] + [0] * 11,
    },
    {"box": [5, 6, 20, 20], "score": 0.2, "label": 1, "side": 4, "mask": [1] * 16},
]
MANY = REFERENCE | {"count": 40}
FIVE = [{"box": [i, i, i + 9, i + 9], "score": 0.5, "label": 0} for i in range(0, 50, 10)]
WEAK = [{"box": [0, 0, 9, 9], "score": 0.01, "label": 0, "side": 4, "mask": [1] * 16}] * 38


@pytest.mark.parametrize(
    ("seen", "reference", "problem"),
    [
        (SEEN, REFERENCE, ""),
        (SEEN[::-1], REFERENCE, ""),
        ([], {"objects": [], "count": 0}, ""),
        (SEEN, {"objects": [], "count": 0}, "2 objects too many"),
        ([], REFERENCE, "object 1 of 2"),
        (SEEN[:1], REFERENCE, "object 2 of 2"),
        ([*SEEN, SEEN[0] | {"box": [50, 50, 60, 60]}], REFERENCE, "1 objects too many"),
        ([SEEN[0], *SEEN], REFERENCE, "1 objects too many"),
        ([SEEN[0] | {"label": 1}, SEEN[1]], REFERENCE, "object 1 of 2"),
        ([SEEN[0] | {"box": [1, 2, 31, 40]}, SEEN[1]], REFERENCE, "object 1 of 2"),
        ([SEEN[0], SEEN[1] | {"score": 0.1}], REFERENCE, "object 2 of 2"),
        # Turned by half a turn: the sum over all cells is the same.
        ([SEEN[0] | {"mask": SEEN[0]["mask"][::-1]}, SEEN[1]], REFERENCE, "object 1 of 2"),
        ([SEEN[0], SEEN[1] | {"mask": [0.9] * 16}], REFERENCE, "object 2 of 2"),
        ([SEEN[0], SEEN[1] | {"mask": None}], REFERENCE, "object 2 of 2"),
        (SEEN + WEAK, MANY, ""),
        (SEEN + WEAK[2:], MANY, ""),
        (SEEN + WEAK[9:], MANY, "31 objects, 40 expected"),
        ([*SEEN, WEAK[0] | {"score": 0.5}, *WEAK[1:]], MANY, "1 objects too many"),
        ([SEEN[0] | {"box": [1, 2, 31, 40]}, SEEN[1]], REFERENCE | {"precision": "int8"}, ""),
        (
            [SEEN[0] | {"box": [1, 2, 32, 40]}, SEEN[1]],
            REFERENCE | {"precision": "int8"},
            "object 1",
        ),
        ([SEEN[1], *FIVE[1:]], {"objects": FIVE, "count": 5, "precision": "int8"}, ""),
        ([SEEN[1], *FIVE[1:]], {"objects": FIVE, "count": 5, "precision": "fp16"}, "object 1 of 5"),
        (FIVE[2:], {"objects": FIVE, "count": 5, "precision": "int8"}, "object 2 of 5"),
        ([*FIVE, *SEEN], {"objects": FIVE, "count": 5, "precision": "int8"}, "2 objects too many"),
    ],
)
def test_a_backend_is_compared_both_ways(window, tmp_path, seen, reference, problem):
    asset = resources.files("rcnn_jax.export.web") / "assets" / "reference.mjs"
    (tmp_path / "reference.mjs").write_bytes(asset.read_bytes())
    (tmp_path / "index.html").write_text("<html></html>")
    with served(tmp_path) as (address, _):
        window.open(f"{address}/index.html")
        script = f"""(async () => {{
            const {{ difference }} = await import('./reference.mjs');
            return difference({json.dumps(seen)}, {json.dumps(reference)});
        }})()"""
        answer = window.value(script)
    assert answer.startswith(problem) if problem else answer == ""


def test_the_reference_holds_the_best_objects_though_none_is_above_the_threshold(
    masks_files, runtime, tmp_path
):
    graph, header = plain_graph(masks_files)
    write_web(tmp_path / "web", graph, header, title="Cells", threshold=1.0)
    reference = json.loads((tmp_path / "web" / "model.json").read_text())["reference"]
    objects, count = reference["objects"], reference["count"]
    assert len(objects) == min(count, page._BEST) > 0
    scores = [each["score"] for each in objects]
    assert scores == sorted(scores, reverse=True)
    assert all(len(each["mask"]) == 4 and min(each["mask"]) > 0 for each in objects)


def test_a_picture_that_shows_the_model_nothing_is_replaced_by_one_that_does(monkeypatch):
    empty, full = np.zeros((8, 8, 3), np.uint8), [{"score": 0.1}]
    monkeypatch.setattr(page, "predictor", lambda session, header: None)
    monkeypatch.setattr(page, "open_session", lambda data, name: None)
    monkeypatch.setattr(page, "_objects", lambda run, header, each: full if each.any() else [])
    picture, objects = page._reference(b"", None, empty)
    assert picture.any() and objects == full


def test_a_model_that_sees_nothing_is_said_and_runs_on_wasm_alone(
    boxes_files, runtime, window, tmp_path, monkeypatch
):
    graph, header = plain_graph(boxes_files)
    warnings = []

    class Listener(type(page.SILENT)):
        def warn(self, text):
            warnings.append(text)

    monkeypatch.setattr(page, "_objects", lambda run, header, picture: [])
    folder = tmp_path / "web"
    write_web(folder, graph, header, title="Cells", threshold=0.5, reporter=Listener())
    assert len(warnings) == 1 and "WebAssembly alone" in warnings[0]
    with served(folder) as (address, asked):
        window.open(f"{address}/index.html?backend=webgpu")
        assert window.wait("document.body.dataset.state") == "failed"
        assert "webgpu cannot be checked" in window.value("document.body.innerText")
        assert not any("model.onnx" in path for path in asked)


@pytest.mark.parametrize("change", ["added", "mask"])
def test_another_count_or_another_mask_stops_a_backend(
    masks_files, runtime, window, tmp_path, change
):
    graph, header = plain_graph(masks_files)
    folder = tmp_path / "web"
    write_web(folder, graph, header, title="Cells", threshold=0.5)
    content = json.loads((folder / "model.json").read_text())
    reference = content["reference"]
    if change == "added":  # the exporter would have seen fewer
        reference["objects"] = reference["objects"][1:]
        reference["count"] = len(reference["objects"])
    else:
        reference["objects"][0]["mask"][3] += 10
    (folder / "model.json").write_text(json.dumps(content))
    with served(folder) as (address, _):
        window.open(f"{address}/index.html")
        assert window.wait("document.body.dataset.state") == "failed"
        assert "other objects than it should" in window.value("document.body.innerText")


def test_a_page_without_its_model_says_so(boxes_files, runtime, window, tmp_path):
    graph, header = plain_graph(boxes_files)
    folder = tmp_path / "web"
    write_web(folder, graph, header, title="Cells", threshold=0.5)
    (folder / "model.onnx").unlink()
    with served(folder) as (address, _):
        window.open(f"{address}/index.html")
        assert window.wait("document.body.dataset.state") == "failed"
        assert "model.onnx is missing (404)" in window.value("document.body.innerText")


def test_the_folder_holds_everything_and_is_replaced_as_a_whole(boxes_files, runtime, tmp_path):
    graph, header = plain_graph(boxes_files)
    folder = tmp_path / "web"
    written = write_web(folder, graph, header, title="Cells", threshold=0.5)
    assert {path.name for path in written} >= {"index.html", "model.onnx", "model.json", *RUNTIME}
    (folder / "old").touch()
    write_web(folder, graph, header, title="Cells", threshold=0.5)
    assert not (folder / "old").exists()
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "thesis.txt").touch()
    with pytest.raises(ExportError, match="a new or empty folder"):
        write_web(folder, graph, header, title="Cells", threshold=0.5)
    assert (folder / "thesis.txt").exists()


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


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--static_batch_size", "4"], "--static_batch_size"),
        (["--gen_ds_config"], "--gen_ds_config"),
        (["-o", "model.etlt", "-k", "key"], "-o with .etlt"),
    ],
)
def test_the_command_refuses_a_page_of_another_graph(boxes_files, tmp_path, capsys, flags, named):
    paths = ["-e", boxes_files.spec, "-m", boxes_files.model, "-o", tmp_path / "model.onnx"]
    words = [*map(str, paths), "--web", str(tmp_path / "page"), *flags]
    assert main(["faster_rcnn", "export", *words]) == 2
    assert f"leave {named}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_graph_for_deepstream_is_refused(boxes_files, tmp_path):
    with pytest.raises(ExportError, match="plain outputs"):
        page.check_web(make_header(boxes_files.experiment, "tao", 1))
    with pytest.raises(ExportError, match="one image: leave .* --static_batch_size out"):
        page.check_web(make_header(boxes_files.experiment, "plain", 4))


def test_the_registry_is_that_of_the_environment_or_of_npm(tmp_path):
    npm = tmp_path / "npm"
    npm.write_text('#!/bin/sh\n[ "$*" = "config get registry" ] && echo http://there:5/npm/\n')
    npm.chmod(0o755)
    variables = {"PATH": str(tmp_path)}
    assert page._address(variables) == f"http://there:5/npm/onnxruntime-web/-/{page.PACKAGE}"
    variables["npm_config_registry"] = "http://here:4/"
    assert page._address(variables) == f"http://here:4/onnxruntime-web/-/{page.PACKAGE}"


@pytest.mark.parametrize("script", [None, "exit 1", "echo undefined", "true"])
def test_without_a_registry_one_message_says_where_the_package_can_be_put(script, tmp_path):
    if script is not None:
        (tmp_path / "npm").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "npm").chmod(0o755)
    variables = {"PATH": str(tmp_path), "RCNN_JAX_CACHE": str(tmp_path / "cache")}
    with pytest.raises(ExportError) as caught:
        page._address(variables)
    message = str(caught.value)
    assert f"npm pack onnxruntime-web@{page.VERSION}" in message
    assert str(tmp_path / "cache" / "web" / page.PACKAGE) in message
    assert "npm_config_registry is not set" in message


def test_a_package_that_was_put_into_the_cache_needs_no_registry(tmp_path, monkeypatch):
    monkeypatch.setenv("RCNN_JAX_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv(page.REGISTRY_VARIABLE, raising=False)
    path = page.package_path()
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as archive:
        for name in RUNTIME:
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    digest = Digest("sha256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(page, "DIGEST", digest)
    files = page.runtime_files(offline=True, reporter=page.SILENT)
    assert files == {name: name.encode() for name in RUNTIME}
    # Another file there is not the package, and there is no registry to ask instead.
    monkeypatch.setattr(page, "DIGEST", Digest("sha256", "0" * 64))
    with pytest.raises(ExportError, match="npm pack"):
        page.runtime_files(offline=False, reporter=page.SILENT)
