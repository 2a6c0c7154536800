"""Files from anybody: damaged, encrypted with another key, of other programs, or made to do harm."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import rcnn_jax
from rcnn_jax.checkpoints.container import encrypt
from rcnn_jax.cli.main import converter, main
from rcnn_jax.errors import CheckpointError
from rcnn_jax.runtime.onnx_file import parse_onnx, read_onnx

KEY = "the key of this test"


@pytest.fixture
def etlt(boxes_files, tmp_path):
    path = tmp_path / "model.etlt"
    path.write_bytes(encrypt(boxes_files.graph.read_bytes(), KEY))
    return path


def says(path, key=KEY):
    with pytest.raises(CheckpointError) as caught:
        read_onnx(path, key)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and KEY not in message
    return message


def flipped(data, offset):
    return data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :]


def test_an_untouched_file_is_read(etlt, boxes_files):
    assert read_onnx(etlt, KEY) == read_onnx(boxes_files.graph, None)


def test_every_damage_to_an_etlt_has_its_own_message(etlt, tmp_path):
    whole = etlt.read_bytes()
    messages = [says(etlt, None), says(etlt, "wrong")]
    for damaged in (whole[:-1], whole[:40], flipped(whole, 20), flipped(whole, len(whole) // 2)):
        etlt.write_bytes(damaged)
        messages.append(says(etlt))
    for wanted, message in zip(
        (
            "is encrypted and no key was given",
            "the key is wrong",
            "is truncated",
            "is truncated",
            "its header fails its check",
            "chunk 1 of 1 fails its check",
        ),
        messages,
        strict=True,
    ):
        assert wanted in message, message
    etlt.write_bytes(b"")
    assert "it is empty" in says(etlt)
    etlt.write_bytes(b"\x00\x00\x00\x00" + np.random.default_rng(0).bytes(500))
    assert "exported model of the original toolkit, encrypted" in says(etlt)


@pytest.mark.parametrize("fraction", [0.001, 0.3, 0.9, 0.999])
def test_a_graph_that_was_cut_off_is_told_from_what_is_none(boxes_files, tmp_path, fraction):
    whole = boxes_files.graph.read_bytes()
    path = tmp_path / "model.onnx"
    path.write_bytes(whole[: int(len(whole) * fraction)])
    assert "is an ONNX model that was cut off or damaged" in says(path)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n" + b"0" * 50, b'{"a": 1}', b"\0" * 99])
def test_what_is_no_graph_at_all_is_said(tmp_path, data):
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    assert "is no ONNX model" in says(path)


def test_a_header_that_was_changed_is_said(boxes_files, tmp_path):
    model = onnx.load(boxes_files.graph)
    fields = json.loads(model.metadata_props[0].value)
    path = tmp_path / "model.onnx"
    for changed in (
        "{",
        "[]",
        "7",
        json.dumps({**fields, "kind": "yolo"}),
        json.dumps({**fields, "mean": [1.0]}),
        json.dumps({**fields, "std": [1.0, 0.0, 1.0]}),
        json.dumps({**fields, "channel_order": "xyz"}),
        json.dumps({**fields, "batch": -1}),
        json.dumps({**fields, "geometry": {**fields["geometry"], "mode": "twist"}}),
        json.dumps({**fields, "geometry": {**fields["geometry"], "height": "96"}}),
        json.dumps({**fields, "geometry": {"mode": "stretch", "depth": 3}}),
        json.dumps({name: value for name, value in fields.items() if name != "std"}),
    ):
        model.metadata_props[0].value = changed
        onnx.save(model, path)
        with pytest.raises(CheckpointError, match="its header was changed or is of another ver"):
            rcnn_jax.load(path)


def test_a_header_of_another_graph_is_said(boxes_files, tmp_path):
    model = onnx.load(boxes_files.graph)
    fields = json.loads(model.metadata_props[0].value)
    path = tmp_path / "model.onnx"
    for changed in (
        {"kind": "mask_rcnn", "category_ids": [1, 2, 3]},
        {"contract": "plain"},
        {"geometry": {**fields["geometry"], "height": 128}},
        {"channel_order": "l", "mean": [1.0], "std": [1.0]},
    ):
        model.metadata_props[0].value = json.dumps({**fields, **changed})
        onnx.save(model, path)
        with pytest.raises(CheckpointError, match="its header is of another graph"):
            rcnn_jax.load(path)


def stolen(name="stolen"):
    """A tensor whose content would be read from a file that is none of the model's business."""
    tensor = TensorProto(name=name, data_type=TensorProto.UINT8, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")
    return tensor


def hidden_in(holder):
    """A model that hides the tensor in one of the places a file may have it."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    node = helper.make_node("Relu", ["x"], ["y"])
    graph = helper.make_graph([node], "g", [x], [x])
    constant = helper.make_node("Constant", [], ["c"], value=stolen())
    if holder == "initializer":
        graph.initializer.append(stolen())
    elif holder == "sparse initializer":
        graph.sparse_initializer.add(values=stolen(), indices=TensorProto())
    elif holder == "attribute":
        graph.node.append(constant)
    elif holder == "subgraph":
        inner = helper.make_graph([constant], "inner", [], [])
        graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=inner))
    model = helper.make_model(graph)
    if holder == "function":
        model.functions.append(
            helper.make_function("d", "f", [], ["c"], [constant], model.opset_import)
        )
    return model


@pytest.mark.parametrize(
    "holder", ["initializer", "sparse initializer", "attribute", "subgraph", "function"]
)
def test_a_graph_that_names_other_files_is_refused_unread(holder):
    data = hidden_in(holder).SerializeToString()
    with pytest.raises(CheckpointError) as caught:
        parse_onnx(data, "evil.onnx")
    message = str(caught.value)
    assert "the tensor 'stolen' lies in another file ('../../../../etc/passwd')" in message
    assert "which is not opened" in message


def test_no_command_opens_such_a_graph(boxes_files, tmp_path, capsys):
    model = onnx.load(boxes_files.graph)
    model.graph.initializer.append(stolen())
    evil = tmp_path / "evil.onnx"
    evil.write_bytes(model.SerializeToString())
    spec = ["-e", str(boxes_files.spec), "-m", str(evil)]
    images = ["-i", str(boxes_files.images), "-r", str(tmp_path / "out")]
    for command in (
        lambda: main(["faster_rcnn", "evaluate", *spec]),
        lambda: main(["faster_rcnn", "inference", *spec, *images]),
        lambda: converter([str(evil), "-e", str(tmp_path / "a.engine")]),
    ):
        assert command() == 2
        message = capsys.readouterr().err
        assert "lies in another file" in message and "Traceback" not in message
    with pytest.raises(CheckpointError, match="lies in another file"):
        rcnn_jax.load(evil)


def test_a_graph_of_another_program_is_named_as_such(tmp_path):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    model = helper.make_model(
        helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [x])
    )
    path = tmp_path / "other.onnx"
    onnx.save(model, path)
    with pytest.raises(CheckpointError, match="is no model that rcnn-jax exported: it has no head"):
        rcnn_jax.load(path)


def test_decrypt_gives_the_graph_back_and_nothing_else(etlt, boxes_files, tmp_path, capsys):
    plain = tmp_path / "new" / "plain.onnx"
    assert main(["decrypt", "-m", str(etlt), "-o", str(plain), "-k", "wrong"]) == 2
    assert not plain.parent.exists()
    assert main(["decrypt", "-m", str(etlt), "-o", str(plain), "-k", KEY]) == 0
    assert plain.read_bytes() == boxes_files.graph.read_bytes()
    assert [path.name for path in plain.parent.iterdir()] == ["plain.onnx"]
    captured = capsys.readouterr()
    assert KEY not in captured.out + captured.err
    assert (
        main(["decrypt", "-m", str(boxes_files.graph), "-o", str(tmp_path / "b"), "-k", KEY]) == 2
    )
    assert "is not an encrypted file of this project" in capsys.readouterr().err
