"""Rows of the table: which there are, which cannot be, and how those that did not run are told."""

from rcnn_jax.benchmark.entry import (
    FORMS,
    ROW_PRECISIONS,
    ROW_RUNTIMES,
    Entry,
    Row,
    entries,
    impossible,
    merged,
)
from rcnn_jax.cli import benchmark as flags
from rcnn_jax.runtime.runtimes import RUNTIMES


def test_the_flags_offer_the_rows_there_are():
    assert (flags.RUNTIMES, flags.PRECISIONS, flags.FORMS) == (ROW_RUNTIMES, ROW_PRECISIONS, FORMS)
    assert set(ROW_RUNTIMES) == (set(RUNTIMES) - {"auto"}) | {"jax"}


def test_jax_has_one_row_a_precision_and_the_others_one_a_graph():
    rows = entries(("jax", "openvino"), ("fp32", "int8"), FORMS)
    assert rows == [
        Entry("jax", "fp32"),
        Entry("jax", "int8"),
        Entry("openvino", "fp32", "ordinary"),
        Entry("openvino", "fp32", "portable"),
        Entry("openvino", "int8", "ordinary"),
        Entry("openvino", "int8", "portable"),
    ]


def test_bfloat16_is_an_fp32_graph():
    assert Entry("openvino", "bf16", "ordinary").graph_precision == "fp32"
    assert Entry("openvino", "int8", "ordinary").graph_precision == "int8"


def test_what_a_runtime_never_computes_is_known():
    assert "no bfloat16" in impossible(Entry("onnxruntime", "bf16", "ordinary"))
    assert "as it was trained" in impossible(Entry("jax", "int8"))
    assert not impossible(Entry("jax", "bf16")) and not impossible(
        Entry("openvino", "bf16", "portable")
    )


def test_rows_of_one_runtime_that_share_a_reason_are_one():
    absent = [
        Row(entry=each, reason="not here") for each in entries(("webgpu",), ROW_PRECISIONS, FORMS)
    ]
    ran = Row(entry=Entry("jax", "fp32"), metrics={"mAP": 0.5}, seconds=1.0)
    other = Row(entry=Entry("tensorrt", "fp32", "ordinary"), reason="not here")
    rows = merged([ran, *absent, other])
    assert [str(row.entry) for row in rows] == [
        "jax fp32",
        "webgpu fp32, bf16, fp16, int8",
        "tensorrt fp32, ordinary graph",
    ]


def test_rows_that_ran_are_never_one():
    ran = [Row(entry=each) for each in entries(("openvino",), ("fp32",), FORMS)]
    assert merged(ran) == ran
