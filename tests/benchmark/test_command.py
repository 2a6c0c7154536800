"""`rcnn-jax benchmark` on files of tiny detectors: rows, resuming, exported models, keys, refusals."""

import json
import sys

import pytest

from rcnn_jax.checkpoints.bundle import read_bundle, write_bundle
from rcnn_jax.cli.main import main
from rcnn_jax.runtime.providers import PLUGINS
from tests.conftest import HAS_OPENVINO


def run(*words, code=0):
    assert main(["benchmark", *map(str, words)]) == code


def rows_of(root):
    content = json.loads((root / "benchmark.json").read_text())
    return {(row["runtime"], row["precision"], row["form"]): row for row in content["rows"]}


def test_every_row_is_measured_or_says_why_and_nothing_is_made_twice(
    boxes_files, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, PLUGINS["webgpu"].module, None)
    root = tmp_path / "b"
    words = [boxes_files.model, "-e", boxes_files.spec, "-d", root, "--rounds", "2", "--limit", "2"]
    words += ["--precisions", "fp32,int8", "--runtimes", "jax,onnxruntime,openvino,webgpu"]
    run(*words)
    rows = rows_of(root)
    expected = [("jax", "fp32", ""), ("webgpu", "fp32, int8", ""), ("jax", "int8", "")]
    runtimes = ["onnxruntime", *["openvino"] * HAS_OPENVINO]
    graphs = [
        (r, p, f) for r in runtimes for p in ("fp32", "int8") for f in ("ordinary", "portable")
    ]
    assert {*expected, *graphs} <= rows.keys()
    for key in [("jax", "fp32", ""), *graphs]:
        assert not rows[key]["reason"] and rows[key]["milliseconds"] > 0 and rows[key]["bytes"] > 0
    assert "rcnn-jax[webgpu]" in rows["webgpu", "fp32, int8", ""]["reason"]
    # one truth in fp32, whatever runs it
    for key in graphs:
        if key[1] == "fp32":
            assert rows[key]["metrics"] == pytest.approx(
                rows["jax", "fp32", ""]["metrics"], nan_ok=True
            )
    if HAS_OPENVINO:
        assert rows["openvino", "fp32", "ordinary"]["computes_in"] == "float32, asked for"
    kept = {p: p.stat().st_mtime_ns for p in root.glob("*/*") if p.is_file()}
    assert {"fp32.onnx", "fp32.portable.onnx", "int8.onnx", "int8.portable.onnx"} <= {
        path.name for path in kept
    }
    capsys.readouterr()
    run(*words)
    assert kept == {p: p.stat().st_mtime_ns for p in root.glob("*/*") if p.is_file()}
    output = capsys.readouterr().out
    assert "exporting" not in output and "table: " in output
    # other images are measured again, from the same graphs
    run(*words[:-4], "--limit", "3", "--runtimes", "onnxruntime", "--precisions", "fp32")
    after = {p: p.stat().st_mtime_ns for p in root.glob("*/*") if p.is_file()}
    changed = {p.name for p in kept if kept[p] != after[p]}
    assert changed == {"onnxruntime-fp32-ordinary.json", "onnxruntime-fp32-portable.json"}


def test_a_folder_of_another_model_is_refused(boxes_files, tmp_path, capsys):
    root = tmp_path / "b"
    root.mkdir()
    (root / "benchmark.state.json").write_text('{"benchmark": "0123"}')
    run(boxes_files.model, "-e", boxes_files.spec, "-d", root, code=2)
    assert "holds a benchmark of another model or spec: name another folder with -d" in (
        capsys.readouterr().err
    )
    (root / "benchmark.state.json").write_text("[]")
    run(boxes_files.model, "-e", boxes_files.spec, "-d", root, code=2)
    assert "is not the state of a benchmark" in capsys.readouterr().err


def test_an_exported_model_is_measured_as_it_is(masks_files, tmp_path):
    root = tmp_path / "b"
    words = [masks_files.graph, "-e", masks_files.spec, "-d", root, "--rounds", "1", "--limit", "1"]
    run(*words, "--runtimes", "jax,onnxruntime", "--precisions", "fp32,fp16")
    rows = rows_of(root)
    assert "an exported file; JAX runs the .tlt" in rows["jax", "fp32", ""]["reason"]
    assert rows["onnxruntime", "fp32", "ordinary"]["milliseconds"] > 0
    assert rows["onnxruntime", "fp32", "portable"]["milliseconds"] > 0
    assert "mask_AP" in rows["onnxruntime", "fp32", "portable"]["metrics"]
    assert "is fp32; give the .tlt" in rows["onnxruntime", "fp16", ""]["reason"]
    assert [path.name for path in root.glob("graphs/*")] == ["fp32.portable.onnx"]


def test_graphs_of_an_encrypted_model_are_encrypted(boxes_files, tmp_path, capsys):
    key, model, root = "squeamish-ossifrage", tmp_path / "secret.tlt", tmp_path / "b"
    write_bundle(model, read_bundle(boxes_files.model, None), key)
    words = [model, "-e", boxes_files.spec, "-d", root, "--rounds", "1", "--limit", "1"]
    run(*words, "-k", key, "--runtimes", "onnxruntime", "--precisions", "fp32")
    assert {"fp32.etlt", "fp32.portable.etlt"} <= {path.name for path in root.glob("graphs/*")}
    assert not list(root.glob("graphs/*.onnx"))
    written = [path.read_bytes() for path in root.rglob("*") if path.is_file()]
    assert not any(key.encode() in content for content in written)
    assert not any(b"RoiAlign" in path.read_bytes() for path in root.glob("graphs/*.etlt"))
    assert key not in capsys.readouterr().out
    run(*words, "-k", "wrong", code=2)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--runtimes", "cuda"], "--runtimes cuda: expected one or more of jax, onnxruntime"),
        (["--runtimes", ","], "--runtimes ',': expected one or more of"),
        (["--precisions", "fp8"], "--precisions fp8: expected one or more of fp32, bf16"),
        (["--graphs", "small"], "--graphs small: expected one or more of ordinary, portable"),
        (["--limit", "0"], "--limit 0: expected 1 or more"),
        (["--rounds", "-3"], "--rounds -3: expected 1 or more"),
        (["-e", "none.txt"], "none.txt"),
    ],
)
def test_wrong_flags_are_one_message_and_write_nothing(boxes_files, tmp_path, capsys, flags, words):
    given = [boxes_files.model, "-e", boxes_files.spec, *flags, "-d", tmp_path / "out"]
    run(*given, code=2)
    error = capsys.readouterr().err
    assert words in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_a_spec_of_the_other_detector_is_refused(boxes_files, masks_files, tmp_path, capsys):
    run(boxes_files.model, "-e", masks_files.spec, "-d", tmp_path / "o", code=2)
    error = capsys.readouterr().err
    assert "Traceback" not in error and "faster_rcnn" in error and "mask_rcnn" in error


def test_a_model_that_is_missing_and_an_exported_one_without_a_spec_are_told(
    boxes_files, tmp_path, capsys
):
    run("-d", tmp_path / "o", code=2)
    assert "give the MODEL that is compared, or --list" in capsys.readouterr().err
    run(tmp_path / "none.tlt", "-d", tmp_path / "o", code=2)
    assert "none.tlt" in capsys.readouterr().err
    run(boxes_files.graph, "-d", tmp_path / "o", code=2)
    assert "holds no spec; give it with -e FILE" in capsys.readouterr().err


def test_the_list_says_what_runs_here_and_what_is_missing(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, PLUGINS["trt-rtx"].module, None)
    run("--list", "--runtimes", "onnxruntime,trt-rtx")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["onnxruntime", "runs", "here"]
    assert lines[1].startswith("trt-rtx ") and "pip install 'rcnn-jax[trt-rtx]'" in lines[1]
