"""Classifiers of keras.applications with our weights: their layers carry our names."""

import importlib
import re
import warnings
from functools import cache
from typing import Any

import numpy as np

from tests.reference.backbone_cases import Case

TRUNK_ENDS = {
    "resnet:50": "conv4_block6_out",
    "resnet101": "conv4_block23_out",
    "vgg16": "block5_conv3",
    "mobilenet_v1": "conv_pw_11_relu",
}
"""Layers whose results are our trunks."""


@cache
def import_keras() -> Any:
    """Returns Keras on TensorFlow, whose imports warn of things that are not ours to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("keras")


def build(arch: str, size: tuple[int, int] = (64, 64)) -> Any:
    """The classifier for images of a size, without weights of its own.

    MobileNet v1 clips its ReLU at 6; ours and the original's do not.
    """
    applications = import_keras().applications
    makers = {
        "resnet:50": applications.ResNet50,
        "resnet101": applications.ResNet101,
        "vgg16": applications.VGG16,
        "mobilenet_v1": applications.MobileNet,
    }
    if arch.startswith("efficientnet:"):
        makers[arch] = getattr(applications, f"EfficientNet{arch[-2:].upper()}")
    network = makers[arch](weights=None, input_shape=(*size, 3), classes=10)
    if arch == "mobilenet_v1":
        for layer in network.layers:
            if isinstance(layer, import_keras().layers.ReLU):
                layer.max_value = None
    return network


def layer_shapes(network: Any, arch: str) -> dict[str, dict[str, tuple[int, ...]]]:
    """{our layer: {our leaf: shape}}, without the last dense layer and what is not trained."""
    return {
        our_name(layer.name, arch): {
            leaf: _to_ours(layer.name, np.empty(variable.shape, bool), flip=False).shape
            for leaf, variable in _leaves(layer).items()
            if not leaf.startswith("moving")
        }
        for layer in _layers(network)
    }


def features(case: Case, variables: dict, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features of stride 16 and the vectors before the last dense layer.

    Keras pads MobileNet v1 at the bottom and right only. On even sizes that is what ours does to a
    mirrored image with mirrored kernels, so image, kernels and features are turned around.
    """
    keras, flip = import_keras(), case.arch == "mobilenet_v1"
    network = build(case.arch, case.size)
    for layer in _layers(network):
        name = our_name(layer.name, case.arch)
        leaves = {**variables["params"][name], **variables.get("batch_stats", {}).get(name, {})}
        for leaf, variable in _leaves(layer).items():
            variable.assign(_to_keras(layer.name, leaves[leaf], flip))
    before = network.get_layer("stem_conv_pad").input if "efficient" in case.arch else network.input
    end = TRUNK_ENDS.get(case.arch) or _last_of_group_5(network)
    trunk_end, vector_end = network.get_layer(end).output, _vector(network)
    trunk, vector = keras.Model(before, [trunk_end, vector_end])(
        np.ascontiguousarray(pixels[:, ::-1, ::-1] if flip else pixels), training=False
    )
    trunk = np.asarray(trunk)
    return trunk[:, ::-1, ::-1] if flip else trunk, np.asarray(vector).reshape(len(pixels), -1)


def our_name(name: str, arch: str) -> str:
    """Our name of a layer: Keras' own, but for `resnet:50`, which follows the template."""
    if arch != "resnet:50":
        return name
    if name.startswith("conv1_"):
        return {"conv1_conv": "conv1", "conv1_bn": "bn_conv1"}[name]
    match = re.fullmatch(r"conv(\d)_block(\d)_(\d)_(conv|bn)", name)
    assert match, name
    block, unit, index, kind = (
        int(match[1]) - 1,
        chr(ord("a") + int(match[2]) - 1),
        *match.group(3, 4),
    )
    return f"block_{block}{unit}_{kind}_{'shortcut' if index == '0' else index}"


def _layers(network: Any) -> list[Any]:
    skipped = ("predictions", "conv_preds", "normalization")
    return [
        layer for layer in network.layers if layer.weights and not layer.name.startswith(skipped)
    ]


def _leaves(layer: Any) -> dict[str, Any]:
    return {variable.name.replace("depthwise_", ""): variable for variable in layer.weights}


def _is_depthwise(name: str) -> bool:
    return "conv_dw_" in name or name.endswith("dwconv")


def _to_ours(name: str, value: np.ndarray, flip: bool) -> np.ndarray:
    if value.ndim != 4:
        return value
    value = value.swapaxes(2, 3) if _is_depthwise(name) else value
    return value[::-1, ::-1] if flip else value


_to_keras = _to_ours
"""Swapping two axes and turning a kernel around are their own inverses."""


def _last_of_group_5(network: Any) -> str:
    """The end of EfficientNet's group 5: what its first block of group 6 reads."""
    return network.get_layer("block6a_expand_conv").input._keras_history.operation.name


def _vector(network: Any) -> Any:
    """What enters the last dense layer or convolution, dropout left out."""
    for name in ("fc2", "avg_pool", "global_average_pooling2d"):
        for layer in network.layers:
            if layer.name.startswith(name):
                return layer.output
    raise AssertionError("no vector found")
