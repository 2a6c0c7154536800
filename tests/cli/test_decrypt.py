"""`decrypt` writes the content of an encrypted file, and writes over nothing."""

from argparse import Namespace

import pytest

from rcnn_jax.checkpoints.container import encrypt
from rcnn_jax.cli import decrypt
from rcnn_jax.errors import CheckpointError, UsageError

KEY = "open sesame"
CONTENT = b"a model of some kind" * 100


@pytest.fixture
def args(tmp_path, monkeypatch):
    monkeypatch.delenv("RCNN_JAX_KEY", raising=False)
    model = tmp_path / "model.etlt"
    model.write_bytes(encrypt(CONTENT, KEY))
    return Namespace(model=model, key=KEY, output_file=tmp_path / "model.onnx")


def test_the_content_is_written_whole(args):
    assert decrypt.run(args) == 0
    assert args.output_file.read_bytes() == CONTENT


def test_the_key_may_come_from_the_environment(args, monkeypatch):
    monkeypatch.setenv("RCNN_JAX_KEY", KEY)
    args.key = None
    assert decrypt.run(args) == 0


@pytest.mark.parametrize(
    ("key", "error", "text"),
    [
        (None, UsageError, "decrypt needs the key of .*: give -k KEY or set RCNN_JAX_KEY"),
        ("wrong", CheckpointError, "the key is wrong"),
    ],
)
def test_without_the_right_key_nothing_is_written(args, key, error, text):
    args.key = key
    with pytest.raises(error, match=text) as caught:
        decrypt.run(args)
    assert not args.output_file.exists() and KEY not in str(caught.value)


def test_a_file_that_is_there_is_left_alone(args):
    args.output_file.write_bytes(b"mine")
    with pytest.raises(UsageError, match="-o .*model.onnx: exists already"):
        decrypt.run(args)
    assert args.output_file.read_bytes() == b"mine"


def test_it_declares_what_it_reads_and_writes(args):
    known = decrypt.paths(args)
    assert [str(args.model)] == [str(path) for path in _paths(known.reads)]
    assert [str(args.output_file)] == [str(path) for path in _paths(known.writes)]


def _paths(entries):
    return [entry.path for entry in entries]
