"""The table in four forms: numbers, what was not measured, and why."""

import csv
import io
import json
import math

from rcnn_jax.benchmark.entry import Entry, Row
from rcnn_jax.benchmark.tables import Table, write_tables

TABLE = Table(
    model="best.tlt",
    metric="mAP",
    images=7,
    rounds=5,
    canvas=(96, 128),
    versions=("JAX 0.10, cpu",),
    rows=(
        Row(
            entry=Entry("openvino", "bf16", "portable"),
            metrics={"mAP": 0.61234, "mAP@0.50": math.nan},
            seconds=0.01234,
            size=1_234_567,
            device="CPU",
            computed="bfloat16, asked for",
        ),
        Row(
            entry=Entry("webgpu", "fp32", "ordinary"),
            metrics={"mAP": -1.0},
            seconds=0.5,
            size=1,
            device="GPU (NVIDIA L4)",
            computed="float32",
        ),
        Row(entry=Entry("tensorrt", "fp32"), reason="needs a | card, [red]really"),
    ),
)


def test_numbers_are_percent_milliseconds_and_megabytes():
    cells = dict(zip(TABLE.headings(), TABLE.cells(TABLE.rows[0]), strict=True))
    assert cells == {
        "runtime": "openvino",
        "precision": "bf16",
        "graph": "portable",
        "computes in": "bfloat16, asked for",
        "mAP (%)": "61.23",
        "ms": "12.3",
        "MB": "1.23",
        "remark": "",
    }


def test_a_metric_without_objects_and_a_row_that_did_not_run_have_no_number():
    assert (
        TABLE.cells(TABLE.rows[1])[4] == "-" and TABLE.cells(TABLE.rows[1])[-1] == "GPU (NVIDIA L4)"
    )
    assert TABLE.cells(TABLE.rows[2])[3:] == ["-", "-", "-", "-", "needs a | card, [red]really"]


def test_all_forms_hold_all_rows_and_their_reasons(tmp_path):
    paths = write_tables(tmp_path, TABLE)
    assert [path.name for path in paths] == ["benchmark.json", "benchmark.csv", "benchmark.md"]
    content = json.loads(paths[0].read_text())
    # JSON has no NaN: strict readers refuse the file
    assert json.dumps(content, allow_nan=False)
    assert content["rows"][0]["metrics"] == {"mAP": 0.61234, "mAP@0.50": None}
    assert content["rows"][2]["milliseconds"] is None and content["rows"][2]["bytes"] is None
    assert content["machine"]["cores"] >= 1
    lines = list(csv.reader(io.StringIO(paths[1].read_text())))
    assert lines[3][-1] == "needs a | card, [red]really" and len({len(line) for line in lines}) == 1
    text = paths[2].read_text()
    assert "needs a \\| card" in text
    assert "mAP on 7 validation images" in text and "the least of 5 rounds" in text


def test_a_terminal_shows_reasons_below_the_table():
    assert TABLE.remarks() == [
        "webgpu fp32, ordinary graph: GPU (NVIDIA L4)",
        "tensorrt fp32: needs a | card, [red]really",
    ]
    assert TABLE.console().row_count == 2
