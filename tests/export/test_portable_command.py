"""`export --portable` as a command: the same self-check, and a file that says what it is."""

import json

import onnx
import pytest

from rcnn_jax.cli.main import main
from rcnn_jax.export.lowering.portable import is_portable
from rcnn_jax.runtime.onnx_file import read_header


def export(files, output, *flags):
    paths = ["-e", files.spec, "-m", files.model, "-o", output]
    return main([files.kind, "export", *map(str, paths), *map(str, flags)])


def test_a_portable_graph_passes_the_check_against_jax(boxes_files, tmp_path):
    output = tmp_path / "model.onnx"
    assert export(boxes_files, output, "--portable", "--portable-forms", "loop,grid") == 0
    model = onnx.load(output)
    assert is_portable(model)
    assert set(read_header(model, "x").portable.values()) == {"loop", "grid"}
    report = json.loads((tmp_path / "model.onnx.check.json").read_text())
    assert report["passed"] and report["parity"]["detections"] > 0
    assert report["stages"] and "classify.logits" in report["stages"]
    assert {"Loop", "GridSample"} <= report["operators"].keys()
    assert not {"RoiAlign", "NonMaxSuppression"} & report["operators"].keys()


def test_int8_has_portable_graphs_for_both_of_its_files(boxes_files, tmp_path):
    output = tmp_path / "model.onnx"
    flags = ["--data_type", "int8", "--batches", "1", "--batch_size", "2", "--accept-loss"]
    flags += ["--cal_cache_file", tmp_path / "cal.bin", "--static_batch_size", "2"]
    assert export(boxes_files, output, "--portable", *flags) == 0
    model, single = onnx.load(output), onnx.load(tmp_path / "model.fp32.onnx")
    assert is_portable(model) and is_portable(single)
    assert "QuantizeLinear" in {node.op_type for node in model.graph.node}
    assert read_header(model, "x").portable == read_header(single, "x").portable


@pytest.mark.parametrize(
    ("forms", "text"),
    [("matrix", "found 'matrix'"), ("loop,select", "found two forms of one operator")],
)
def test_a_form_that_is_none_is_told_before_anything_is_loaded(
    boxes_files, tmp_path, forms, text, capsys
):
    output = tmp_path / "model.onnx"
    assert export(boxes_files, output, "--portable", "--portable-forms", forms) == 2
    error = capsys.readouterr().err
    assert f"--portable-forms {forms}: expected loop or select" in error and text in error
    assert not list(tmp_path.iterdir())
