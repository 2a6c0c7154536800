"""Mask R-CNN on the command line: export, then the graph in `evaluate` and `inference`."""

import json

import jax
import numpy as np
import onnx
import pytest

from rcnn_jax.checkpoints.bundle import Bundle, write_bundle
from rcnn_jax.checkpoints.leaves import flatten
from rcnn_jax.checkpoints.state import model_header
from rcnn_jax.cli.main import main
from rcnn_jax.export.precision import lower as precision
from rcnn_jax.runtime.header import DETECTIONS, MASKS
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from tests.e2e.tiny_mask import write_tiny
from tests.export.tiny import lively_variables


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(root, spec, model, graph) of a model that nobody trained."""
    root = tmp_path_factory.mktemp("masks")
    spec = write_tiny(root)
    config = load_spec(spec, "mask_rcnn").config
    experiment = build_experiment(config, "mask_rcnn")
    variables = jax.tree.map(np.asarray, lively_variables(experiment, predictors=0.3))
    arrays = {k: v for name, tree in variables.items() for k, v in flatten(tree, name).items()}
    header = model_header(experiment)
    model = root / "model.tlt"
    write_bundle(model, Bundle("mask_rcnn", header, arrays), None)
    assert run("export", spec, model) == 0
    return root, spec, model, model.with_suffix(".onnx")


def run(task, spec, model, *flags):
    return main(["mask_rcnn", task, "-e", str(spec), "-m", str(model), *flags])


def test_the_check_compares_masks_too(exported):
    *_, graph = exported
    report = json.loads(graph.with_name("model.onnx.check.json").read_text())
    assert report["passed"] and report["parity"]["detections"] > 0
    assert 0 < report["parity"]["mask"] < 1e-3
    assert "segment" in report["stages"]


def test_evaluate_gives_the_numbers_of_the_model(exported):
    root, spec, model, graph = exported
    for path in (model, graph):
        assert run("evaluate", spec, path, "-r", str(root / "scores")) == 0
    folder = root / "scores" / "eval"
    ours, theirs = (json.loads((folder / n).read_text()) for n in ("model.json", "model.onnx.json"))
    assert theirs["metrics"] == pytest.approx(ours["metrics"], abs=1e-6)


def test_inference_finds_the_objects_of_the_model(exported):
    root, spec, model, graph = exported
    images = root / "data" / "images"
    for path in (model, graph):
        folder = root / path.suffix[1:]
        flags = ["-i", str(images), "-r", str(folder), "-t", "0.2", "--include_mask"]
        assert run("inference", spec, path, *flags) == 0
    ours = sorted((root / "tlt" / "labels").iterdir())
    theirs = sorted((root / "onnx" / "labels").iterdir())
    assert [path.name for path in ours] == [path.name for path in theirs]
    total = 0
    for a, b in zip(ours, theirs, strict=True):
        first, second = json.loads(a.read_text()), json.loads(b.read_text())
        total += len(first)
        assert [row["category_id"] for row in first] == [row["category_id"] for row in second]
        boxes = [[row["bbox"] for row in rows] for rows in (first, second)]
        np.testing.assert_allclose(*boxes, atol=0.02)
    assert total > 3


@pytest.mark.parametrize("data_type", ["fp16", "int8"])
def test_lower_precision_has_masks_and_runs(exported, monkeypatch, data_type):
    root, spec, model, _ = exported
    gate = precision.Gate(agreement=0.3, loss=1.0)  # random weights are no trained model
    monkeypatch.setitem(precision.GATES, data_type, gate)
    output = root / data_type / "model.onnx"
    output.parent.mkdir()
    cache = ["--cal_cache_file", str(output.parent / "cal.bin")]
    flags = ["--data_type", data_type, "--batches", "2", "--batch_size", "2", *cache]
    assert run("export", spec, model, "-o", str(output), *flags) == 0
    graph = onnx.load(output).graph
    assert [value.name for value in graph.output] == [DETECTIONS, MASKS]
    operators = {node.op_type for node in graph.node}
    assert ("QuantizeLinear" in operators) == (data_type == "int8")
    report = json.loads((output.parent / "model.onnx.check.json").read_text())
    assert report["passed"] and 0 < report["agreement"]["mask"] < 0.05
    assert run("evaluate", spec, output, "-r", str(root / data_type)) == 0
    scores = json.loads((root / data_type / "eval" / "model.onnx.json").read_text())["metrics"]
    assert all(np.isfinite(scores[name]) for name in ("AP", "mask_AP"))
