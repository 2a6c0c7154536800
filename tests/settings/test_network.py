"""Conventions of the networks: the constants that weights of each origin were trained with."""

import pytest

from rcnn_jax.settings.network import TAO_FRCNN, TAO_MRCNN, TORCHVISION, PixelSettings


def test_torchvision_differs_from_the_original_in_its_norm_and_its_strides():
    """PyTorch's BatchNorm2d: eps 1e-5, and momentum 0.1 of the new batch."""
    assert (TORCHVISION.bn_eps, TORCHVISION.bn_momentum) == (1e-5, 1 - 0.1)
    assert (TORCHVISION.stride_on, TAO_FRCNN.stride_on) == ("middle", "first")


def test_only_the_original_mask_rcnn_pads_as_tensorflow_does():
    assert [c.padding for c in (TAO_FRCNN, TAO_MRCNN, TORCHVISION)] == [
        "symmetric", "same", "symmetric",
    ]  # fmt: skip


@pytest.mark.parametrize(("order", "values"), [("rgb", (1.0, 2.0, 3.0)), ("l", (1.0,))])
def test_an_input_has_as_many_channels_as_means(order, values):
    assert PixelSettings(channel_order=order, mean=values, std=values).channels == len(values)
