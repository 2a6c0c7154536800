"""Choice of the model file: the flag, else the spec, and never a mixture of both."""

import json
from pathlib import Path

import pytest

from rcnn_jax.checkpoints.container import encrypt
from rcnn_jax.cli.backends import ModelFile, choose_model, named_model, open_chosen
from rcnn_jax.errors import CheckpointError, UsageError
from rcnn_jax.spec.load import parse_spec
from tests.spec.samples import FASTER, MASK


def config(extra="", text=FASTER, kind="faster_rcnn"):
    return parse_spec(text + extra, "a.txt", kind).config


INFERENCE = 'inference_config { model: "MODEL" }'


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.tlt"
    path.write_bytes(b"x")
    return path


def test_the_flag_comes_before_the_spec(model):
    assert choose_model(model, config(INFERENCE), "faster_rcnn", "inference") == ModelFile(model)


def test_without_the_flag_the_spec_names_the_model(model):
    spec = config(INFERENCE.replace("MODEL", str(model)))
    assert choose_model(None, spec, "faster_rcnn", "inference").path == model
    assert named_model(None, spec, "faster_rcnn", "evaluate") is None


def test_a_model_that_is_not_there_is_named_with_its_field(tmp_path):
    with pytest.raises(UsageError, match="inference_config.model MODEL: expected a file, found"):
        choose_model(None, config(INFERENCE), "faster_rcnn", "inference")
    with pytest.raises(UsageError, match="-m gone.tlt: expected a file, found nothing"):
        choose_model(Path("gone.tlt"), config(), "faster_rcnn", "inference")


def test_without_any_model_the_message_names_the_field_where_there_is_one():
    with pytest.raises(UsageError, match="no model: give -m FILE or .* in the spec"):
        choose_model(None, config(), "faster_rcnn", "evaluate")
    with pytest.raises(UsageError, match="no model: give -m FILE$"):
        choose_model(None, config(text=MASK, kind="mask_rcnn"), "mask_rcnn", "evaluate")


def test_a_header_is_for_graphs_that_lost_their_own(model, tmp_path):
    with pytest.raises(UsageError, match="--header a.onnx: is for .* model.tlt says itself what"):
        open_chosen(ModelFile(model, header=Path("a.onnx")), None)


def test_a_file_is_opened_with_its_key(tmp_path):
    path = tmp_path / "model.etlt"
    path.write_bytes(encrypt(json.dumps({}).encode(), "the key"))
    with pytest.raises(CheckpointError, match="model.etlt: is encrypted and no key was given"):
        open_chosen(ModelFile(path), None)
