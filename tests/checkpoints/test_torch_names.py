import numpy as np
import pytest

from rcnn_jax.checkpoints.torch_names import from_flat, from_torch


def conv(out: int, inside: int, side: int = 1) -> np.ndarray:
    return np.arange(out * inside * side * side, dtype=np.float32).reshape(out, inside, side, side)


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.body.", "module.backbone.body."])
def test_layouts_are_transposed_and_wrappers_dropped(prefix):
    kernel = conv(4, 3, 2)
    ours = from_torch(
        {
            f"{prefix}conv1.weight": kernel,
            f"{prefix}bn1.weight": np.ones(4),
            f"{prefix}bn1.bias": np.zeros(4),
            f"{prefix}bn1.running_mean": np.full(4, 2.0),
            f"{prefix}bn1.running_var": np.full(4, 3.0),
            f"{prefix}bn1.num_batches_tracked": np.asarray(5),
            f"{prefix}fc.weight": np.arange(6).reshape(2, 3),
            f"{prefix}fc.bias": np.arange(2),
        }
    )
    assert sorted(ours) == ["bn_conv1", "conv1", "fc"]
    assert ours["conv1"]["kernel"].shape == (2, 2, 3, 4)
    assert ours["conv1"]["kernel"][0, 1, 2, 3] == kernel[3, 2, 0, 1]
    assert sorted(ours["bn_conv1"]) == ["beta", "gamma", "moving_mean", "moving_variance"]
    assert ours["fc"]["kernel"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_heads_of_torchvision_get_our_orders():
    ours = from_torch(
        {
            "roi_heads.box_predictor.cls_score.bias": np.asarray([0, 1, 2]),
            "roi_heads.box_predictor.bbox_pred.bias": np.arange(12),
            "rpn.head.bbox_pred.bias": np.arange(4),
            "roi_heads.mask_predictor.conv5_mask.weight": conv(2, 3, 2),
        }
    )
    assert ours["class-predict"]["bias"].tolist() == [1, 2, 0]
    assert ours["box-predict"]["bias"].tolist() == [5, 4, 7, 6, 9, 8, 11, 10, 1, 0, 3, 2]
    assert ours["rpn-box"]["bias"].tolist() == [1, 0, 3, 2]
    # in, out, k, k -> k, k, in, out
    assert ours["conv5-mask"]["kernel"][1, 0, 1, 2] == conv(2, 3, 2)[1, 2, 1, 0]


def vgg(batch_norm: bool) -> dict[str, np.ndarray]:
    arrays, number = {}, 0
    for repeats in (2, 2, 3, 3, 3):
        for _ in range(repeats):
            arrays[f"features.{number}.weight"] = conv(2, 2)
            arrays[f"features.{number}.bias"] = np.full(2, 0.5)
            if batch_norm:
                for leaf in ("weight", "bias", "running_mean", "running_var"):
                    arrays[f"features.{number + 1}.{leaf}"] = np.full(2, 3.0)
            number += 3 if batch_norm else 2
        number += 1  # the pooling
    return {**arrays, "classifier.0.weight": np.zeros((3, 512)), "classifier.0.bias": np.zeros(3)}


def test_vgg_layers_are_named_by_their_order():
    ours = from_torch(vgg(batch_norm=False))
    units = ["1a", "1b", "2a", "2b", "3a", "3b", "3c", "4a", "4b", "4c", "5a", "5b", "5c"]
    layers = [f"block_{unit}_{kind}_1" for unit in units for kind in ("conv", "bn")]
    plain = [f"block{u[0]}_conv{'abc'.index(u[1]) + 1}" for u in units]
    assert sorted(ours) == sorted([*layers, *plain, "fc1"])
    assert ours["block3_conv3"]["bias"].tolist() == [0.5, 0.5]
    assert list(ours["block_3c_conv_1"]) == ["kernel"]
    assert ours["block_3c_bn_1"]["beta"].tolist() == [0.5, 0.5]


def test_a_bias_before_a_batch_norm_shifts_its_mean():
    # gamma * (x + 0.5 - 3) = gamma * (x - 2.5)
    assert from_torch(vgg(batch_norm=True))["block_5c_bn_1"]["moving_mean"].tolist() == [2.5, 2.5]


def folded(kinds: str) -> dict[str, np.ndarray]:
    arrays = {"spec": np.asarray(0.0)}
    for number, letter in enumerate(kinds):
        stem = f"{number:02d}_{'conv' if letter == 'c' else 'depthwise'}"
        arrays[f"{stem}.w"] = conv(2, 1, 3)
        arrays[f"{stem}.b"] = np.full(2, float(number))
    return arrays


def test_folded_mobilenet_v1_is_named_by_order():
    ours = from_flat(folded("c" + "dc" * 2))
    convs = ["conv1", "conv_dw_1", "conv_pw_1", "conv_dw_2", "conv_pw_2"]
    assert sorted(ours) == sorted([*convs, *(f"{name}_bn" for name in convs)])
    assert ours["conv_pw_2_bn"]["beta"].tolist() == [4.0, 4.0]
    assert ours["conv_dw_1"]["kernel"].shape == (3, 3, 1, 2)
    assert ours["conv1_bn"]["moving_variance"].tolist() == [0.999, 0.999]


def test_folded_mobilenet_v2_is_named_by_order():
    ours = from_flat(folded("cdc" + "cdc" * 2 + "cc"))
    assert ours["bn_conv1"]["beta"][0] == 0
    assert ours["expanded_conv_depthwise_bn"]["beta"][0] == 1
    assert ours["block_1_expand_bn"]["beta"][0] == 3
    assert ours["block_2_project_bn"]["beta"][0] == 8
    assert ours["conv_1_bn"]["beta"][0] == 9
    assert ours["predictions_bn"]["beta"][0] == 10


def test_our_own_flat_names_are_taken_as_they_are_and_keras_ones_reordered():
    bias = np.asarray([0, 1, 2])
    assert from_flat({"params/class-predict/bias": bias})["class-predict"]["bias"][0] == 0
    assert from_flat({"class-predict/bias:0": bias})["class-predict"]["bias"][0] == 1


def test_the_first_unit_of_a_small_resnet_passes_its_input_on():
    rng = np.random.default_rng(0)
    arrays = {"conv1.weight": rng.normal(size=(64, 3, 7, 7))}
    for index in (1, 2):
        arrays[f"layer1.0.conv{index}.weight"] = rng.normal(size=(64, 64, 3, 3))
    weights = from_torch(arrays, bn_eps=1e-3)
    kernel = weights["block_1a_conv_shortcut"]["kernel"]
    np.testing.assert_array_equal(kernel[0, 0], np.eye(64))
    norm = weights["block_1a_bn_shortcut"]
    np.testing.assert_allclose(
        norm["gamma"] / np.sqrt(norm["moving_variance"] + 1e-3), 1.0, rtol=1e-6
    )
    assert not norm["beta"].any() and not norm["moving_mean"].any()
