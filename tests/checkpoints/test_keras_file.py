import sys

import numpy as np
import pytest

from rcnn_jax.checkpoints.keras_file import read_keras
from rcnn_jax.errors import CheckpointError, MissingDependencyError


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py", reason="the extra keras-weights is not installed")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "w.h5"


def test_a_missing_package_names_the_extra(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingDependencyError) as error:
        read_keras(path)
    assert str(error.value) == (
        f"Reading {path} needs the package 'h5py', which is not installed: "
        "run  pip install 'rcnn-jax[keras-weights]'"
    )


@pytest.mark.parametrize("root", ["", "model_weights/"])
def test_weights_and_models_are_read(h5py, path, root):
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    with h5py.File(path, "w") as file:
        file[f"{root}fc1/fc1/kernel:0"] = kernel
        file[f"{root}fc1/fc1/bias:0"] = np.ones(3)
        file.create_group(f"{root}relu")
        if root:
            file["optimizer_weights/fc1/kernel:0"] = np.zeros(1)
    layers = read_keras(path)
    assert {name: sorted(leaves) for name, leaves in layers.items()} == {"fc1": ["bias", "kernel"]}
    np.testing.assert_array_equal(layers["fc1"]["kernel"], kernel)


def test_a_wrapped_layer_is_found_under_both_names(h5py, path):
    with h5py.File(path, "w") as file:
        file["time_distributed_3/block_4a_conv_1/kernel:0"] = np.ones(2)
    assert sorted(read_keras(path)) == ["block_4a_conv_1", "time_distributed_3"]


def test_a_keras_3_file_is_refused_with_advice(h5py, path):
    with h5py.File(path, "w") as file:
        file["layers/conv2d/vars/0"] = np.ones(1)
    with pytest.raises(CheckpointError) as error:
        read_keras(path)
    assert str(error.value) == (
        f"{path}: is a Keras 3 weights file, which does not name layers as the model does; save "
        "the model as .h5 with Keras 2 (tf_keras), or its arrays as .npz with names such as "
        "conv1/kernel"
    )


def test_something_else_is_not_hdf5(h5py, path):
    path.write_bytes(b"hello")
    with pytest.raises(CheckpointError, match="w.h5: is not a readable HDF5 file: "):
        read_keras(path)
