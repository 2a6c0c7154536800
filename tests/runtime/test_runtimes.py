"""What runs an exported graph, chosen by name: one result, whatever it is."""

import importlib.util
import subprocess
import sys
import threading

import numpy as np
import pytest

import rcnn_jax
from rcnn_jax.cli import flag_groups
from rcnn_jax.cli.main import main
from rcnn_jax.errors import CheckpointError, MissingDependencyError, UsageError
from rcnn_jax.export.lowering.portable import to_portable
from rcnn_jax.export.verification.parity import Tolerance, compare_detections
from rcnn_jax.runtime import openvino, runtimes
from rcnn_jax.runtime.backend import predictor_of, preprocess
from rcnn_jax.runtime.runtimes import RUNTIMES, chosen, graph_runner
from tests.export import tiny

INSTALLED = importlib.util.find_spec("openvino") is not None
runs = pytest.mark.skipif(not INSTALLED, reason="the extra rcnn-jax[openvino] is not installed")
KINDS = ("faster_rcnn", "mask_rcnn")


def model_of(kind, form="ordinary"):
    model, header = tiny.default_graph(kind)
    return (to_portable(model) if form == "portable" else model).SerializeToString(), header


def predictors(kind, form="ordinary"):
    content, header = model_of(kind, form)
    names = ("onnxruntime", "openvino")
    return [predictor_of(graph_runner(content, "x", name), header, 1, None) for name in names]


def assert_same(wanted, detections):
    parity = compare_detections(wanted, detections)
    assert parity.unmatched == 0 and parity.within(Tolerance(mask=1e-3)), parity


def test_the_flag_offers_the_runtimes_there_are():
    assert flag_groups.RUNTIMES == RUNTIMES


@runs
@pytest.mark.parametrize("form", ["ordinary", "portable"])
@pytest.mark.parametrize("kind", KINDS)
def test_openvino_gives_the_detections_of_onnx_runtime(kind, form):
    one, other = predictors(kind, form)
    for count in (1, 3):
        images = tiny.images(count, seed=count)
        wanted = one(images)[0]
        assert np.asarray(wanted.valid).any()
        assert_same(wanted, other(images)[0])


@runs
def test_fifty_images_in_a_row_and_in_parallel_keep_their_own_results():
    one, other = predictors("faster_rcnn")
    images = [tiny.images(1, seed=seed) for seed in range(50)]
    wanted = [one(image)[0] for image in images]
    kept = [other(image)[0] for image in images]  # a buffer used again would change earlier ones
    for ours, theirs in zip(wanted, kept, strict=True):
        assert_same(ours, theirs)
    results = [None] * len(images)

    def work(start):
        for index in range(start, len(images), 4):
            results[index] = other(images[index])[0]

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ours, theirs in zip(wanted, results, strict=True):
        assert_same(ours, theirs)


@runs
def test_openvino_reports_to_nobody():
    """Its import would fork a process that sends an event to a host of its maker."""
    program = """
import importlib.abc, os, sys
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        assert name != "openvino_telemetry", "telemetry was imported"
sys.meta_path.insert(0, Finder())
def forked(*_):
    raise AssertionError("a process was forked")
os.fork = forked
from rcnn_jax.runtime.openvino import library
library("the test").Core()
assert "openvino_telemetry" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@runs
def test_openvino_is_asked_for_float32_by_name(monkeypatch):
    import openvino as package

    asked = []
    compile_model = package.Core.compile_model

    def listen(self, model, device, hints):
        asked.append(hints)
        compiled = compile_model(self, model, device, hints)
        assert compiled.get_property("INFERENCE_PRECISION_HINT") == package.Type.f32
        return compiled

    monkeypatch.setattr(package.Core, "compile_model", listen)
    content, header = model_of("faster_rcnn")
    run = openvino.openvino_runner(content, "x")
    assert asked[0]["INFERENCE_PRECISION_HINT"] == "f32"
    assert run(preprocess(tiny.images(1), header)).keys() == {"boxes", "scores", "classes", "valid"}


@runs
def test_bfloat16_is_computed_where_it_was_asked_for_and_refused_where_the_processor_has_none():
    content, header = model_of("faster_rcnn")
    images = preprocess(tiny.images(1), header)
    if not openvino.computes_in_bfloat16():
        with pytest.raises(CheckpointError, match="OpenVINO computes it in f32, not in bf16"):
            openvino.openvino_runner(content, "x", "bf16")
        return
    rounded = openvino.openvino_runner(content, "x", "bf16")(images)
    exact = openvino.openvino_runner(content, "x")(images)
    # what OpenVINO would do by itself here: boxes move by more than any other runtime's
    assert np.abs(rounded["scores"] - exact["scores"]).max() > 1e-4


def test_auto_is_the_fastest_that_is_installed(monkeypatch):
    monkeypatch.setattr(runtimes, "is_installed", lambda: True)
    assert chosen("auto") == "openvino" and chosen("onnxruntime") == "onnxruntime"
    monkeypatch.setattr(runtimes, "is_installed", lambda: False)
    monkeypatch.setattr(runtimes, "fastest_providers", lambda: runtimes.REFERENCE)
    assert chosen("auto") == "onnxruntime"


def test_a_missing_runtime_is_told_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(runtimes, "fastest_providers", lambda: runtimes.REFERENCE)
    with pytest.raises(MissingDependencyError, match=r"rcnn-jax\[openvino\]"):
        graph_runner(b"", "model.onnx", "openvino")


@pytest.mark.parametrize(
    ("runtime", "file", "text"),
    [
        ("openvino", "model", "a bundle runs in JAX; export it"),
        ("tensorrt", "graph", "TensorRT runs engines: rcnn-jax converter -e model.engine"),
    ],
)
def test_a_file_that_a_runtime_does_not_run_is_told(boxes_files, runtime, file, text, capsys):
    path = getattr(boxes_files, file)
    with pytest.raises(UsageError, match=text):
        rcnn_jax.load(path, runtime=runtime)
    flags = ["-e", str(boxes_files.spec), "-m", str(path), "--runtime", runtime]
    assert main(["faster_rcnn", "evaluate", *flags]) == 2
    assert text in capsys.readouterr().err


def test_a_runtime_of_another_name_is_told():
    with pytest.raises(UsageError, match="runtime 'cuda': expected one of auto, onnxruntime"):
        rcnn_jax.load("model.onnx", runtime="cuda")


@runs
def test_load_runs_a_graph_in_either(boxes_files):
    picture = tiny.images(1, canvas=(96, 96))[0]
    one, other = (
        rcnn_jax.load(boxes_files.graph, runtime=name)([picture])[0]
        for name in ("onnxruntime", "openvino")
    )
    np.testing.assert_allclose(one.boxes, other.boxes, atol=0.05)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-3)
