import copy
import json

import pytest

from benchmarks import report
from benchmarks.results import Aim, Benchmark, Reference, SideResult, Table


def side(name, *seconds, compile_seconds=None):
    return SideResult(
        name=name,
        seconds=seconds,
        cpu_seconds=seconds,
        calls=4,
        compile_seconds=compile_seconds,
        temp_bytes=3 * 2**20,
        host_peak_bytes=500 * 2**20,
        device_peak_bytes=None,
    )


@pytest.fixture
def content():
    one = Benchmark(
        name="nms 2 x 9 -> 3",
        parameters={"boxes": 9},
        sides=(
            side("rcnn_jax", 0.002, 0.003, 0.004, compile_seconds=1.25),
            side("p", 0.006, 0.009, 0.012),
        ),
        reference=Reference(low=0.001, high=0.0025, source="table"),
        aims=(Aim(what="nms: time", value=3.0, relation="at most", limit=2.5, unit="ms"),),
        notes=("a | b",),
    )
    state = {"load_1min": 0.5, "core_mhz": [2000.0], "gpus": []}
    suite = {
        "suite": "ops",
        "status": "ok",
        "reason": "",
        "device": {"platform": "cpu", "kind": "cpu", "count": 1},
        "benchmarks": [one.to_json()],
        "skipped": [],
        "errors": [],
        "seconds": 12.0,
        "host_peak_bytes": 700 * 2**20,
        "found_before": state,
        "found_after": state,
    }
    return {
        "schema": 1,
        "date": "2026-01-02",
        "options": {"size": "quick", "bf16": False},
        "environment": {
            "revision": "abc",
            "python": "3.12.1",
            "system": "Linux",
            "processor": "CPU",
            "cores": 2,
            "memory_bytes": 2**34,
            "versions": {"jax": "0.11.2"},
            "variables": {},
        },
        "suites": [suite],
    }


def tables(page):
    """Returns the rows of every table of a page, as lists of cells."""
    blocks, rows = [], []
    for line in [*page.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            blocks.append(rows)
            rows = []
    return blocks


def test_table_shows_times_ratio_and_reference(content):
    _, _, (head, _, ours, peer) = tables(report.markdown(content, {}))
    mine = dict(zip(head, ours, strict=True))
    assert mine["benchmark"] == "nms 2 x 9 -> 3"
    assert (mine["median ms"], mine["min ms"], mine["compile s"]) == ("3.00", "2.00", "1.2")
    assert (mine["temp MiB"], mine["peak MiB"], mine["rounds"]) == ("3", "500", "3 x 4")
    assert mine["reference ms"] == "1.00-2.50"
    assert dict(zip(head, peer, strict=True))["ratio"] == "3.00"


def test_columns_without_any_value_are_left_out(content):
    _, _, (head, *_) = tables(report.markdown(content, {}))
    assert "img/s" not in head and "device peak MiB" not in head


def test_rows_of_a_table_have_equally_many_cells(content):
    for rows in tables(report.markdown(content, {})):
        assert len({len(row) for row in rows}) == 1


def test_table_of_a_benchmark_without_times_is_shown(content, tmp_path):
    table = Table(title="Time per stage", head=("stage", "ms"), rows=(("FPN", "3"),))
    one = Benchmark(name="profile", table=table)
    assert one.ratios == {}
    content["suites"][0]["benchmarks"] = [one.to_json()]
    page = report.markdown(content, {})
    assert "### Time per stage" in page
    assert tables(page)[-1][0] == ["stage", "ms"]
    assert tables(page)[-1][2] == ["FPN", "3"]
    assert [path.name for path in report.write(content, tmp_path / "out.json")] == ["out.md"]


def test_missed_aim_is_shown(content):
    _, aims, _ = tables(report.markdown(content, {}))
    assert aims[2] == ["nms: time", "3.00 ms", "at most 2.50 ms", "**missed**"]


def test_what_could_not_be_measured_says_why(content):
    suite = {
        **copy.deepcopy(content["suites"][0]),
        "suite": "data",
        "status": "failed",
        "reason": "failed: b",
        "benchmarks": [],
        "skipped": [{"name": "a", "reason": "the package 'grain' is not installed"}],
        "errors": [{"name": "b", "error": "ValueError: no"}],
    }
    content["suites"].append(suite)
    page = report.markdown(content, {})
    assert "Failed: failed: b." in page
    assert "- `a` was left out: the package 'grain' is not installed" in page
    assert "- `b` failed: ValueError: no" in page


def test_page_and_plot_lie_beside_the_json(content, tmp_path):
    path = tmp_path / "out.json"
    page, plot = report.write(content, path)
    assert (page.name, plot.name) == ("out.md", "out-ops.png")
    assert "![ops](out-ops.png)" in page.read_text()
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_page_can_be_made_anew_from_the_json(content, tmp_path, capsys):
    path = tmp_path / "out.json"
    path.write_text(json.dumps(content))
    report.write(content, path)
    first = (tmp_path / "out.md").read_text()
    (tmp_path / "out.md").unlink()
    assert report.main([str(path)]) == 0
    assert (tmp_path / "out.md").read_text() == first
    assert "out.md" in capsys.readouterr().out
