"""Model repositories of Triton, read back by Triton's own protobuf where `tritonclient` brings it."""

import functools
import importlib.util
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf import text_format

from rcnn_jax.cli.main import main
from rcnn_jax.errors import UsageError
from rcnn_jax.export.triton import (
    check_repository,
    config,
    labels,
    repository,
    write_repository,
)
from rcnn_jax.runtime.onnx_runtime import open_session
from tests.export import tiny

TYPES = {"tensor(float)": "TYPE_FP32", "tensor(int32)": "TYPE_INT32", "tensor(bool)": "TYPE_BOOL"}


@pytest.fixture(scope="module")
def protobuf():
    """Triton's `model_config.proto`, without the gRPC that its package imports."""
    package = importlib.util.find_spec("tritonclient")
    if package is None or package.origin is None:
        pytest.skip("tritonclient is not installed")
    path = Path(package.origin).parent / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("triton_model_config", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def graph_of(kind, contract, batch):
    return tiny.graph(getattr(tiny, kind)(), contract=contract, batch=batch)


@pytest.mark.parametrize(
    ("kind", "contract", "batch"),
    [
        ("faster_rcnn", "tao", None),
        ("faster_rcnn", "tao", 2),
        ("mask_rcnn", "tao", None),
        ("mask_rcnn", "plain", None),
    ],
)
def test_the_config_is_tritons_and_describes_the_graph(kind, contract, batch, protobuf):
    model, header = graph_of(kind, contract, batch)
    parsed = text_format.Parse(config("car:1", model, header, 8), protobuf.ModelConfig())
    assert parsed.name == "car:1" and parsed.backend == "onnxruntime"
    assert parsed.max_batch_size == (0 if batch else 8)
    assert parsed.HasField("dynamic_batching") == (batch is None)
    session = open_session(model.SerializeToString(), "test")
    names = protobuf.DataType.Name
    for ours, theirs in (
        (session.get_inputs(), parsed.input),
        (session.get_outputs(), parsed.output),
    ):
        assert [value.name for value in ours] == [value.name for value in theirs]
        for one, other in zip(ours, theirs, strict=True):
            shape = one.shape if batch else one.shape[1:]
            assert list(other.dims) == shape and names(other.data_type) == TYPES[one.type]
    named = [output.name for output in parsed.output if output.label_filename == "labels.txt"]
    wanted = "classes" if contract == "plain" else parsed.output[0].name
    assert named == [wanted]
    mean = parsed.parameters["mean"].string_value
    assert np.allclose(json.loads(mean), header.mean)
    assert parsed.parameters["channel_order"].string_value == header.channel_order


def test_labels_are_in_the_order_of_the_ids():
    for kind, contract, first in (
        ("faster_rcnn", "tao", "disc"),
        ("mask_rcnn", "tao", "background"),  # its rows count classes from 1
        ("mask_rcnn", "plain", "disc"),
    ):
        names = labels(graph_of(kind, contract, None)[1])
        assert names[0] == first and names[-3:] == list(tiny.NAMES)


def test_names_that_need_escapes_arrive_whole(protobuf):
    model, header = graph_of("faster_rcnn", "tao", None)
    for name in ('a "b"\\c', "größer", "line\nend"):
        parsed = text_format.Parse(config(name, model, header, 1), protobuf.ModelConfig())
        assert parsed.name == name


def test_the_repository_has_the_layout_that_triton_loads(tmp_path):
    model, header = graph_of("faster_rcnn", "tao", None)
    written = write_repository(tmp_path / "repo", Path("out/my model.onnx"), model, header, 4)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in written) == [
        "repo/my_model/1/model.onnx",
        "repo/my_model/config.pbtxt",
        "repo/my_model/labels.txt",
    ]
    onnx.checker.check_model(onnx.load(written[-1]))


def test_what_is_there_and_what_is_encrypted_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"Triton reads plain graphs, and -o a\.etlt is encrypted"):
        check_repository(tmp_path, Path("a.etlt"))
    there = repository(tmp_path, Path("a.onnx"))
    there.config.parent.mkdir()
    there.config.touch()
    with pytest.raises(UsageError, match=r"a/config\.pbtxt exists already; remove it or name"):
        check_repository(tmp_path, Path("a.onnx"))


def test_export_writes_the_repository(boxes_files, tmp_path, capsys, protobuf):
    flags = ["-e", boxes_files.spec, "-m", boxes_files.model, "-o", tmp_path / "m.onnx"]
    flags += ["--triton", tmp_path / "repo", "--portable", "--max_batch_size", "3"]
    assert main(["faster_rcnn", "export", *map(str, flags)]) == 0
    assert f"Triton: {tmp_path / 'repo' / 'm' / 'config.pbtxt'}" in capsys.readouterr().out
    served = tmp_path / "repo" / "m" / "1" / "model.onnx"
    assert served.read_bytes() == (tmp_path / "m.onnx").read_bytes()
    text = (tmp_path / "repo" / "m" / "config.pbtxt").read_text()
    assert text_format.Parse(text, protobuf.ModelConfig()).max_batch_size == 3
    (tmp_path / "m.onnx").unlink()
    assert main(["faster_rcnn", "export", *map(str, flags)]) == 2
    assert "model.onnx exists already" in capsys.readouterr().err
