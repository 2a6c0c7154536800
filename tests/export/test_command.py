"""The way of a user, in process: a model file, `export`, and the graph in `inference`."""

import json

import jax
import numpy as np
import onnx
import pytest

from rcnn_jax.checkpoints.bundle import Bundle, write_bundle
from rcnn_jax.checkpoints.container import is_encrypted
from rcnn_jax.checkpoints.leaves import flatten
from rcnn_jax.checkpoints.state import model_header
from rcnn_jax.cli.main import main
from rcnn_jax.export.verification import check, tensorrt_gate
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from tests.e2e.tiny import write_tiny
from tests.export.tiny import lively_variables

KEY = "a-secret-key-of-the-test"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(root, spec, model): an experiment and a model that nobody trained."""
    root = tmp_path_factory.mktemp("export")
    spec = write_tiny(root, images=3)
    config = load_spec(spec, "faster_rcnn").config
    experiment = build_experiment(config, "faster_rcnn")
    variables = jax.tree.map(np.asarray, lively_variables(experiment, predictors=0.3))
    arrays = {k: v for name, tree in variables.items() for k, v in flatten(tree, name).items()}
    header = model_header(experiment)
    model = root / "model.tlt"
    write_bundle(model, Bundle("faster_rcnn", header, arrays), KEY)
    return root, spec, model


@pytest.fixture(scope="module")
def exported(trained):
    _, spec, model = trained
    graph = model.with_suffix(".onnx")
    assert run("export", spec, model, "-k", KEY, "-o", str(graph)) == 0
    return graph


def run(task, spec, model, *flags):
    return main(["faster_rcnn", task, "-e", str(spec), "-m", str(model), *flags])


def test_export_writes_a_valid_graph_and_its_report(exported):
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == 17 and model.ir_version == 8
    report = json.loads(exported.with_name("model.onnx.check.json").read_text())
    assert report["passed"] and report["problems"] == []
    assert report["images"] == "validation images"
    assert report["parity"]["unmatched"] == 0 and report["parity"]["detections"] > 0
    assert set(report["stages"]) >= {"extract[4]", "rpn.objectness[4]", "classify.logits"}
    table = exported.with_name("model.onnx.check.txt").read_text()
    assert "rpn.objectness[4]" in table and "without a partner" in table


def test_the_key_reaches_no_exported_file(exported):
    for path in exported.parent.glob("model.onnx*"):
        assert KEY.encode() not in path.read_bytes(), path


def labels(folder):
    return [
        [line.split() for line in path.read_text().splitlines()]
        for path in sorted((folder / "labels").iterdir())
    ]


def test_inference_with_the_graph_writes_what_the_model_writes(trained, exported):
    root, spec, model = trained
    by_suffix = {}
    for path in (model, exported):
        assert run("inference", spec, path, "-k", KEY) == 0
        by_suffix[path.suffix] = labels(root / "found")
    assert sum(map(len, by_suffix[".tlt"])) > 3
    for ours, theirs in zip(by_suffix[".tlt"], by_suffix[".onnx"], strict=True):
        assert [row[0] for row in ours] == [row[0] for row in theirs]
        numbers = [np.asarray([row[1:] for row in rows], float) for rows in (ours, theirs)]
        np.testing.assert_allclose(*numbers, atol=0.02)


def test_evaluate_with_the_graph_prints_the_table_without_recall_of_proposals(
    trained, exported, capsys
):
    root, spec, model = trained
    tables = {}
    for path in (model, exported):
        assert run("evaluate", spec, path, "-k", KEY, "-r", str(root / "scores")) == 0
        tables[path.suffix] = capsys.readouterr().out
    assert "RPN_recall" in tables[".tlt"] and "RPN_recall" not in tables[".onnx"]
    last = [text.split("mAP@0.5")[1].split("\n")[0] for text in tables.values()]
    assert last[0] == last[1]
    reports = sorted(path.name for path in (root / "scores" / "eval").glob("*.json"))
    assert reports == ["model.json", "model.onnx.json"]


def test_an_etlt_is_encrypted_and_runs(trained, tmp_path, capsys):
    _, spec, model = trained
    output = tmp_path / "model.etlt"
    assert run("export", spec, model, "-k", KEY, "-o", str(output), "--static_batch_size", "1") == 0
    assert is_encrypted(output.read_bytes())
    assert run("inference", spec, output, "-k", KEY) == 0
    assert run("inference", spec, output, "-k", "wrong") == 2
    assert "the key is wrong" in capsys.readouterr().err


def test_the_outputs_take_the_names_they_are_given(trained, tmp_path):
    _, spec, model = trained
    output = tmp_path / "named.onnx"
    flags = ["-o", str(output), "--output_names", "nms_out,nms_out_1", "--gen_ds_config"]
    assert run("export", spec, model, "-k", KEY, *flags) == 0
    outputs = onnx.load(output).graph.output
    assert [value.name for value in outputs] == ["nms_out", "nms_out_1"]
    config = next(tmp_path.rglob("nvinfer_config.txt")).read_text()
    assert "output-blob-names=nms_out;nms_out_1\n" in config
    assert run("inference", spec, output, "-k", KEY) == 0


def test_an_existing_file_is_not_overwritten(trained, exported, capsys):
    _, spec, model = trained
    assert run("export", spec, model, "-k", KEY, "-o", str(exported)) == 2
    assert "model.onnx: exists already" in capsys.readouterr().err


def test_a_failed_check_leaves_no_model_and_exit_code_1(trained, tmp_path, monkeypatch, capsys):
    _, spec, model = trained
    honest = check.predictor

    def wrong(session, header):
        predict = honest(session, header)
        return lambda images: (shifted(predict(images)[0]), None)

    def shifted(detections):
        return detections.replace(boxes=detections.boxes + np.float32(1.0))

    monkeypatch.setattr(check, "predictor", wrong)
    output = tmp_path / "model.onnx"
    assert run("export", spec, model, "-k", KEY, "-o", str(output)) == 1
    assert "was not written, because the check failed: detections differ" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model.onnx.check.json",
        "model.onnx.check.txt",
    ]
    assert not json.loads((tmp_path / "model.onnx.check.json").read_text())["passed"]


def test_a_graph_tensorrt_refuses_is_not_written(trained, tmp_path, monkeypatch, capsys):
    _, spec, model = trained
    monkeypatch.setattr(tensorrt_gate, "OPERATORS", tensorrt_gate.OPERATORS - {"RoiAlign"})
    output = tmp_path / "model.onnx"
    assert run("export", spec, model, "-k", KEY, "-o", str(output)) == 1
    assert "TensorRT: RoiAlign" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max_batch_size", "0"], "expected 1 <= --min_batch_size <= --opt_batch_size <= --max"),
        (["-o", "model.uff"], "expected a name ending in .onnx or .etlt"),
        (
            ["--output_names", "a"],
            "--output_names a: expected two names, such as nms_out,nms_out_1",
        ),
        (["--output_names", "a,b", "--contract", "plain"], "only the outputs NMS and NMS_1"),
    ],
)
def test_what_this_version_does_not_do_is_said_at_once(trained, capsys, flags, message):
    _, spec, model = trained
    assert run("export", spec, model, "-k", KEY, *flags) == 2
    assert message in capsys.readouterr().err


def test_a_graph_of_another_spec_is_refused(trained, exported, tmp_path, capsys):
    _, spec, _ = trained
    other = tmp_path / "spec.txt"
    other.write_text(
        spec.read_text().replace("{ height: 96 width: 96 }", "{ height: 96 width: 128 }")
    )
    assert run("evaluate", other, exported) == 2
    assert "was exported with another input size" in capsys.readouterr().err


def test_a_file_that_is_no_graph_is_one_message(trained, tmp_path, capsys):
    _, spec, _ = trained
    fake = tmp_path / "fake.onnx"
    fake.write_bytes(b"not a graph")
    assert run("evaluate", spec, fake) == 2
    message = capsys.readouterr().err
    assert "fake.onnx: is no ONNX model" in message and "Traceback" not in message


def test_a_graph_of_another_program_is_refused(trained, exported, tmp_path, capsys):
    _, spec, _ = trained
    model = onnx.load(exported)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    assert run("evaluate", spec, tmp_path / "foreign.onnx") == 2
    assert "is no model that rcnn-jax exported" in capsys.readouterr().err
