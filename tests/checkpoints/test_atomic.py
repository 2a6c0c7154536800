from collections import namedtuple
from pathlib import Path

import pytest

from rcnn_jax.checkpoints import atomic
from rcnn_jax.errors import CheckpointError

Usage = namedtuple("Usage", "total used free")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_pieces_are_written_in_order_and_folders_are_made(tmp_path):
    path = tmp_path / "new" / "file.bin"
    atomic.write_file(path, (bytes([i]) for i in range(3)))
    assert path.read_bytes() == b"\x00\x01\x02"
    assert names(path.parent) == ["file.bin"]


def test_a_failed_write_leaves_the_old_content_and_no_temporary_file(tmp_path, monkeypatch):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(CheckpointError) as error:
        atomic.write_file(path, [b"new"])
    assert str(error.value) == (
        f"{path}: cannot be written: No space left on device; 3 bytes are needed"
    )
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file.bin"]


def test_what_a_killed_process_left_half_written_goes_with_the_next_file(tmp_path):
    half = tmp_path / ".model.onnx.99999999.tmp"
    half.write_bytes(b"half")
    atomic.write_file(tmp_path / "model.onnx", [b"whole"])
    assert names(tmp_path) == ["model.onnx"]


def test_too_little_disk_space_is_an_error_before_writing(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic.shutil, "disk_usage", lambda folder: Usage(10**9, 0, 1000))
    path = tmp_path / "model.tlt"
    with pytest.raises(CheckpointError) as error:
        atomic.write_file(path, [b"x" * 5000])
    assert str(error.value) == (
        f"{path}: not enough disk space in {tmp_path}: 1,053,576 bytes are needed, 1,000 are free; "
        "free some space or write to another disk"
    )
    assert names(tmp_path) == []


def test_a_missing_file_and_a_folder_have_different_errors(tmp_path):
    with pytest.raises(CheckpointError) as error:
        atomic.read_file(tmp_path / "x.tlt", "model file")
    assert str(error.value) == f"{tmp_path}/x.tlt: no such model file; check the path"
    with pytest.raises(CheckpointError) as error:
        atomic.read_file(tmp_path, "model file")
    assert str(error.value) == f"{tmp_path}: is a folder, a model file is expected"
