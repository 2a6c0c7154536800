"""The table of engines: its cases, what is done again, what a row says."""

import importlib.util
import json

import pytest

from benchmarks import engines
from benchmarks.engines import Case, cases, has_failed, is_done, line, main, table

SETTINGS = {"targets": "sm89", "canvas": "128x192"}
GOOD = {
    **SETTINGS,
    "forms": ["gather", "select"],
    "problems": [],
    "ordinary": {"detections": 9, "unmatched": 0, "box": 3e-5, "score": 2e-7},
    "prepared_seconds": 3.0,
    "seconds": 6.6,
    "bytes": 38_000_000,
    "memory": 700_000_000,
}


def row(name, **more):
    (case,) = [case for case in cases() if case.name == name]
    return {"kind": case.kind, "arch": case.arch, "graph": case.graph, **more} | {
        "precision": case.precision
    }


def test_every_backbone_has_two_graphs_in_three_precisions_and_fp16_comes_first():
    every = cases()
    assert len(every) == len(set(every)) == len({c.name for c in every}) == (22 + 5) * 2 * 3
    assert [case.precision for case in every[:6]] == ["fp16", "fp32", "int8"] * 2
    assert {case.graph for case in every[:81]} == {"free"}
    assert all("/" not in case.name and ":" not in case.name for case in every)


def test_a_row_is_done_again_for_other_settings_and_a_failed_one_when_asked_for():
    assert is_done(GOOD, SETTINGS, retry=True)
    assert not is_done(None, SETTINGS, retry=False)
    assert not is_done({**GOOD, "targets": "sm80"}, SETTINGS, retry=False)
    for failed in ({**SETTINGS, "error": "build: refused"}, {**GOOD, "problems": ["differs"]}):
        assert has_failed(failed) and is_done(failed, SETTINGS, retry=False)
        assert not is_done(failed, SETTINGS, retry=True)


def test_the_table_shows_costs_differences_and_reasons(tmp_path):
    jax = {"detections": 9, "unmatched": 1, "box": 4e-4, "score": 1e-6}
    rows = [
        row("faster_rcnn-resnet_18-free-fp16", **GOOD),
        row("faster_rcnn-resnet_18-free-fp32", **GOOD, jax=jax),
        row("mask_rcnn-resnet_50-fixed-int8", **SETTINGS, error="build: no | such layer"),
    ]
    for each in rows:
        name = Case(each["kind"], each["arch"], each["graph"], each["precision"]).name
        (tmp_path / f"{name}.json").write_text(json.dumps(each))
    cost = "7 s, 38 MB, 0.7 GB"
    assert table(tmp_path).splitlines()[2:] == [
        f"| `resnet:18` | free | {cost} | {cost} | - | 4e-04, 1e-06; 1 of 9 without a partner "
        "| 3e-05, 2e-07 |",
        "| Mask R-CNN `resnet:50` | fixed | - | - | failed: build: no / such layer | - | - |",
    ]
    assert "FAILED build: no | such layer" in line(rows[2])
    assert cost in line(rows[0])


def test_a_builder_that_fails_is_a_reason(tmp_path, boxes_files):
    import onnx

    if importlib.util.find_spec("tensorrt_rtx_bindings") is None:
        pytest.skip("the extra rcnn-jax[rtx] is not installed")
    # RoiAlign and NonMaxSuppression are in it: TensorRT for RTX refuses the ordinary graph.
    built = engines.built_apart(onnx.load(boxes_files.graph), "sm89", 1)
    assert built["error"].startswith("build: TensorRT for RTX cannot read the graph")


@pytest.mark.peers
def test_a_case_is_built_once_and_found_again(tmp_path, capsys):
    pytest.importorskip("tensorrt_rtx_bindings")
    flags = ["--out", str(tmp_path), "--only", "faster_rcnn-resnet_10-free-fp32", "--rtx", "sm89"]
    assert main(flags) == 0
    content = json.loads((tmp_path / "faster_rcnn-resnet_10-free-fp32.json").read_text())
    assert content["jax"]["detections"] and content["jax"]["box"] < 0.05
    assert content["bytes"] > 1e6 and 1e8 < content["memory"] < 8e9
    capsys.readouterr()
    assert main(flags) == 0
    assert "1 cases, 0 to do" in capsys.readouterr().out
    assert main([*flags, "--table"]) == 0
    assert "| `resnet:10` | free |" in capsys.readouterr().out
