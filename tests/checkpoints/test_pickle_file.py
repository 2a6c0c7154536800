"""Pickles of arrays: those that are weights are read, programs are refused by the name they call."""

import io
import os
import pickle
import pickletools
import subprocess

import numpy as np
import pytest

from rcnn_jax.checkpoints.closed_pickle import Global, is_hostile
from rcnn_jax.checkpoints.pickle_file import read_pickle
from rcnn_jax.errors import CheckpointError

ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big": np.arange(3, dtype=">i4"),
    "half": np.ones((2, 0), np.float16),
}


class Call:
    """Pickles as a call of something."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.pkl"


def message(path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_pickle(path)
    return str(caught.value).replace(str(path), "model.pkl")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("nested", [True, False])
def test_arrays_of_every_protocol_are_read(path, protocol, nested):
    content = {"model": ARRAYS, "__author__": "x", "n": 3} if nested else ARRAYS
    path.write_bytes(pickle.dumps(content, protocol))
    arrays = read_pickle(path)
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype.newbyteorder("=")


def test_strings_of_python_2_are_names_and_numbers(path):
    data = np.arange(2, dtype="<f4").tobytes()
    dtype = b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
    dtype += b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    state = b"(K\x01K\x02\x85" + dtype + b"\x89U" + bytes([len(data)]) + data + b"tb"
    path.write_bytes(b"\x80\x02}U\x01a" + array + state + b"s.")
    np.testing.assert_array_equal(read_pickle(path)["a"], [0.0, 1.0])


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("true",), "posix.system"),
        (subprocess.Popen, (["true"],), "subprocess.Popen"),
        (eval, ("1",), "builtins.eval"),
        (exec, ("1",), "builtins.exec"),
        (getattr, (io, "open"), "builtins.getattr"),
        (__import__, ("os",), "builtins.__import__"),
        (open, ("/tmp/x", "w"), "io.open"),
        (pickle.loads, (b"N.",), "_pickle.loads"),
    ],
)
def test_a_call_is_refused_by_its_name(path, function, arguments, name):
    if function is getattr:
        arguments = ("text", "upper")
    path.write_bytes(pickle.dumps({"model": ARRAYS, "x": Call(function, *arguments)}))
    assert message(path).startswith(f"model.pkl: names {name!r}, which weights never need")
    assert is_hostile(Global(*name.split("."))) and not is_hostile(Global("numpy", "ndarray"))
    assert is_hostile(Global("numpy.f2py.os", "system")) and is_hostile(
        Global("torch", "os.system")
    )


def test_objects_of_other_libraries_are_inert(path):
    path.write_bytes(pickle.dumps({"model": ARRAYS, "x": Call(np.float32, 3.0), "y": {1, 2}}))
    assert read_pickle(path).keys() == ARRAYS.keys()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda data: data[: len(data) // 2], "is damaged or no pickle"),
        (lambda data: b"", "is damaged or no pickle"),
        (lambda data: b"\x80\x02K\x05.", "holds no arrays by name"),
        (lambda data: b"\x80\x02" + b"(" * 9 + b"t.", "holds no arrays by name"),
        (lambda data: pickle.dumps({"a": np.array([None])}), "is of a type that is not read"),
    ],
)
def test_what_is_no_pickle_of_arrays_is_one_message(path, change, what):
    path.write_bytes(change(pickle.dumps({"model": ARRAYS}, 2)))
    assert what in message(path)


def test_shapes_that_promise_more_than_there_is_are_refused(path):
    data = pickle.dumps({"a": np.zeros((2, 3), np.float32)}, 2)
    assert data.count(b"K\x02K\x03\x86") == 1
    path.write_bytes(data.replace(b"K\x02K\x03\x86", b"K\xffK\xff\x86"))
    assert "an array of the shape [255, 255] has 24 bytes" in message(path)


def test_mutants_are_read_or_refused_in_one_sentence(path):
    sound = pickle.dumps({"model": ARRAYS, "epoch": 3}, 2)
    rng = np.random.default_rng(0)
    starts = [position for _, _, position in pickletools.genops(sound)]
    for number in range(600):
        data = bytearray(sound)
        for _ in range(1 + number % 4):
            at = int(rng.choice(starts)) if number % 2 else int(rng.integers(len(data)))
            data[min(at, len(data) - 1)] = int(rng.integers(256))
        path.write_bytes(
            bytes(data[: int(rng.integers(1, len(data) + 1))] if number % 5 == 0 else data)
        )
        try:
            read_pickle(path)
        except CheckpointError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)
