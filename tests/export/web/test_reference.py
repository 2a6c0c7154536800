"""The check of a backend: what it sees in the reference picture, beside what the exporter saw."""

import json
from importlib import resources

import numpy as np
import pytest

from rcnn_jax.export.web import page
from rcnn_jax.export.web.page import write_web
from tests.browser.driver import served
from tests.export.web.pages import plain_graph


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
