"""Files as torch wrote them before 1.6, which torchvision's older published files still are."""

import struct

import numpy as np
import pytest

from rcnn_jax.checkpoints.pickle_file import read_pickle
from rcnn_jax.checkpoints.torch_file import read_torch
from rcnn_jax.errors import CheckpointError
from tests.checkpoints.torch_opcodes import (
    MAGIC,
    MARK,
    PROTO,
    STOP,
    VERSION,
    machine,
    number,
    numbers,
    saved,
    state_dict,
    stream,
    tensor,
    text,
)

GRID = np.arange(12, dtype="<f4")
OLD_REBUILD = b"ctorch._utils\n_rebuild_tensor\n"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "w.pth"


def written(path, content: bytes):
    path.write_bytes(content)
    return path


def message(path, content: bytes) -> str:
    with pytest.raises(CheckpointError) as error:
        read_torch(written(path, content))
    return str(error.value).replace(str(path), "w.pth")


def test_every_array_is_read_whatever_its_number_type(path):
    rng = np.random.default_rng(0)
    arrays = {
        "kernel": rng.normal(size=(2, 3, 1, 1)).astype("<f4"),
        "half": rng.normal(size=5).astype("<f2"),
        "batches": np.asarray(7, "<i8"),
        "mask": np.asarray([True, False]),
        "empty": np.zeros((0, 3), "<f4"),
    }
    result = read_torch(written(path, stream(*saved(arrays))))
    assert result.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(result[name], array)
        assert result[name].dtype == array.dtype and result[name].flags.owndata


def test_strided_views_and_views_of_storages_are_copied_out(path):
    view = MARK + text("v") + number(2) + number(9) + b"t"
    program = state_dict(
        whole=tensor("FloatStorage", "7", 0, (3, 4), (4, 1), view=b"N"),
        transposed=tensor("FloatStorage", "7", 1, (3, 3), (1, 4), view=b"N"),
        viewed=tensor("FloatStorage", "7", 1, (3,), (3,), view=view),
        old=tensor("FloatStorage", "7", 4, (2,), (1,), rebuild=OLD_REBUILD),
    )
    arrays = read_torch(written(path, stream(program, {"7": GRID})))
    grid = GRID.reshape(3, 4)
    np.testing.assert_array_equal(arrays["whole"], grid)
    np.testing.assert_array_equal(arrays["transposed"], grid.T[1:])
    np.testing.assert_array_equal(arrays["viewed"], [3, 6, 9])
    np.testing.assert_array_equal(arrays["old"], [4, 5])


def test_storages_of_an_optimizer_are_passed_over(path):
    """They lie between those of the model, of another size."""
    weights = state_dict(
        a=tensor("FloatStorage", "0", 0, (2,), (1,)), b=tensor("FloatStorage", "2", 0, (1,), (1,))
    )
    optimizer = state_dict(momentum=tensor("DoubleStorage", "1", 0, (3,), (1,)))
    program = b"}" + MARK + text("optimizer") + optimizer + text("model") + weights + b"u"
    storages = {
        "0": np.asarray([1, 2], "<f4"),
        "1": np.zeros(3, "<f8"),
        "2": np.asarray([5], "<f4"),
    }
    arrays = read_torch(written(path, stream(program, storages)))
    assert arrays["a"].tolist() == [1.0, 2.0] and arrays["b"].tolist() == [5.0]


def test_a_stream_of_another_suffix_is_the_same_file(tmp_path):
    path = written(tmp_path / "model.pkl", stream(*saved({"a": GRID})))
    np.testing.assert_array_equal(read_pickle(path)["a"], GRID)


def test_a_file_that_was_cut_off_is_damage_wherever_it_ends(path):
    content = stream(*saved({"a": GRID, "b": GRID}))
    for length in range(len(MAGIC), len(content) - 1, 7):
        assert message(path, content[:length]).startswith("w.pth: ")
    assert "goes beyond the end of the file, which is cut off" in message(path, content[:-1])


ONE = state_dict(a=tensor("FloatStorage", "0", 0, (1,), (1,)))


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (MAGIC + PROTO + b"K\x05." + machine(), "version 5 of the stream is not 1001"),
        (MAGIC + VERSION + PROTO + b"N.", "of the stream is not 1001"),
        (MAGIC + VERSION + machine(little=False), "a machine of another byte order"),
        (stream(b"cos\nsystem\n" + MARK + text("id") + b"tR", {}), "names 'os.system'"),
        (stream(b"K\x05", {}), "holds no named tensors"),
        (stream(ONE, {}), "is damaged or not a torch file"),
        (stream(ONE, {"0": GRID[:0]}), "the tensor 'a' lies outside its storage"),
        (stream(ONE, {"0": GRID}, ["1"]), "the storage '1' is of the kind none that its objects"),
        (
            stream(state_dict(a=tensor("ComplexStorage", "0", 0, (1,), (1,))), {"0": GRID}),
            "of the kind 'ComplexStorage', which is not read",
        ),
        (
            stream(
                state_dict(
                    a=tensor("FloatStorage", "0", 0, (1,), (1,)),
                    b=tensor("LongStorage", "0", 0, (1,), (1,)),
                ),
                {"0": GRID},
            ),
            "is of two kinds",
        ),
        (
            stream(
                state_dict(a=tensor("FloatStorage", "0", 0, (1,), (1,), view=numbers(1, 2))),
                {"0": GRID},
            ),
            "a view of a storage is none",
        ),
        (
            stream(
                state_dict(a=tensor("FloatStorage", "0", 0, (9999,) * 3, (0,) * 3)), {"0": GRID}
            ),
            "far more than the file",
        ),
        (
            MAGIC + VERSION + machine() + PROTO + ONE + STOP + PROTO + b"K\x01.",
            "the list of storages is none",
        ),
        (
            stream(ONE, {})[:-2] + text("0") + b"e." + struct.pack("<q", 1 << 60),
            "goes beyond the end of the file",
        ),
    ],
)
def test_what_no_model_has_is_refused_by_what_is_wrong(path, content, cause):
    assert cause in message(path, content)
    assert message(path, content).count("w.pth") == 1
