import io
import struct
import zipfile

import numpy as np
import pytest

from rcnn_jax.checkpoints.npz_file import read_npz
from rcnn_jax.errors import CheckpointError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "w.npz"


def write(path, shape, descr="'<f4'", data=bytes(12)):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data)
    return path


def message(path) -> str:
    with pytest.raises(CheckpointError) as error:
        read_npz(path)
    return str(error.value).replace(str(path), "w.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_back_as_they_were_saved(path, save):
    saved = {
        "conv1/kernel": np.arange(6.0).reshape(2, 3),
        "turned": np.asfortranarray(np.arange(24, dtype=np.int16).reshape(2, 3, 4)),
        "scalar": np.asarray(True),
        "none": np.zeros((0, 4), ">f4"),
    }
    save(path, text=np.asarray(["a"]), complex=np.ones(2, complex), **saved)
    back = read_npz(path)
    assert back.keys() == saved.keys()
    for name, array in saved.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)
    back["conv1/kernel"][0, 0] = 5


@pytest.mark.parametrize(
    "shape", ["(4611686018427387904,)", "(2147483648, 4294967296)", "(4,)", "(2,)", "()", "(0,)"]
)
def test_a_shape_is_compared_with_the_bytes_before_memory_is_taken(path, shape):
    assert "'a.npy' is damaged: it states float32" in message(write(path, shape))


@pytest.mark.parametrize(
    ("shape", "descr"),
    [
        ("(-3,)", "'<f4'"),
        ("(True,)", "'<f4'"),
        ("None", "'<f4'"),
        ("(3,)", "'x'"),
        ("(" * 500, "5"),
        ("3-4", "'<f4'"),
    ],
)
def test_a_header_that_is_none_is_named(path, shape, descr):
    complaint = message(write(path, shape, descr))
    assert complaint.startswith("w.npz: 'a.npy' is ") and "object at 0x" not in complaint


def test_objects_are_never_unpickled(path):
    assert message(write(path, "(1,)", "'|O'", b"cos\nsystem\n(S'true'\ntR.")) == (
        "w.npz: 'a.npy' holds pickled objects. They are programs and are not run; save plain arrays"
    )


def test_a_single_array_is_no_archive(path):
    stream = io.BytesIO()
    np.save(stream, np.ones(3))
    path.write_bytes(stream.getvalue())
    assert message(path).startswith("w.npz: is not a readable .npz of plain arrays: ")
