"""Meaning of flags: keys, files that exist, and what is near to one that does not."""

from argparse import Namespace

import pytest

from rcnn_jax.cli.flags import (
    existing_file,
    key_from,
)
from rcnn_jax.errors import UsageError


def test_the_key_of_the_command_line_comes_before_the_environment_before_the_spec(monkeypatch):
    monkeypatch.setenv("RCNN_JAX_KEY", "environment")
    assert key_from(Namespace(key="flag"), "spec") == "flag"
    assert key_from(Namespace(key=None), "spec") == "environment"
    assert key_from(Namespace(key=""), "spec") == "environment"
    monkeypatch.delenv("RCNN_JAX_KEY")
    assert key_from(Namespace(key=None), "spec") == "spec"
    assert key_from(Namespace(key=None), "") is None


def test_a_file_that_is_not_there_is_named_with_its_flag(tmp_path):
    with pytest.raises(UsageError, match="-m .*gone.tlt: expected a file, found nothing there"):
        existing_file(tmp_path / "gone.tlt", "-m")
    with pytest.raises(UsageError, match="expected a file, found a folder there"):
        existing_file(tmp_path, "-m")


def test_a_model_that_is_not_there_lists_those_that_are_nearest_first(tmp_path):
    for name in ("best.tlt", "x.epoch9.tlt", "x.epoch12.tlt", "x.epoch12.onnx", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "eval").mkdir()
    with pytest.raises(UsageError) as error:
        existing_file(tmp_path / "x.epoch_12.hdf5", "-m")
    assert str(error.value).endswith(
        f"; in {tmp_path} lie x.epoch12.onnx, x.epoch12.tlt, x.epoch9.tlt, best.tlt"
    )
    with pytest.raises(UsageError, match=r"lies notes.txt$"):
        existing_file(tmp_path / "note.txt", "-e")
    with pytest.raises(UsageError, match=f"there is no folder .*/gone/run, only {tmp_path}$"):
        existing_file(tmp_path / "gone" / "run" / "a.tlt", "-m")


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_a_name_that_no_file_can_have_is_one_message(tmp_path, name):
    with pytest.raises(UsageError, match="expected a file, found nothing there"):
        existing_file(tmp_path / name, "-m")
