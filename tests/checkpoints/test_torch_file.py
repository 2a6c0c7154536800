"""The archives are assembled opcode by opcode, as torch.save of PyTorch 2 writes them."""

import zipfile

import numpy as np
import pytest

from rcnn_jax.checkpoints.torch_file import read_torch
from rcnn_jax.checkpoints.torch_tensors import run
from rcnn_jax.errors import CheckpointError
from tests.checkpoints.torch_opcodes import (
    MARK,
    ORDERED,
    PROTO,
    REBUILD,
    STOP,
    state_dict,
    tensor,
    text,
)
from tests.checkpoints.torch_opcodes import write_archive as write


@pytest.fixture
def path(tmp_path):
    return tmp_path / "w.pth"


def message(path) -> str:
    with pytest.raises(CheckpointError) as error:
        read_torch(path)
    return str(error.value).replace(str(path), "w.pth")


def test_strided_views_of_one_storage_are_copied_out(path):
    numbers_ = np.arange(12, dtype="<f4")
    program = state_dict(
        whole=tensor("FloatStorage", "0", 0, (3, 4), (4, 1)),
        part=tensor("FloatStorage", "0", 1, (3, 3), (1, 4)),
        scalar=tensor("FloatStorage", "0", 5, (), ()),
        empty=tensor("FloatStorage", "0", 0, (0, 2), (2, 1)),
    )
    arrays = read_torch(write(path, program, {"0": numbers_}))
    grid = numbers_.reshape(3, 4)
    np.testing.assert_array_equal(arrays["whole"], grid)
    np.testing.assert_array_equal(arrays["part"], grid.T[1:])
    assert arrays["scalar"] == 5
    assert arrays["empty"].shape == (0, 2)
    arrays["whole"][0, 0] = 9


@pytest.mark.parametrize(
    ("kind", "dtype"), [("HalfStorage", "f2"), ("LongStorage", "i8"), ("BoolStorage", "?")]
)
def test_storages_have_their_own_dtype(path, kind, dtype):
    data = np.asarray([1, 0, 1], dtype)
    arrays = read_torch(write(path, state_dict(a=tensor(kind, "0", 0, (3,), (1,))), {"0": data}))
    assert arrays["a"].dtype == data.dtype
    np.testing.assert_array_equal(arrays["a"], data)


def test_a_bfloat16_storage_is_read(path):
    data = np.asarray([0x3FC0], "<u2")  # 1.5 in bfloat16
    program = state_dict(a=tensor("BFloat16Storage", "0", 0, (1,), (1,)))
    assert float(read_torch(write(path, program, {"0": data}))["a"][0]) == 1.5


def test_a_file_of_a_big_endian_machine_is_swapped(path):
    program = state_dict(a=tensor("FloatStorage", "0", 0, (2,), (1,)))
    write(path, program, {"0": np.asarray([1.5, 2], ">f4")}, order=b"big")
    assert read_torch(path)["a"].tolist() == [1.5, 2.0]


def test_parameters_are_tensors_and_a_nested_state_dict_is_read(path):
    plain = tensor("FloatStorage", "0", 0, (2,), (1,))
    parameter = b"ctorch._utils\n_rebuild_parameter\n" + MARK + plain + b"\x88" + ORDERED + b"tR"
    weights = state_dict(a=parameter, b=plain)
    optimizer = state_dict(momentum=plain)
    program = b"}" + MARK + text("epoch") + b"K\x03" + text("optimizer") + optimizer
    program += text("model") + weights + b"u"
    write(path, program, {"0": np.asarray([1, 2], "<f4")})
    assert sorted(read_torch(path)) == ["a", "b"]


def test_a_call_that_does_something_is_refused_by_its_name_and_not_made(path, tmp_path):
    marker = tmp_path / "was_here"
    call = b"cos\nmkdir\n" + MARK + text(str(marker)) + b"tR"
    weights = state_dict(a=tensor("FloatStorage", "0", 0, (1,), (1,)), evil=call)
    write(path, weights, {"0": np.zeros(1, "<f4")})
    assert message(path).startswith("w.pth: names 'os.mkdir', which weights never need")
    assert not marker.exists()


def test_objects_of_other_libraries_are_inert(path, tmp_path):
    call = b"cmmengine.runner\nLogs\n" + MARK + text(str(tmp_path)) + b"tR"
    weights = state_dict(a=tensor("FloatStorage", "0", 0, (1,), (1,)), other=call)
    write(path, weights, {"0": np.zeros(1, "<f4")})
    assert list(read_torch(path)) == ["a"]


def test_metadata_attached_to_a_state_dict_is_ignored(path):
    weights = state_dict(a=tensor("FloatStorage", "0", 0, (1,), (1,)))
    attributes = b"}" + text("_metadata") + ORDERED + b"sb"
    write(path, weights + attributes, {"0": np.ones(1, "<f4")})
    assert read_torch(path)["a"].tolist() == [1.0]


def test_memory_lists_and_small_tuples_are_followed():
    program = b"]q\x00" + b"(K\x01K\x02e" + b"K\x03a" + b"h\x00" + b"\x86" + STOP
    assert run(PROTO + program) == ([1, 2, 3], [1, 2, 3])


def test_an_opcode_torch_does_not_write_is_refused(path):
    write(path, b"(S'abc'\nt", {})
    assert message(path) == "w.pth: holds the pickle opcode STRING, which torch.save does not write"


def test_a_tensor_outside_its_storage_is_damage(path):
    write(path, state_dict(a=tensor("FloatStorage", "0", 0, (4,), (1,))), {"0": np.zeros(3, "<f4")})
    assert message(path) == "w.pth: the tensor 'a' lies outside its storage: the file is damaged"


def test_a_missing_storage_is_damage(path):
    write(path, state_dict(a=tensor("FloatStorage", "7", 0, (1,), (1,))), {})
    assert message(path) == "w.pth: is no torch file: it holds no model/data/7"


def test_other_files_are_refused_with_advice(path):
    for content, advice in (
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html>log in</html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (b"PK\x03\x04half an archive", "or only half of one"),
    ):
        path.write_bytes(content)
        assert message(path).startswith("w.pth: is ") and advice in message(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "")
    assert message(path) == "w.pth: holds no data.pkl, so torch.save did not write it"
    write(path, b"K\x05", {})
    assert message(path) == (
        "w.pth: holds no named tensors; save the state_dict of the model, not the model"
    )


@pytest.mark.parametrize(
    ("program", "cause"),
    [
        (state_dict(a=tensor("FloatStorage", "0", 0, (2,), (1, 1))), "2 strides"),
        (
            state_dict(a=tensor("FloatStorage", "0", 0, (-2,), (1,))),
            "of a tensor are not whole numbers",
        ),
        (
            state_dict(a=tensor("FloatStorage", "0", 0, (2,), (-1,))),
            "of a tensor are not whole numbers",
        ),
        (state_dict(a=tensor("FloatStorage", "0", 0, (1,) * 40, (1,) * 40)), "has 40 sides"),
        (state_dict(a=tensor("ComplexStorage", "0", 0, (1,), (1,))), "kind 'ComplexStorage'"),
        (state_dict(a=tensor("FloatStorage", "0", 0, (99999,) * 3, (0, 0, 0))), "far more than"),
        (b"h\x07", "remembers what it never stored"),
        (b"0" * 3, "opcode POP"),
        (b"K\x01K\x02a", "no list"),
        (b"}" + MARK + text("a") + b"u", "a key without a value"),
        (MARK * 9 + b"t", "no named tensors"),
        (b"e", "is damaged"),
        (b"K\x01Q", "no storage"),
        (MARK + text("storage") + text("x") + text("0") + b"tQ", "no kind or no key"),
        (b"K\x01K\x02\x93", "no text"),
        (REBUILD + MARK + b"tR", "lacks its shape"),
        (REBUILD + MARK + b"K\x01" * 4 + b"tR", "no storage"),
        (ORDERED[:-2] + MARK + b"](K\x01e" + b"tR", "not made of pairs"),
    ],
)
def test_a_program_that_no_model_needs_is_refused_by_what_is_wrong(path, program, cause):
    write(path, program, {"0": np.zeros(3, "<f4")})
    assert cause in message(path)


def test_a_program_cannot_run_for_hours(path):
    again = b"ccollections\nOrderedDict\nh\x00\x85R" * 20_000
    pairs = b"]q\x00" + MARK + b"K\x01K\x02\x86" * 20_000 + b"e"
    write(path, pairs + again, {})
    assert "needs over 1,000,000 steps" in message(path)
    write(path, b"K\x01" * 1_100_000, {})
    assert "needs over 1,000,000 steps" in message(path)


def test_keys_that_are_deep_are_left_out_unhashed(path):
    deep = b")" + b"\x85" * 200_000
    write(path, b"}" + MARK + deep + b"K\x01u", {})
    assert "holds no named tensors" in message(path)


def test_two_members_of_one_name_are_refused(path):
    with pytest.warns(UserWarning), zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", PROTO + b"}" + STOP)
        archive.writestr("model/data.pkl", PROTO + b"}" + STOP)
    assert message(path) == (
        "w.pth: holds two members called 'model/data.pkl', as no torch file does"
    )
