import numpy as np

from rcnn_jax.checkpoints.schemes import (
    background_last,
    by_layer,
    folded_batch_norm,
    from_keras,
    rows_to_channels_last,
    y_first,
)


def test_flat_names_split_at_the_last_slash_and_statistics_join_their_layer():
    assert by_layer({"params/a/gamma": 1, "batch_stats/a/moving_mean": 2, "b/kernel:0": 3}) == {
        "a": {"gamma": 1, "moving_mean": 2},
        "b": {"kernel": 3},
    }


def test_background_moves_from_first_to_last():
    weights = {
        "class-predict": {"kernel": np.asarray([[0, 1, 2]]), "bias": np.asarray([0, 1, 2])},
        "box-predict": {"bias": np.asarray([0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23])},
        "mask_fcn_logits": {"kernel": np.arange(6).reshape(1, 1, 2, 3)},
        "fc7": {"bias": np.asarray([0, 1, 2])},
    }
    moved = background_last(weights)
    assert moved["class-predict"]["kernel"].tolist() == [[1, 2, 0]]
    assert moved["class-predict"]["bias"].tolist() == [1, 2, 0]
    assert moved["box-predict"]["bias"].tolist() == [10, 11, 12, 13, 20, 21, 22, 23, 0, 1, 2, 3]
    assert moved["mask_fcn_logits"]["kernel"].tolist() == [[[[1, 2, 0], [4, 5, 3]]]]
    assert moved["fc7"]["bias"].tolist() == [0, 1, 2]


def test_deltas_become_y_first_per_box():
    leaves = {"bias": np.arange(8), "kernel": np.arange(8).reshape(1, 8)}
    swapped = [1, 0, 3, 2, 5, 4, 7, 6]
    assert y_first(leaves)["bias"].tolist() == swapped
    assert y_first(leaves)["kernel"].tolist() == [swapped]


def test_rows_read_the_same_features_after_reordering():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 2, 3))  # h w c
    kernel = rng.normal(size=(12, 4))
    weights = {"fc": {"kernel": kernel, "bias": np.zeros(4)}}
    rows_to_channels_last(weights, "fc", 3)
    expected = features.transpose(2, 0, 1).reshape(-1) @ kernel
    np.testing.assert_allclose(features.reshape(-1) @ weights["fc"]["kernel"], expected)


def test_rows_of_another_width_stay_as_they_are():
    weights = {"fc": {"kernel": np.arange(14.0).reshape(14, 1)}}
    for channels in (3, 7):
        rows_to_channels_last(weights, "fc", channels)
    assert weights["fc"]["kernel"][:, 0].tolist() == list(range(14))


def test_a_folded_batch_norm_only_adds_its_bias():
    bias, eps = np.asarray([0.5, -2.0]), 1e-3
    norm = folded_batch_norm(bias, eps)
    x = np.asarray([3.0, 4.0])
    scale = norm["gamma"] / np.sqrt(norm["moving_variance"] + eps)
    np.testing.assert_allclose((x - norm["moving_mean"]) * scale + norm["beta"], x + bias)


def test_keras_layouts_are_ours_after_import():
    depthwise = np.arange(12).reshape(2, 2, 3, 1)
    transposed = np.arange(24).reshape(2, 2, 3, 2)  # k k out in
    ours = from_keras(
        {
            "conv_dw_1": {"depthwise_kernel": depthwise},
            "conv5-mask": {"kernel": transposed},
            "class-predict": {"bias": np.asarray([0, 1, 2])},
            "rpn_out_regress": {"bias": np.asarray([0, 1, 2, 3])},
            "rpn-box": {"bias": np.asarray([0, 1, 2, 3])},
        }
    )
    assert list(ours["conv_dw_1"]) == ["kernel"]
    np.testing.assert_array_equal(ours["conv_dw_1"]["kernel"][..., 0, :], depthwise[..., 0])
    assert ours["conv5-mask"]["kernel"][1, 0, 1, 2] == transposed[1, 0, 2, 1]
    assert ours["class-predict"]["bias"].tolist() == [1, 2, 0]
    assert ours["rpn_out_regress"]["bias"].tolist() == [1, 0, 3, 2]
    assert ours["rpn-box"]["bias"].tolist() == [0, 1, 2, 3]


def test_dense_layers_of_the_original_read_channels_first():
    kernel = np.arange(256.0 * 4).reshape(-1, 1)
    ours = from_keras({"block_1a_conv_1": {}, "fc6": {"kernel": kernel}})
    assert ours["fc6"]["kernel"][:3, 0].tolist() == [0.0, 4.0, 8.0]
    assert from_keras({"fc6": {"kernel": kernel}})["fc6"]["kernel"][1, 0] == 1.0
