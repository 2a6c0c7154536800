"""Engines of TensorRT for RTX: NVIDIA's own parser and builder, on a machine without a GPU."""

import importlib.util
import json
import re
import sys

import numpy as np
import onnx
import pytest
from onnx import helper

from rcnn_jax.checkpoints.bundle import read_bundle, write_bundle
from rcnn_jax.checkpoints.container import encrypt
from rcnn_jax.checkpoints.imported import import_checkpoint
from rcnn_jax.cli.main import converter, main
from rcnn_jax.errors import CheckpointError, ExportError, UsageError
from rcnn_jax.export.lowering.portable import to_portable
from rcnn_jax.export.precision.fp16 import to_fp16
from rcnn_jax.export.precision.placement import ModelView, place
from rcnn_jax.export.precision.scales import write_cache
from rcnn_jax.export.rtx import portable_graph
from rcnn_jax.reporter import SILENT
from rcnn_jax.runtime import tensorrt_rtx
from rcnn_jax.runtime.engine import open_engine, read_info, read_plan
from rcnn_jax.runtime.onnx_file import read_header
from rcnn_jax.runtime.tensorrt_rtx import targets_of
from tests.checkpoints import fake_checkpoints as fake
from tests.runtime.test_engine import device, driver, graph

__all__ = ["device", "driver", "graph"]  # fixtures

INSTALLED = importlib.util.find_spec("tensorrt_rtx_bindings") is not None
builds = pytest.mark.skipif(not INSTALLED, reason="the extra rcnn-jax[rtx] is not installed")


@pytest.fixture
def portable(graph, tmp_path):
    path = tmp_path / "portable.onnx"
    onnx.save(to_portable(onnx.load(graph)), path)
    return path


def build(path, engine, *flags):
    return converter([str(path), "-e", str(engine), "--rtx", *map(str, flags)])


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("sm89", ("sm89",)),
        ("sm80,sm86,sm89,sm120", ("sm80", "sm86", "sm89", "sm120")),
        ("8.9, SM_80,120", ("sm89", "sm80", "sm120")),
    ],
)
def test_generations_are_read_in_every_usual_spelling(text, targets):
    assert targets_of(text) == targets


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sm90", "sm90 is no generation that TensorRT for RTX builds for .H100 and H200"),
        ("", "nothing is no generation"),
        ("sm89,", "nothing is no generation"),
        ("ada", "ada is no generation.*sm89 .Ada: RTX 40, L4, L40."),
        ("sm89,8.9", "sm89 is named twice"),
    ],
)
def test_what_is_no_generation_is_told_with_those_there_are(text, message):
    with pytest.raises(UsageError, match=message):
        targets_of(text)


def test_a_missing_package_is_told_with_its_extra_before_anything_is_written(
    portable, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", None)
    assert build(portable, tmp_path / "a.engine", "sm89") == 2
    error = capsys.readouterr().err
    assert "needs the package 'tensorrt_rtx_bindings'" in error and "rcnn-jax[rtx]" in error
    assert not list(tmp_path.glob("a.engine*"))


@builds
def test_one_file_is_built_for_several_generations_and_described(portable, tmp_path, capsys):
    engine = tmp_path / "a.engine"
    assert build(portable, engine, "sm80,sm120", "-m", "2") == 0
    info = read_info(engine)
    assert (info.targets, info.gpu, info.batches) == (("sm80", "sm120"), "", (1, 2, 2))
    assert info.header.portable and info.tensorrt == tensorrt_rtx.library("x").__version__
    assert engine.stat().st_size > 1e6
    out = capsys.readouterr().out
    assert "for sm80, sm120, without a GPU" in out
    assert "has not run on a card" in out


@builds
def test_an_ordinary_graph_is_made_portable_and_compared_with_itself(graph, tmp_path, capsys):
    assert build(graph, tmp_path / "a.engine", "sm89", "-m", "2") == 0
    out = capsys.readouterr().out
    assert "standard operators take their place" in out and "images of noise differ by" in out
    assert read_info(tmp_path / "a.engine").header.portable


@builds
def test_gen_trt_engine_builds_one_too(graph, tmp_path, capsys):
    flags = ["-m", str(graph), "-r", str(tmp_path / "out"), "--rtx", "sm86", "--data_type", "fp16"]
    assert main(["faster_rcnn", "gen_trt_engine", *flags, "--max_workspace_size", "1"]) == 0
    info = read_info(tmp_path / "out" / "model.engine")
    assert (info.targets, info.precision) == (("sm86",), "fp16")
    assert "--max_workspace_size has no effect with --rtx" in capsys.readouterr().out


@builds
def test_turing_takes_fp16_and_is_refused_what_it_cannot_multiply(graph, tmp_path, capsys):
    engine = tmp_path / "a.engine"
    assert build(graph, engine, "sm75", "-m", "1") == 2
    error = capsys.readouterr().err
    assert "is fp32 and multiplies matrices in FP32" in error and "-t fp16" in error
    assert not list(tmp_path.glob("a.engine*"))
    assert build(graph, engine, "sm75", "-m", "1", "-t", "fp16") == 0
    assert read_info(engine).targets == ("sm75",)


@builds
def test_int8_is_built_from_an_fp32_graph_and_its_cache(portable, graph, tmp_path):
    scales = dict.fromkeys(place(ModelView(onnx.load(graph))).readers, 0.05)
    cache = tmp_path / "cal.bin"
    cache.write_text(write_cache(scales))
    for path in (graph, portable):  # one cache serves both flavours
        engine = tmp_path / "a.engine"
        assert build(path, engine, "sm89", "-t", "int8", "-c", cache, "-m", "1") == 0
        assert read_info(engine).precision == "int8"


@builds
def test_what_the_builder_refuses_is_told_in_its_words(portable, tmp_path, capsys):
    model = onnx.load(portable)
    last = model.graph.node[-1]
    given, last.input[0] = last.input[0], "odd"
    model.graph.node.insert(
        len(model.graph.node) - 1, helper.make_node("NonZero", ["scores_of_nothing"], ["unused"])
    )
    model.graph.node.insert(
        len(model.graph.node) - 2,
        helper.make_node("Identity", [given], ["scores_of_nothing"]),
    )
    model.graph.node.insert(
        len(model.graph.node) - 1, helper.make_node("Det", [given], ["odd"], name="the_node")
    )
    onnx.save(model, portable)
    assert build(portable, tmp_path / "a.engine", "sm89") == 1
    assert "TensorRT for RTX cannot read the graph" in capsys.readouterr().err
    assert not list(tmp_path.glob("a.engine*"))


def test_an_encrypted_graph_needs_its_key_and_a_bundle_is_no_graph(
    portable, boxes_files, tmp_path, capsys
):
    encrypted = tmp_path / "a.etlt"
    encrypted.write_bytes(encrypt(portable.read_bytes(), "a-key-of-the-test"))
    assert build(encrypted, tmp_path / "a.engine", "sm89", "-k", "another-key-of-it") == 2
    assert "a-key" not in capsys.readouterr().err
    assert converter([str(boxes_files.model), "-e", str(tmp_path / "a.engine")]) == 2
    assert "is a bundle" in (error := capsys.readouterr().err) and "export -e SPEC" in error


@builds
def test_a_bundle_is_exported_again_as_a_portable_graph(boxes_files, tmp_path, capsys):
    engine = tmp_path / "a.engine"
    assert build(boxes_files.model, engine, "sm89", "-m", "1") == 0
    out = capsys.readouterr().out
    assert "a.onnx first, with the spec inside it" in out
    assert re.search(r"built in \d+\.\d s, peak memory of this process \d\.\d GB", out)
    assert read_info(engine).header.portable
    operators = {node.op_type for node in onnx.load(tmp_path / "a.onnx").graph.node}
    assert not operators & {"NonMaxSuppression", "RoiAlign"}
    # what is there is not replaced without a word
    assert build(boxes_files.model, engine, "sm89", "-m", "1") == 2
    assert "a.onnx" in capsys.readouterr().err


@builds
def test_gen_trt_engine_takes_a_bundle_too_and_encrypts_its_graph(boxes_files, tmp_path):
    key = "a-key-of-the-test"
    bundle = tmp_path / "model.tlt"
    write_bundle(bundle, read_bundle(boxes_files.model), key)
    flags = ["-m", str(bundle), "-r", str(tmp_path / "out"), "-k", key, "--rtx", "sm75"]
    assert main(["faster_rcnn", "gen_trt_engine", *flags, "--data_type", "fp16"]) == 0
    assert read_info(tmp_path / "out" / "model.engine").precision == "fp16"
    assert (tmp_path / "out" / "model.etlt").is_file()
    assert not list((tmp_path / "out").glob("*.onnx"))


def test_adaptive_samples_of_a_graph_name_the_way_to_a_fixed_number(masks_files):
    model = onnx.load(masks_files.graph)
    header = read_header(model, "m.onnx")
    for node in model.graph.node:
        for each in node.attribute:
            if node.op_type == "RoiAlign" and each.name == "sampling_ratio":
                each.i = 0
    with pytest.raises(ExportError) as caught:
        portable_graph(model, model, header, "m.onnx", SILENT)
    assert str(caught.value).startswith("m.onnx: TensorRT for RTX has no RoiAlign")
    assert "weights import FILE --roi_sampling_ratio 2" in str(caught.value)


@builds
def test_adaptive_samples_of_a_bundle_are_refused_before_it_is_exported(tmp_path, capsys):
    fake.write_pickle(tmp_path / "d2.pkl", fake.detectron2(3, masks=False))
    write_bundle(tmp_path / "m.tlt", import_checkpoint(tmp_path / "d2.pkl"), None)
    assert build(tmp_path / "m.tlt", tmp_path / "a.engine", "sm89") == 2
    assert "weights import FILE --roi_sampling_ratio 2" in capsys.readouterr().err
    assert not list(tmp_path.glob("a.*"))


def test_dla_is_not_for_rtx(portable, tmp_path, capsys):
    assert build(portable, tmp_path / "a.engine", "sm89", "-u", "0") == 2
    assert "TensorRT for RTX knows no DLA" in capsys.readouterr().err


@builds
def test_an_engine_of_another_generation_is_told_where_it_is_opened(portable, tmp_path):
    engine = tmp_path / "a.engine"
    assert build(portable, engine, "sm80,sm120", "-m", "1") == 0
    info, version = read_info(engine), read_info(engine).tensorrt
    for gpu in ("NVIDIA A100 (8.0)", "NVIDIA GeForce RTX 5090 (12.0)"):
        assert read_plan(engine, info, version, gpu)
    with pytest.raises(CheckpointError, match=r"built for sm80, sm120, this machine has NVIDIA L4"):
        read_plan(engine, info, version, "NVIDIA L4 (8.9)")
    with pytest.raises(CheckpointError, match=r"built for TensorRT 1\.\d"):
        read_plan(engine, info, "9.9", "NVIDIA A100 (8.0)")
    assert open_engine(engine).header.portable


def test_a_description_with_other_targets_than_the_builder_writes_is_damaged(tmp_path, graph):
    from rcnn_jax.runtime.onnx_file import read_header

    header = read_header(onnx.load(graph), "x").to_json()
    fields = {
        "header": json.loads(json.dumps(header)),
        "precision": "fp32",
        "batches": [1, 1, 1],
        "tensorrt": "1.7",
        "gpu": "",
        "dla_core": None,
        "sha256": "0",
        "targets": ["../etc"],
    }
    (tmp_path / "a.engine.json").write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match="targets is"):
        read_info(tmp_path / "a.engine")


def test_fp16_graphs_have_no_product_in_float32(graph):
    from rcnn_jax.export.rtx import float_products

    model = onnx.load(graph)
    assert float_products(to_portable(model))
    assert float_products(to_portable(to_fp16(model))) == []
    assert np.all([each for each in float_products(model)])
