"""HDF5 files of strangers: references to other files and vast data sets are refused unread."""

import zipfile

import numpy as np
import pytest

from rcnn_jax.checkpoints.keras_file import read_keras
from rcnn_jax.errors import CheckpointError


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py", reason="the extra keras-weights is not installed")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "w.h5"


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("external", "has its numbers in '/etc/hostname'"),
        ("virtual", "is virtual: its numbers are those of other data sets"),
        ("link", "is a link into '/etc/hostname'"),
        ("soft", "is a symbolic link"),
    ],
)
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_weights_that_lie_in_another_file_are_refused_by_name(
    h5py, path, tmp_path, suffix, kind, what
):
    with h5py.File(path, "w") as file:
        file["fc1/fc1/kernel:0"] = np.ones((2, 3))
        name = "fc2/fc2/kernel:0"
        if kind == "external":
            file.create_dataset(name, (2,), "f4", external=[("/etc/hostname", 0, 8)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((2,), "f4")
            layout[:] = h5py.VirtualSource("other.h5", "a", (2,))
            file.create_virtual_dataset(name, layout)
        else:
            link = h5py.ExternalLink("/etc/hostname", "/a") if kind == "link" else None
            file[name] = link or h5py.SoftLink("/fc1")
    read = path
    if suffix == ".keras":
        read = tmp_path / "m.keras"
        with zipfile.ZipFile(read, "w") as archive:
            archive.write(path, "model.weights.h5")
    with pytest.raises(CheckpointError) as error:
        read_keras(read)
    assert str(error.value).startswith(f"{read}: ") and f"'fc2/fc2/kernel:0' {what}" in str(
        error.value
    )


def test_data_sets_far_larger_than_the_file_are_refused(h5py, path):
    with h5py.File(path, "w") as file:
        file.create_dataset("fc1/fc1/kernel:0", (1 << 20, 1 << 20), "f4", chunks=(64, 64))
    with pytest.raises(CheckpointError, match="which weights never do; it is not read"):
        read_keras(path)
