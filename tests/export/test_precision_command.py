"""`export --data_type` in process, on a real model with random weights."""

import json

import jax
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from rcnn_jax.checkpoints.bundle import Bundle, write_bundle
from rcnn_jax.checkpoints.container import decrypt, is_encrypted
from rcnn_jax.checkpoints.leaves import flatten
from rcnn_jax.checkpoints.state import model_header
from rcnn_jax.cli.main import main
from rcnn_jax.export.precision import lower as precision
from rcnn_jax.export.precision.scales import read_cache
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from tests.e2e.tiny import write_tiny
from tests.export.tiny import lively_variables

KEY = "a-secret-key-of-the-test"
ALL_PROPOSALS = (
    ("rpn_pre_nms_top_N: 64\n  rpn_nms_max_boxes: 16", "rpn_pre_nms_top_N: 73\n  rpn_nms_max_boxes: 72"),
    ("classifier_nms_max_boxes: 10", "classifier_nms_max_boxes: 40"),
    ("inference_config {", "inference_config {\n  rpn_nms_overlap_threshold: 0.95"),
)  # fmt: skip
"""No choice among proposals: random weights score them all alike, and rounding would choose."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(root, spec, model): an experiment and a model that nobody trained."""
    root = tmp_path_factory.mktemp("precision")
    spec = write_tiny(root, images=8)
    text = spec.read_text()
    for old, new in ALL_PROPOSALS:
        assert old in text
        text = text.replace(old, new)
    spec.write_text(text)
    config = load_spec(spec, "faster_rcnn").config
    experiment = build_experiment(config, "faster_rcnn")
    variables = jax.tree.map(np.asarray, lively_variables(experiment))
    arrays = {k: v for name, tree in variables.items() for k, v in flatten(tree, name).items()}
    model = root / "model.tlt"
    write_bundle(model, Bundle("faster_rcnn", model_header(experiment), arrays), KEY)
    return root, spec, model


def export(trained, output, *flags):
    _, spec, model = trained
    paths = ["-e", str(spec), "-m", str(model), "-o", str(output), "-k", KEY]
    cache = ["--cal_cache_file", str(output.parent / "cal.bin"), "--batches", "2"]
    return main(["faster_rcnn", "export", *paths, *cache, "--batch_size", "4", *flags])


def ops(path):
    return [node.op_type for node in onnx.load(path).graph.node]


def test_int8_is_written_with_its_scales_the_graph_they_name_and_its_report(
    trained, tmp_path, monkeypatch, capsys
):
    gate = precision.Gate(agreement=0.7, loss=0.02)  # random weights are no trained model
    monkeypatch.setitem(precision.GATES, "int8", gate)
    output, scales = tmp_path / "model.onnx", tmp_path / "scales.json"
    flags = ["--data_type", "int8", "--cal_json_file", str(scales), "--eval-images", "3"]
    assert export(trained, output, *flags, "--cal_method", "max") == 0
    assert "QuantizeLinear" in ops(output) and "QuantizeLinear" not in ops(
        tmp_path / "model.fp32.onnx"
    )
    names = {tensor.name for tensor in onnx.load(output).graph.initializer}
    assert {name for name in names if name.endswith("/corrected_bias")}
    cache = read_cache((tmp_path / "cal.bin").read_text())
    largest = json.loads(scales.read_text())["tensor_scales"]
    assert largest == {name: pytest.approx(127 * scale) for name, scale in cache.items()}
    tensors = {
        n for node in onnx.load(tmp_path / "model.fp32.onnx").graph.node for n in node.output
    }
    assert set(cache) <= tensors | {"input_image"}
    report = json.loads((tmp_path / "model.onnx.check.json").read_text())
    assert report["passed"] and report["data_type"] == "int8"
    assert report["calibration"] == "calibrated by max"
    assert report["agreement"]["share"] >= 0.7 and report["agreement"]["images"] == 8
    assert report["operators"]["QuantizeLinear"] == ops(output).count("QuantizeLinear")
    assert (
        set(report["accuracy"]["model"]) == set(report["accuracy"]["graph"]) == {"mAP@0.50", "mAP"}
    )
    table = (tmp_path / "model.onnx.check.txt").read_text()
    assert "most sensitive layers" in table and "3 validation images" in table
    for path in tmp_path.iterdir():
        assert KEY.encode() not in path.read_bytes(), path

    before, again = (tmp_path / "cal.bin").read_bytes(), tmp_path / "again.onnx"
    capsys.readouterr()
    assert export(trained, again, "--data_type", "int8") == 0
    assert (
        "cal.bin exists: its scales are used and nothing is calibrated" in capsys.readouterr().out
    )
    assert (tmp_path / "cal.bin").read_bytes() == before
    assert onnx.load(again).graph == onnx.load(output).graph, "the same scales, the same graph"


def test_layers_are_kept_in_float_round_by_round_and_a_failed_gate_leaves_no_model(
    trained, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(precision.GATES, "int8", precision.Gate(agreement=0.9999, loss=0.02))
    assert export(trained, tmp_path / "model.onnx", "--data_type", "int8") == 1
    told = capsys.readouterr()
    assert "was not written, because the check failed: int8: detections agree to" in told.err
    assert "--accept-loss writes it all the same" in told.err
    rounds = [line for line in told.out.splitlines() if "trying again with" in line]
    assert len(rounds) == len(precision.KEPT_FRACTIONS) - 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model.onnx.check.json",
        "model.onnx.check.txt",
    ]
    report = json.loads((tmp_path / "model.onnx.check.json").read_text())
    worst = list(report["sensitivity"]["layers"])
    assert report["kept"] == worst[: len(report["kept"])], "the most sensitive come first"
    assert len(report["kept"]) == (len(worst) + 1) // 2
    text = (tmp_path / "model.onnx.check.txt").read_text()
    assert f"kept in float: {len(report['kept'])} of {len(worst)}" in text and "PROBLEM" in text


def test_a_loss_that_is_accepted_is_written_with_a_warning_and_kept_in_the_report(
    trained, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(precision.GATES, "int8", precision.Gate(agreement=0.9999, loss=0.02))
    monkeypatch.setattr(precision, "KEPT_FRACTIONS", (0.0,))
    output = tmp_path / "model.onnx"
    assert export(trained, output, "--data_type", "int8", "--accept-loss") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "warning: int8: detections agree to" in told
    assert "written all the same, because --accept-loss says so" in told
    assert "QuantizeLinear" in ops(output) and (tmp_path / "cal.bin").exists()
    report = json.loads((tmp_path / "model.onnx.check.json").read_text())
    assert not report["passed"] and report["problems"] == []
    assert report["accepted"][0].startswith("int8: detections agree to")
    assert "ACCEPTED: int8" in (tmp_path / "model.onnx.check.txt").read_text()


def test_fp16_is_typed_in_the_graph_and_an_etlt_is_encrypted(trained, tmp_path, capsys):
    output = tmp_path / "model.etlt"
    assert export(trained, output, "--data_type", "fp16", "--static_batch_size", "2") == 0
    data = output.read_bytes()
    assert is_encrypted(data)
    model = onnx.load_from_string(decrypt(data, KEY, "model.etlt"))
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    assert TensorProto.FLOAT16 in kinds
    ends = (*model.graph.input, *model.graph.output)
    assert TensorProto.FLOAT16 not in {value.type.tensor_type.elem_type for value in ends}
    report = json.loads((tmp_path / "model.etlt.check.json").read_text())
    assert report["data_type"] == "fp16" and report["agreement"]["share"] > 0.97
    assert not (tmp_path / "cal.bin").exists() and not (tmp_path / "model.fp32.etlt").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--batches", "0"], "--batches 0: expected 1 or more"),
        (["--eval-images", "-1"], "--eval-images -1: expected 0 or more"),
        (["--data_type", "int8", "--cal_method", "kl"], "invalid choice: 'kl'"),
    ],
)
def test_wrong_numbers_are_said_at_once(trained, tmp_path, capsys, flags, message):
    assert export(trained, tmp_path / "model.onnx", *flags) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_fp32_graph_of_an_older_export_is_not_overwritten(trained, tmp_path, capsys):
    (tmp_path / "model.fp32.onnx").write_bytes(b"old")
    assert export(trained, tmp_path / "model.onnx", "--data_type", "int8") == 2
    assert "model.fp32.onnx: exists already" in capsys.readouterr().err
