"""Files of both layouts, as Keras 2.21 (tf_keras) and Keras 3.15 write them, made with h5py."""

import json
import sys
import zipfile

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


def names(layers):
    return {name: sorted(leaves) for name, leaves in layers.items()}


def numbered(file, folder, name, *arrays):
    """Variables of one layer in the layout of Keras 3."""
    group = file.create_group(f"{folder}/vars")
    if name:
        group.attrs["name"] = name
    for index, array in enumerate(arrays):
        group[str(index)] = np.asarray(array, np.float32)


def test_a_missing_package_names_the_extra(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingDependencyError) as error:
        read_keras(path)
    assert str(error.value) == (
        f"Reading {path} needs the package 'h5py', which is not installed: "
        "run  pip install 'rcnn-jax[keras-weights]'"
    )


@pytest.mark.parametrize("root", ["", "model_weights/"])
@pytest.mark.parametrize("ending", [":0", ""])
def test_weights_and_models_of_the_old_layout_are_read(h5py, path, root, ending):
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    with h5py.File(path, "w") as file:
        file[f"{root}fc1/fc1/kernel{ending}"] = kernel
        file[f"{root}fc1/fc1/bias{ending}"] = np.ones(3)
        file.create_group(f"{root}relu")
        file.create_group(f"{root}top_level_model_weights")
        if root:
            file[f"optimizer_weights/fc1/kernel{ending}"] = np.zeros(1)
            file["optimizer_weights/iteration:0"] = 7
    layers = read_keras(path)
    assert names(layers) == {"fc1": ["bias", "kernel"]}
    np.testing.assert_array_equal(layers["fc1"]["kernel"], kernel)


def test_a_wrapped_layer_has_both_names(h5py, path):
    with h5py.File(path, "w") as file:
        file["time_distributed_3/block_4a_conv_1/kernel:0"] = np.ones(2)
        file["td/td/fc1/kernel"] = np.ones(2)
    assert sorted(read_keras(path)) == ["block_4a_conv_1", "fc1", "td", "time_distributed_3"]


def test_a_model_inside_a_model_keeps_its_layers_apart(h5py, path):
    with h5py.File(path, "w") as file:
        file["model_weights/inner/conv1/kernel:0"] = np.ones(2)
        file["model_weights/inner/conv2/kernel:0"] = np.ones(3)
    assert sorted(read_keras(path)) == ["conv1", "conv2"]


def test_keras_2_keeps_the_name_of_a_wrapped_layer_in_the_config_alone(h5py, path):
    def layer(kind, name, **more):
        return {"class_name": kind, "config": {"name": name, **more}}

    inner = layer("TimeDistributed", "middle", layer=layer("Dense", "fc1"))
    layers = [layer("Conv2D", "conv1"), layer("TimeDistributed", "outer", layer=inner)]
    nested = layer("Functional", "nested", layers=layers)
    config = {"class_name": "Functional", "config": {"name": "m", "layers": [nested]}}
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file["model_weights/outer/outer/kernel:0"] = np.ones(2)
        file["model_weights/conv1/conv1/kernel:0"] = np.ones(2)
    assert sorted(read_keras(path)) == ["conv1", "fc1", "outer"]


def test_a_description_that_is_no_json_costs_nothing_but_names(h5py, path):
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = "{'class_name': broken"
        file["model_weights/td/td/kernel:0"] = np.ones(2)
    assert sorted(read_keras(path)) == ["td"]


def test_the_new_layout_numbers_variables_and_names_layers_in_attributes(h5py, path):
    kernel = np.arange(6.0).reshape(2, 3)
    with h5py.File(path, "w") as file:
        numbered(file, "layers/dense", "fc1", kernel, np.ones(3))
        numbered(file, "layers/dense_1", "fc2", kernel)
        numbered(file, "layers/batch_normalization", "bn", *np.arange(8.0).reshape(4, 2))
        numbered(file, "layers/re_lu", "relu")
        numbered(file, "optimizer", "adam", kernel)
        numbered(file, "", "model")
    layers = read_keras(path)
    assert names(layers) == {
        "fc1": ["bias", "kernel"],
        "fc2": ["kernel"],
        "bn": ["beta", "gamma", "moving_mean", "moving_variance"],
    }
    np.testing.assert_array_equal(layers["fc1"]["kernel"], kernel)
    order = ("gamma", "beta", "moving_mean", "moving_variance")
    assert [layers["bn"][leaf][0] for leaf in order] == [0.0, 2.0, 4.0, 6.0]


def test_wrappers_and_models_nest_in_the_new_layout(h5py, path):
    with h5py.File(path, "w") as file:
        numbered(file, "layers/sequential/layers/conv2d", "conv1", np.ones((1, 1, 2, 3)))
        numbered(file, "layers/sequential", "inner")
        numbered(file, "layers/time_distributed/layer/layer", "fc1", np.ones((2, 3)))
        numbered(file, "layers/time_distributed/layer", "middle")
        numbered(file, "layers/time_distributed", "outer")
    assert sorted(read_keras(path)) == ["conv1", "fc1", "middle", "outer"]


def test_a_keras_archive_is_opened(h5py, path, tmp_path):
    with h5py.File(path, "w") as file:
        numbered(file, "layers/dense", "fc1", np.ones((2, 3)))
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.write(path, "model.weights.h5")
    assert names(read_keras(tmp_path / "m.keras")) == {"fc1": ["kernel"]}
    with zipfile.ZipFile(tmp_path / "n.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(
        CheckpointError, match=r"n.keras: is no Keras archive: it holds no model.weights.h5"
    ):
        read_keras(tmp_path / "n.keras")


def test_a_file_that_names_no_layer_is_refused_with_advice(h5py, path):
    with h5py.File(path, "w") as file:
        numbered(file, "layers/conv2d", "", np.ones(1))
    with pytest.raises(CheckpointError) as error:
        read_keras(path)
    assert str(error.value) == (
        f"{path}: is in the first form of the Keras 3 format, which numbers layers instead of "
        "naming them (layers/conv2d); load the model in Keras and save it as .h5"
    )


def test_something_else_or_a_cut_file_is_refused(h5py, path):
    with h5py.File(path, "w") as file:
        file["fc1/fc1/kernel:0"] = np.ones((100, 100))
    whole = path.read_bytes()
    for data in (b"hello", whole[: len(whole) // 2], whole[:8]):
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match="w.h5: is not a readable Keras file: "):
            read_keras(path)
