"""The library as a user calls it: a file of any form, pictures in, detections out."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict

import rcnn_jax
from rcnn_jax.checkpoints.bundle import read_bundle, write_bundle
from rcnn_jax.checkpoints.container import encrypt
from rcnn_jax.errors import CheckpointError, DataError, SpecError, UsageError
from rcnn_jax.runtime import graph
from rcnn_jax.spec.load import load_spec
from tests.e2e.tiny import write_tiny

SIZES = ((75, 120), (60, 64), (96, 96))
KEY = "the key"


@pytest.fixture(params=["boxes_files", "masks_files"])
def files(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(5)
    coarse = [rng.integers(0, 256, (h // 12 + 1, w // 12 + 1, 3), np.uint8) for h, w in SIZES]
    return [cv2.resize(c, (w, h)) for c, (h, w) in zip(coarse, SIZES, strict=True)]


def test_every_form_of_a_model_finds_the_same(files, pictures, tmp_path):
    etlt = tmp_path / "model.etlt"
    etlt.write_bytes(encrypt(files.graph.read_bytes(), KEY))
    models = [
        rcnn_jax.load(files.model),
        rcnn_jax.load(str(files.graph)),
        rcnn_jax.load(etlt, key=KEY),
    ]
    wanted = models[0](pictures)
    assert len(wanted) == 3 and sum(len(one.scores) for one in wanted) > 10
    for model in models:
        assert (model.kind, model.class_names) == (files.kind, files.experiment.task.class_names)
        assert model.category_ids == files.experiment.category_ids
        for ours, theirs, (height, width) in zip(wanted, model(pictures), SIZES, strict=True):
            np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=2e-3)
            np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-5)
            np.testing.assert_array_equal(ours.classes, theirs.classes)
            assert theirs.valid.all() and (theirs.boxes >= 0).all()
            assert (theirs.boxes <= [height, width, height, width]).all()
            if files.kind == "mask_rcnn":
                np.testing.assert_allclose(ours.masks, theirs.masks, atol=1e-4)


def test_an_encrypted_bundle_is_loaded_with_its_key_only(boxes_files, tmp_path):
    encrypted = tmp_path / "model.tlt"
    write_bundle(encrypted, read_bundle(boxes_files.model), KEY)
    assert rcnn_jax.load(encrypted, key=KEY).class_names == ("disc", "rod", "star")
    with pytest.raises(CheckpointError, match="the key is wrong"):
        rcnn_jax.load(encrypted, key="another")
    with pytest.raises(CheckpointError, match="is encrypted and no key was given"):
        rcnn_jax.load(encrypted)


def test_files_arrays_and_batches_are_read_alike(boxes_files, pictures, tmp_path):
    model = rcnn_jax.load(boxes_files.graph)
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), pictures[0][..., ::-1])
    data = path.read_bytes()
    together = model([path, str(path), pictures[0], data])
    alone = [model(one) for one in (path, str(path), pictures[0], data)]
    for one in together + alone:
        np.testing.assert_allclose(one.boxes, together[0].boxes, atol=1e-3)
    stack = np.stack([pictures[2]] * 2)
    assert len(model(stack)) == 2 and model([]) == []


def test_drawing_changes_a_copy(files, pictures):
    model = rcnn_jax.load(files.graph)
    (detections,) = model(pictures[:1])
    before = pictures[0].copy()
    named = rcnn_jax.draw(pictures[0], detections, model.class_names)
    encoded = cv2.imencode(".png", pictures[0][..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(named, rcnn_jax.draw(encoded, detections, model.class_names))
    numbered = rcnn_jax.draw(pictures[0], detections)
    assert named.shape == before.shape and (named != before).any() and (named != numbered).any()
    np.testing.assert_array_equal(pictures[0], before)
    nothing = detections.replace(
        boxes=detections.boxes[:0],
        scores=detections.scores[:0],
        classes=detections.classes[:0],
        masks=None,
    )
    np.testing.assert_array_equal(rcnn_jax.draw(before, nothing), before)


def test_what_is_no_picture_or_no_model_is_one_message(boxes_files, pictures, tmp_path):
    model = rcnn_jax.load(boxes_files.graph)
    with pytest.raises(DataError, match="float32") as caught:
        model([pictures[0].astype(np.float32), pictures[0], None, tmp_path / "nobody.png"])
    first, second, third = str(caught.value).splitlines()
    assert first.startswith("picture 0: ") and second.startswith("picture 2: found None")
    assert third.startswith("picture 3: ") and "nobody.png" in third
    with pytest.raises(DataError, match="found None instead of pictures"):
        model(None)
    for name in ("a.tlt", "a.onnx", "a.etlt"):
        with pytest.raises(CheckpointError, match=f"{name}: no such"):
            rcnn_jax.load(tmp_path / name)
    for nothing in (None, "", 3):
        with pytest.raises(CheckpointError, match="expected the path of a model file"):
            rcnn_jax.load(nothing)
    with pytest.raises(AttributeError, match="no attribute 'teach'"):
        _ = rcnn_jax.teach


def test_training_and_evaluation_are_functions_that_print_nothing(tmp_path, capfd):
    spec = write_tiny(tmp_path, images=4, epochs=1)
    out = tmp_path / "out"
    result = rcnn_jax.api.train(spec, out, key=KEY, devices=1)
    assert result.finished and result.step == 2
    assert (result.best_step, result.best_metric) == (2, result.metrics["mAP"])
    assert result.models == (out / "tiny.epoch1.tlt", out / "best.tlt")
    assert not (out / "train.lock").exists() and not (out / "status.json").exists()
    assert rcnn_jax.api.train(str(spec), str(out), key=KEY, devices=1) == result
    config = load_spec(spec).config
    metrics = rcnn_jax.api.evaluate(out / "best.tlt", config, key=KEY, workdir=tmp_path / "report")
    assert metrics == pytest.approx(result.metrics, nan_ok=True)
    assert (tmp_path / "report" / "eval" / "best.json").is_file()
    assert rcnn_jax.api.evaluate(out / "best.tlt", key=KEY) == pytest.approx(metrics, nan_ok=True)
    assert capfd.readouterr().out == ""
    with pytest.raises(CheckpointError, match="other settings"):
        rcnn_jax.api.train(spec, out, key=KEY, devices=1, use_amp=True)


def test_what_cannot_be_trained_or_evaluated_is_one_message(boxes_files, tmp_path):
    with pytest.raises(SpecError, match=r"nobody\.txt"):
        rcnn_jax.api.train(tmp_path / "nobody.txt", tmp_path)
    with pytest.raises(SpecError, match="is not that of a spec"):
        rcnn_jax.api.train(ConfigDict({"a": 1}), tmp_path)
    with pytest.raises(UsageError, match=r"model\.onnx: holds no spec"):
        rcnn_jax.api.evaluate(boxes_files.graph)


def test_evaluation_runs_a_graph_in_the_runtime_that_is_asked_for(
    boxes_files, tmp_path, monkeypatch
):
    opened = []

    def spy(model, name, runtime):
        opened.append(runtime)
        return graph_runner(model, name, runtime)

    graph_runner = graph.graph_runner
    monkeypatch.setattr(graph, "graph_runner", spy)
    for runtime in ("onnxruntime", "auto"):
        metrics = rcnn_jax.api.evaluate(
            boxes_files.graph, boxes_files.spec, workdir=tmp_path, runtime=runtime
        )
        assert "mAP" in metrics
    # Once for every device of the tests.
    assert [*dict.fromkeys(opened)] == ["onnxruntime", "auto"]
    with pytest.raises(UsageError, match="TensorRT runs engines"):
        rcnn_jax.api.evaluate(boxes_files.graph, boxes_files.spec, runtime="tensorrt")
    with pytest.raises(UsageError, match="a bundle runs in JAX"):
        rcnn_jax.api.evaluate(boxes_files.model, runtime="onnxruntime")
    with pytest.raises(UsageError, match="runtime 'onnx': expected one of auto, onnxruntime"):
        rcnn_jax.api.evaluate(boxes_files.model, runtime="onnx")


def test_importing_the_package_imports_no_jax():
    code = "import rcnn_jax, sys; assert rcnn_jax.__version__; print('jax' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
