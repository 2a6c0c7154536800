"""What a person does with the page, in a real browser: drop, open, paste, camera, slider, faults."""

import base64
import json
from types import SimpleNamespace

import cv2
import jax
import numpy as np
import pytest

import rcnn_jax
from rcnn_jax.export.web.page import write_web
from rcnn_jax.models.heads import PREDICTORS
from tests.browser.driver import CAMERA, browser, served
from tests.export.web.pages import plain_graph

STATUS = "document.getElementById('status').textContent"
COUNT = "document.getElementById('count').textContent"
VALUE = "document.getElementById('value').textContent"
CAMERA_BUTTON = "document.getElementById('camera').textContent"
READY = "ready on wasm."
# Faults that nobody caught; a person would see a page that does nothing.
LISTEN = """(() => {
    window.faults = [];
    addEventListener("error", (event) => window.faults.push(event.message));
    addEventListener("unhandledrejection", (event) => window.faults.push(String(event.reason)));
    return true;
})()"""
SLIDE = """((value) => {
    const slider = document.getElementById("threshold");
    slider.value = value;
    slider.dispatchEvent(new Event("input"));
    return true;
})(%r)"""
CANVAS = """(() => {
    const canvas = document.getElementById("canvas");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return [canvas.height, canvas.width, btoa(Array.from(data, (v) => String.fromCharCode(v)).join(""))];
})()"""


def spread(files):
    """The weights, with scores that are spread over the slider; masks stay as they are."""
    predictors = PREDICTORS - {"mask_fcn_logits"}

    def calmer(path, leaf):
        layer, name = path[-2].key, path[-1].key
        return leaf / 3 if name == "kernel" and layer in predictors else leaf

    return jax.tree_util.tree_map_with_path(calmer, files.variables)


@pytest.fixture(scope="module")
def written(masks_files, runtime, tmp_path_factory):
    """(folder of a page, model of the command line, folder of pictures)."""
    spread_out = vars(masks_files) | {"variables": spread(masks_files)}
    graph, header = plain_graph(SimpleNamespace(**spread_out))
    root = tmp_path_factory.mktemp("page")
    write_web(root / "page", graph, header, title="Cells", threshold=0.0)
    (root / "m.onnx").write_bytes(graph.SerializeToString())
    for seed, name in enumerate(("a.png", "b.png", "c.png")):
        # Of the size of the canvas, so that pixels are equal: what is compared here is the rest.
        noise = np.random.default_rng(seed).integers(0, 256, (*header.canvas, 3)).astype(np.uint8)
        assert cv2.imwrite(str(root / name), noise)
    # Whole blocks, whose averages are the pixels of the small one.
    large = np.kron(cv2.imread(str(root / "a.png")), np.ones((8, 8, 1), np.uint8))
    assert cv2.imwrite(str(root / "large.png"), large)
    (root / "broken.png").write_bytes((root / "a.png").read_bytes()[:60])
    (root / "empty.png").touch()
    (root / "notes.txt").write_text("not a picture")
    return root / "page", rcnn_jax.load(root / "m.onnx"), root


@pytest.fixture
def opened(written, window):
    """The page on its reference picture; no fault may be left uncaught."""
    with served(written[0]) as (address, _):
        start(window, address)
        yield window
        assert window.value("window.faults") == []


def start(window, address):
    window.open(f"{address}/index.html?backend=wasm")
    window.value(LISTEN)
    assert window.wait("document.body.dataset.state") == "ready", window.value(STATUS)


def marked(window):
    """Marks the objects on show, so that `fresh` waits for those of another picture."""
    assert window.value("(window.detections.old = true)")


def fresh(window):
    assert window.wait("!window.detections.old")


def assert_objects(window, model, picture):
    seen = window.value("window.detections.map(d => [...d.box, d.score, d.label])")
    wanted = model([picture])[0]
    assert len(seen) == len(wanted.scores) > 0
    boxes, scores, labels = np.split(np.asarray(seen), [4, 5], axis=1)
    np.testing.assert_allclose(boxes, wanted.boxes, atol=0.1)
    np.testing.assert_allclose(scores[:, 0], wanted.scores, atol=2e-3)
    np.testing.assert_array_equal(labels[:, 0], wanted.classes)
    assert window.value(COUNT).startswith(f"{len(seen)} object")
    assert window.value(STATUS).startswith(READY)


def shows(box):
    """An expression: whether the best object on show has this box."""
    near = f"Math.abs(v - {json.dumps(box)}[i]) < 0.1"
    return f"window.detections.length > 0 && window.detections[0].box.every((v, i) => {near})"


def canvas(window):
    """The pixels on show, u8[h w 3] in RGB."""
    height, width, data = window.value(CANVAS)
    pixels = np.frombuffer(base64.b64decode(data), np.uint8)
    return pixels.reshape(height, width, 4)[..., :3].astype(int)


def slide(window, value):
    assert window.value(SLIDE % value)


def by_drop(window, path):
    window.drop(path)


def by_file(window, path):
    window.type("#file", str(path))


def by_paste(window, path):
    content = base64.b64encode(path.read_bytes()).decode()
    assert window.value(f"""(() => {{
        const bytes = Uint8Array.from(atob({json.dumps(content)}), (c) => c.charCodeAt(0));
        const data = new DataTransfer();
        data.items.add(new File([bytes], "image.png", {{ type: "image/png" }}));
        document.dispatchEvent(new ClipboardEvent("paste", {{ clipboardData: data }}));
        return true;
    }})()""")


@pytest.mark.parametrize("give", [by_drop, by_file, by_paste])
def test_a_picture_comes_and_another_after_it(give, written, opened):
    _, model, pictures = written
    for name in ("a.png", "b.png", "a.png"):
        marked(opened)
        give(opened, pictures / name)
        fresh(opened)
        assert_objects(opened, model, pictures / name)


def test_the_same_file_can_be_opened_twice(written, opened):
    _, model, pictures = written
    for _ in range(2):
        marked(opened)
        by_file(opened, pictures / "a.png")
        fresh(opened)
    assert_objects(opened, model, pictures / "a.png")


@pytest.mark.parametrize("name", ["broken.png", "empty.png", "notes.txt"])
@pytest.mark.parametrize("give", [by_drop, by_file])
def test_a_file_that_is_no_picture_is_told_and_the_next_one_is_shown(give, name, written, opened):
    _, model, pictures = written
    marked(opened)
    give(opened, pictures / name)
    opened.wait("document.getElementById('status').className === 'error'")
    assert opened.value(STATUS).startswith(f"{name} cannot be used: ")
    # What was there before is still there.
    assert opened.value("window.detections.old") is True
    give(opened, pictures / "b.png")
    fresh(opened)
    assert_objects(opened, model, pictures / "b.png")
    assert opened.value("document.getElementById('status').className") == ""


def test_what_is_dropped_and_no_file_is_told(opened):
    data = {
        "items": [{"mimeType": "text/plain", "data": "words"}],
        "files": [],
        "dragOperationsMask": 1,
    }
    for kind in ("dragEnter", "dragOver", "drop"):
        opened.command("Input.dispatchDragEvent", type=kind, x=200, y=200, data=data)
    assert "only files can be dropped" in opened.wait(f"{STATUS}.includes('dropped') && {STATUS}")


def test_of_pictures_that_come_too_fast_the_last_one_is_shown(written, opened):
    _, model, pictures = written
    # Without waiting for what the page makes of each.
    for name in ("a.png", "b.png", "a.png", "c.png"):
        by_drop(opened, pictures / name)
    wanted = model([pictures / "c.png"])[0].boxes[0].tolist()
    assert opened.wait(shows(wanted))
    assert_objects(opened, model, pictures / "c.png")


def test_a_picture_that_is_dropped_before_the_model_is_there_is_not_lost(written, window):
    folder, model, pictures = written
    with served(folder) as (address, _):
        # The page as it is before its script has come: then the script, and at once a picture.
        window.open(f"{address}/index.html?backend=wasm")
        window.drop(pictures / "b.png")
        assert window.wait("document.body.dataset.state") == "ready"
        wanted = model([pictures / "b.png"])[0].boxes[0].tolist()
        assert window.wait(shows(wanted))
        assert_objects(window, model, pictures / "b.png")


def test_the_slider_hides_objects_without_asking_the_network_again(written, opened):
    _, model, pictures = written
    marked(opened)
    by_drop(opened, pictures / "a.png")
    fresh(opened)
    scores = model([pictures / "a.png"])[0].scores
    source = cv2.imread(str(pictures / "a.png"))[..., ::-1].astype(int)
    marked(opened)
    drawn = []
    for threshold in (0.0, round(float(np.median(scores)), 2), 1.0):
        slide(opened, threshold)
        assert opened.value(VALUE) == f"{threshold:.2f}"
        # A score beside the threshold may lie on the other side by its last digits.
        sure = int((scores >= threshold + 2e-3).sum()), int((scores >= threshold - 2e-3).sum())
        count = int(opened.value(COUNT).split()[0])
        assert sure[0] <= count <= sure[1]
        drawn.append(int((canvas(opened) != source).any(axis=-1).sum()))
    assert drawn[0] > drawn[1] > drawn[2] == 0
    slide(opened, 0.0)
    assert opened.value(COUNT).startswith(f"{len(scores)} object")
    # The objects of before, which the network would have replaced.
    assert opened.value("window.detections.old") is True


# The picture with and without the mask of one object, as RGBA in base64; grey, so that a mask shows.
MASK = """(async () => {
    const { draw } = await import("./draw.mjs");
    const { width, height } = document.getElementById("canvas");
    const image = { width, height, data: new Uint8Array(4 * width * height).fill(100) };
    const object = window.detections[%d];
    return [object, { ...object, mask: null }].map((each) => {
        const canvas = new OffscreenCanvas(width, height);
        draw(canvas, image, [each], [], 0);
        const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
        return btoa(Array.from(data, (v) => String.fromCharCode(v)).join(""));
    });
})()"""


def test_masks_are_drawn_where_the_command_line_sees_them(written, opened):
    _, model, pictures = written
    wanted = model([pictures / "large.png"])[0]
    marked(opened)
    by_drop(opened, pictures / "large.png")
    fresh(opened)
    areas = wanted.image_masks.sum(axis=(1, 2))
    assert areas.max() > 500
    for index in np.argsort(-areas)[:5].tolist():
        with_mask, without = (
            np.frombuffer(base64.b64decode(data), np.uint8).reshape(*wanted.picture.shape[:2], 4)
            for data in opened.value(MASK % index)
        )
        painted = (with_mask != without).any(axis=-1)
        # Boxes and captions lie over masks.
        bare = (without[..., :3] == 100).all(axis=-1)
        mask = wanted.image_masks[index] & bare
        assert painted.sum() > 0
        # On an edge a cell of probability 0.5 may fall on either side.
        assert (painted & bare ^ mask).sum() <= 0.01 * mask.sum() + 2


@pytest.fixture(scope="module")
def filmed():
    """A window whose camera shows Chromium's moving pattern."""
    with browser(CAMERA) as opened:
        yield opened


def test_the_camera_is_looked_at_until_it_is_stopped(written, filmed):
    with served(written[0]) as (address, _):
        start(filmed, address)
        for _ in range(2):  # and can be started again
            marked(filmed)
            filmed.click("#camera")
            fresh(filmed)
            assert filmed.value(CAMERA_BUTTON) == "stop the camera"
            first = canvas(filmed)
            # One frame after the other; the pattern of this camera moves.
            for _ in range(2):
                marked(filmed)
                fresh(filmed)
            assert first.shape[0] >= 120 and (canvas(filmed) != first).any()
            filmed.click("#camera")
            assert filmed.value(CAMERA_BUTTON) == "camera"
        assert filmed.value("window.faults") == []


def test_a_picture_ends_the_camera_and_stays(written, filmed):
    folder, model, pictures = written
    with served(folder) as (address, _):
        start(filmed, address)
        marked(filmed)
        filmed.click("#camera")
        fresh(filmed)
        by_file(filmed, pictures / "a.png")
        wanted = model([pictures / "a.png"])[0].boxes[0].tolist()
        assert filmed.wait(shows(wanted))
        assert filmed.value(CAMERA_BUTTON) == "camera"
        marked(filmed)
        assert_objects(filmed, model, pictures / "a.png")
        assert filmed.value(
            "new Promise((done) => setTimeout(() => done(window.detections.old), 500))"
        )
        assert filmed.value("window.faults") == []


def test_a_machine_without_a_camera_is_told(opened):
    opened.click("#camera")
    assert opened.wait(f"{STATUS}.startsWith('no camera: ') && {STATUS}")
    assert opened.value(CAMERA_BUTTON) == "camera"
    assert not opened.value("document.getElementById('camera').disabled")
