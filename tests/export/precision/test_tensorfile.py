import zipfile

import numpy as np
import pytest

from rcnn_jax import optional
from rcnn_jax.errors import CheckpointError, DataError, MissingDependencyError
from rcnn_jax.export.precision.tensorfile import read_tensorfile, write_tensorfile

SHAPE = (3, 4, 5)


def batches(count=3, size=2):
    rng = np.random.default_rng(0)
    return [rng.normal(0, 1, (size, *SHAPE)).astype(np.float32) for _ in range(count)]


@pytest.fixture(params=["cal.tensor", "cal.npz"])
def path(request, tmp_path):
    if request.param == "cal.tensor":
        pytest.importorskip("h5py", reason="HDF5 tensorfiles need h5py")
    return tmp_path / "made" / request.param


def test_batches_read_back_as_they_were(path):
    assert write_tensorfile(path, iter(batches())) == 3
    for ours, theirs in zip(batches(), read_tensorfile(path, SHAPE), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_hdf5_file_is_the_tensorfile_of_the_original(tmp_path):
    """Source: docs/reference/tensorrt.md, "Tensorfile"; the original writes float64."""
    h5py = pytest.importorskip("h5py", reason="HDF5 tensorfiles need h5py")
    path = tmp_path / "cal.tensor"
    write_tensorfile(path, batches())
    with h5py.File(path) as file:
        assert file.attrs["count"] == 3 and tuple(file.attrs["shape"]) == (2, *SHAPE)
        data = file["_tensorfile_array_key__2/_tensorfile_array_key_"]
        assert data.compression == "gzip"
        np.testing.assert_array_equal(data[:], batches()[2])
    with h5py.File(tmp_path / "theirs", "w") as file:
        file.attrs["count"], file.attrs["shape"] = 1, (2, *SHAPE)
        group = file.create_group("_tensorfile_array_key__0")
        group.create_dataset("_tensorfile_array_key_", data=batches()[0].astype(np.float64))
    (batch,) = read_tensorfile(tmp_path / "theirs", SHAPE)
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(batch, batches()[0])


def test_a_write_that_fails_leaves_nothing(path):
    def interrupted():
        yield batches()[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_tensorfile(path, interrupted())
    assert list(path.parent.iterdir()) == []


def test_batches_of_another_shape_are_refused(path):
    write_tensorfile(path, batches())
    with pytest.raises(
        DataError, match=r"float32\[2, 3, 4, 5\], the model takes float\[batch, 3, 8"
    ):
        list(read_tensorfile(path, (3, 8, 8)))


def test_what_is_no_tensorfile_is_one_message(path):
    path.parent.mkdir()
    path.write_bytes(b"something else")
    with pytest.raises(DataError, match="is no .*damaged"):
        list(read_tensorfile(path, SHAPE))
    write_tensorfile(path, batches())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError):
        list(read_tensorfile(path, SHAPE))
    write_tensorfile(path, [])
    with pytest.raises(DataError, match="holds no batch"):
        list(read_tensorfile(path, SHAPE))


def test_nothing_is_unpickled(tmp_path):
    path = tmp_path / "cal.npz"
    np.savez(path, batch_0=np.asarray([{"a": 1}], object))
    assert zipfile.is_zipfile(path)
    with pytest.raises(DataError, match=r"batch 0 is object\[1\], the model takes float"):
        list(read_tensorfile(path, SHAPE))


def test_without_h5py_the_message_names_the_extra(tmp_path, monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(optional.importlib, "import_module", absent)
    with pytest.raises(MissingDependencyError, match=r"rcnn-jax\[calibration\]"):
        write_tensorfile(tmp_path / "cal.tensor", batches())
    write_tensorfile(tmp_path / "cal.npz", batches())


@pytest.mark.parametrize("kind", ["external", "link", "soft", "virtual"])
def test_numbers_of_other_files_are_not_read(tmp_path, kind):
    h5py = pytest.importorskip("h5py", reason="HDF5 tensorfiles need h5py")
    path, name = tmp_path / "cal.tensor", "_tensorfile_array_key__0/_tensorfile_array_key_"
    with h5py.File(path, "w") as file:
        file.attrs["count"] = 1
        if kind == "external":
            file.create_dataset(name, (1, *SHAPE), "f4", external=[("/etc/passwd", 0, 240)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((1, *SHAPE), "f4")
            layout[:] = h5py.VirtualSource("other.h5", "a", (1, *SHAPE))
            file.create_virtual_dataset(name, layout)
        else:
            file[name] = h5py.ExternalLink("o.h5", "/a") if kind == "link" else h5py.SoftLink("/")
    with pytest.raises(CheckpointError, match="Such a file would have other files read"):
        list(read_tensorfile(path, SHAPE))
