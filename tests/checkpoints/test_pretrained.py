import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from rcnn_jax.checkpoints.bundle import Bundle, write_bundle
from rcnn_jax.checkpoints.pretrained import (
    apply_weights,
    check_coverage,
    likely_scheme,
    load_weights,
    skip_matching,
    status_table,
)
from rcnn_jax.errors import CheckpointError
from tests.checkpoints.headers import MODEL_HEADER

PARAMS = {
    "conv1": {"kernel": jnp.zeros((3, 3, 3, 4))},
    "bn_conv1": {"gamma": jnp.ones(4), "beta": jnp.zeros(4)},
    "fc1": {"kernel": jnp.zeros((4, 2)), "bias": jnp.zeros(2)},
}
STATS = {"bn_conv1": {"moving_mean": jnp.zeros(4), "moving_variance": jnp.ones(4)}}
FILE = {
    "conv1": {"kernel": np.full((3, 3, 3, 4), 2.0)},
    "bn_conv1": {
        "gamma": np.full(4, 3.0),
        "beta": np.full(4, 4.0),
        "moving_mean": np.full(4, 5.0),
        "moving_variance": np.full(4, 6.0),
    },
    "fc1": {"kernel": np.full((4, 3), 7.0), "bias": np.full(3, 8.0)},
    "fc1000": {"kernel": np.zeros((2, 2))},
}


def statuses(loaded) -> dict[str, str]:
    return {row.layer: row.status for row in loaded.rows}


def message(call, *arguments) -> str:
    with pytest.raises(CheckpointError) as error:
        call(*arguments)
    return str(error.value)


def test_layers_that_fit_are_filled_whole_and_others_not_at_all():
    loaded = apply_weights(PARAMS, STATS, FILE)
    assert statuses(loaded) == {"conv1": "Yes", "bn_conv1": "Yes", "fc1": "No"}
    assert loaded.params["conv1"]["kernel"][0, 0, 0, 0] == 2.0
    assert loaded.params["bn_conv1"]["beta"][0] == 4.0
    assert loaded.batch_stats["bn_conv1"]["moving_variance"][0] == 6.0
    assert loaded.params["fc1"]["bias"].tolist() == [0.0, 0.0]
    assert loaded.params["conv1"]["kernel"].dtype == np.float32


@pytest.mark.parametrize(
    "leaves",
    [
        {"kernel": np.zeros((4, 2))},
        {"kernel": np.zeros((4, 2)), "bias": np.zeros(2), "extra": np.zeros(1)},
        {"kernel": np.zeros((4, 2)), "bias": np.zeros((2, 1))},
    ],
)
def test_a_layer_with_missing_surplus_or_misshaped_leaves_is_left_out(leaves):
    assert statuses(apply_weights(PARAMS, STATS, {"fc1": leaves}))["fc1"] == "No"


def test_coverage_is_the_fraction_of_expected_parameters():
    # conv1 108, bn_conv1 16 of 108 + 16 + 10
    assert apply_weights(PARAMS, STATS, FILE).coverage == pytest.approx(124 / 134)
    assert apply_weights(PARAMS, STATS, FILE, expected={"conv1", "bn_conv1"}).coverage == 1.0
    assert apply_weights(PARAMS, STATS, FILE, expected={"fc1"}).coverage == 0.0
    assert apply_weights(PARAMS, STATS, {}).coverage == 0.0


def test_given_layers_decide_the_order_and_bring_those_without_weights():
    loaded = apply_weights(PARAMS, STATS, FILE, layers=["fc1", "fc1_relu", "conv1"])
    assert loaded.rows == (
        ("fc1", "Dense", "No"),
        ("fc1_relu", "Activation", "None"),
        ("conv1", "Conv2D", "Yes"),
    )


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        ("block_1a_relu", "Activation"),
        ("b1_conv1_lrelu", "Activation"),
        ("conv1_pool", "MaxPooling2D"),
        ("avg_pool", "AveragePooling2D"),
        ("block1a_se_squeeze", "AveragePooling2D"),
        ("block1a_se_excite", "Multiply"),
        ("inception_3a_output", "Concatenate"),
        ("block_2_add", "Add"),
        ("b2_add1", "Add"),
        ("FPN_add_4", "Add"),
    ],
)
def test_classes_of_layers_without_weights_are_guessed_from_their_names(layer, kind):
    assert apply_weights(PARAMS, STATS, FILE, layers=[layer]).rows == ((layer, kind, "None"),)


def test_classes_are_guessed_from_the_leaves():
    params = {
        **PARAMS,
        "conv_dw_1": {"kernel": jnp.zeros((3, 3, 1, 4))},
        "conv5-mask": {"kernel": jnp.zeros((2, 2, 4, 4))},
    }
    kinds = {row.layer: row.kind for row in apply_weights(params, STATS, FILE).rows}
    assert kinds == {
        "conv1": "Conv2D",
        "bn_conv1": "BatchNormalization",
        "fc1": "Dense",
        "conv_dw_1": "DepthwiseConv2D",
        "conv5-mask": "Conv2DTranspose",
    }


def test_the_table_has_the_form_of_the_original():
    layers = ["relu", "conv1", "fc1"]
    lines = status_table(apply_weights(PARAMS, STATS, FILE, layers=layers)).splitlines()
    assert lines == [
        "=" * 99,
        "Pretrained weights loading status summary:",
        "None: the layer has no weights.",
        "Yes: the layer has weights and they were taken from the file.",
        "No: the layer has weights but the file has none of this name and shape.",
        "=" * 99,
        "Layer(Type):" + " " * 78 + "Status:",
        "-" * 99,
        "relu(Activation)" + " " * 74 + "None",
        "-" * 99,
        "conv1(Conv2D)" + " " * 77 + "Yes",
        "-" * 99,
        "fc1(Dense)" + " " * 80 + "No",
        "-" * 99,
    ]


def test_enough_coverage_is_silent():
    check_coverage(apply_weights(PARAMS, STATS, FILE), "w.npz", 0.9)
    check_coverage(apply_weights(PARAMS, STATS, {}), "w.npz", 0.0)


def test_too_little_coverage_names_the_shape_that_differs():
    loaded = apply_weights(PARAMS, STATS, {"conv1": {"kernel": np.zeros((7, 7, 3, 4))}})
    assert message(check_coverage, loaded, "w.npz", 0.5) == (
        "w.npz: fills 0% of the weights expected from it, at least 50% are wanted. "
        "conv1/kernel is [7, 7, 3, 4] in the file and [3, 3, 3, 4] in the model, so the file is of "
        "another network. Give a file of the same architecture, or lower min_pretrained_coverage "
        "to accept a random start"
    )


def test_too_little_coverage_names_the_likely_scheme():
    loaded = apply_weights(PARAMS, STATS, {"blocks.0.0.attn": {"kernel": np.zeros(1)}})
    assert (
        "at least 50% are wanted. Its names look like those of timm ('blocks.0.0.attn'), the "
        "model's are like 'conv1'. Give" in message(check_coverage, loaded, "w.npz", 0.5)
    )


def test_too_little_coverage_names_the_largest_missing_layer():
    loaded = apply_weights(PARAMS, STATS, {"bn_conv1": FILE["bn_conv1"]})
    assert "It lacks the layer 'conv1', among others. Give" in message(
        check_coverage, loaded, "w.npz", 0.5
    )


@pytest.mark.parametrize(
    ("names", "scheme"),
    [
        (["stages_0.blocks", "conv_stem"], "timm"),
        (["layer1.0.conv1"], "torchvision"),
        (["backbone.bottom_up.stem"], "detectron2"),
        (["block1_conv1", "conv2_block1_out"], "keras.applications"),
        (["ResNetBlock_0/Conv_0"], "Flax examples"),
        (["block_1a_conv_1"], "this project"),
        (["x", "y"], "an unknown project"),
        ([], "an unknown project"),
    ],
)
def test_naming_schemes_are_recognised(names, scheme):
    assert likely_scheme(names) == scheme


def test_layers_that_match_an_expression_are_skipped():
    assert sorted(skip_matching(FILE, "^fc|bn")) == ["conv1"]
    assert skip_matching(FILE, "") is FILE
    assert message(skip_matching, FILE, "(") == (
        "skip_checkpoint_variables: '(' is not a regular expression: "
        "missing ), unterminated subpattern at position 0"
    )


def test_a_bundle_returns_its_params_and_statistics(tmp_path):
    arrays = {
        "params/conv1/kernel": np.ones(2),
        "batch_stats/conv1/moving_mean": np.ones(3),
        "opt_state/0/conv1/kernel": np.ones(4),
    }
    write_bundle(tmp_path / "m.tlt", Bundle("mask_rcnn", MODEL_HEADER, arrays), "key")
    weights = load_weights(tmp_path / "m.tlt", "key")
    assert {leaf: a.shape for leaf, a in weights["conv1"].items()} == {
        "kernel": (2,),
        "moving_mean": (3,),
    }
    assert list(weights) == ["conv1"]


def test_npz_and_safetensors_give_the_same(tmp_path):
    arrays = {"conv1/kernel": np.ones((1, 1, 2, 3), np.float32), "fc1/bias": np.zeros(2)}
    np.savez(tmp_path / "w.npz", **arrays, spec=np.asarray("text"))
    safetensors.numpy.save_file(arrays, tmp_path / "w.safetensors")
    for name in ("w.npz", "w.safetensors"):
        weights = load_weights(tmp_path / name)
        assert sorted(weights) == ["conv1", "fc1"]
        np.testing.assert_array_equal(weights["conv1"]["kernel"], arrays["conv1/kernel"])


def test_unreadable_files_are_named(tmp_path):
    assert message(load_weights, "w.ckpt") == (
        "w.ckpt: pretrained weights are read from .tlt, .hdf5, .h5, .keras, .npz, .safetensors, "
        ".pth, .pt, .pkl, not from '.ckpt'"
    )
    missing = tmp_path / "w.npz"
    assert message(load_weights, missing) == f"{missing}: no such weights file; check the path"
    missing.write_bytes(b"PK\x03\x04nothing")
    assert message(load_weights, missing).startswith(
        f"{missing}: is not a readable .npz of plain arrays: "
    )
    with zipfile.ZipFile(missing, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, ")
    assert "'a.npy' is no array as NumPy writes them: " in message(load_weights, missing)
    tensors = tmp_path / "w.safetensors"
    tensors.write_bytes(b"hello")
    assert message(load_weights, tensors).startswith(f"{tensors}: is not readable as safetensors: ")


def test_objects_in_an_npz_are_never_unpickled(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.asarray([{}], object))
    assert "'a.npy' holds pickled objects" in message(load_weights, tmp_path / "w.npz")


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("mobilenet_v1_1.0_224_imagenet_notop.npz", 54),
        ("mobilenet_v2_1.0_224_imagenet.npz", 106),
    ],
)
def test_real_imagenet_backbones_are_read(shared, name, layers):
    weights = load_weights(shared / "data" / "weights" / name)
    assert len(weights) == layers
    assert weights["conv1"]["kernel"].shape == (3, 3, 3, 32)
