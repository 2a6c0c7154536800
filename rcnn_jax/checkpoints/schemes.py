"""Conversion of weights from the names and layouts of other projects.

Ours are those of the original (docs/reference/faster_rcnn.md, "Names of layers";
docs/reference/mask_rcnn.md, "Names of layers") with
`kernel` HWIO, background last, deltas (dy, dx, dh, dw) and features flattened H, W, C. Weights are
reordered here and nowhere else. Arrays are untrusted: one whose shape cannot be reordered stays as it is
and will fit no layer.
"""

import re
from collections.abc import Mapping

import numpy as np

Weights = dict[str, dict[str, np.ndarray]]
"""{layer: {leaf: array}}; leaves: kernel, bias, gamma, beta, moving_mean, moving_variance."""

FPN_CHANNELS = 256
VGG_CHANNELS = 512

DEPTHWISE = re.compile("depthwise|conv_dw|dwconv")
"""Finds the names of depthwise convolutions of all families."""

_BACKGROUND_FIRST = ("class-predict", "box-predict", "mask_fcn_logits")


def by_layer(arrays: Mapping[str, np.ndarray]) -> Weights:
    """Splits flat names (`params/conv1/kernel`, `conv1/kernel:0`) at their last slash."""
    layers: Weights = {}
    for name, array in arrays.items():
        path = re.sub(r"^(params|batch_stats)/", "", name.removesuffix(":0"))
        layer, _, leaf = path.rpartition("/")
        layers.setdefault(layer, {})[leaf] = array
    return layers


def from_keras(layers: Weights) -> Weights:
    """Brings layouts and orders of a Keras model of the original into ours.

    MobileNet v2 of keras.applications differs from the original in the case of its names only.
    """
    if "bn_Conv1" in layers:
        layers = {name.lower(): leaves for name, leaves in layers.items()}
    result: Weights = {}
    for name, leaves in layers.items():
        # The prefix is from Keras 2; Keras 3 has none.
        leaves = {leaf.removeprefix("depthwise_"): array for leaf, array in leaves.items()}
        # Keras has (h, w, out, in) in transposed and (h, w, in, 1) in depthwise convolutions.
        swapped = name == "conv5-mask" or DEPTHWISE.search(name)
        if swapped and "kernel" in leaves and leaves["kernel"].ndim == 4:
            leaves["kernel"] = leaves["kernel"].swapaxes(2, 3)
        result[name] = leaves
    # The original runs channels first, so it flattens C, H, W before these products.
    # Names of this form are the original's own; keras.applications flattens H, W, C already.
    if "block_1a_conv_1" in result:
        rows_to_channels_last(result, "fc6", FPN_CHANNELS)
        rows_to_channels_last(result, "fc1", VGG_CHANNELS)
    for name in ("rpn_out_regress", "dense_regress_td"):
        if name in result:
            result[name] = y_first(result[name])
    return background_last(result)


def background_last(weights: Weights) -> Weights:
    """Moves background from first to last in the predictors of Mask R-CNN.

    `class-predict` and `mask_fcn_logits` have n+1 columns, `box-predict` 4(n+1).
    """
    result = dict(weights)
    for name in _BACKGROUND_FIRST:
        if name in result:
            step = 4 if name == "box-predict" else 1
            leaves = result[name].items()
            result[name] = {k: np.roll(a, -step, axis=-1) if a.ndim else a for k, a in leaves}
    return result


def y_first(leaves: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """(dx, dy, dw, dh) -> (dy, dx, dh, dw) in a layer that predicts deltas.

    Faster R-CNN of the original and torchvision put x first, Mask R-CNN of the original y.
    """
    return {
        leaf: a.reshape(*a.shape[:-1], a.shape[-1] // 4, 4)[..., [1, 0, 3, 2]].reshape(a.shape)
        if a.ndim and a.shape[-1] % 4 == 0
        else a
        for leaf, a in leaves.items()
    }


def rows_to_channels_last(weights: Weights, name: str, channels: int) -> None:
    """Reorders the rows of a product from C, H, W to H, W, C, in place."""
    kernel = weights.get(name, {}).get("kernel")
    if kernel is None or kernel.ndim != 2 or kernel.shape[0] % channels:
        return
    side = round((kernel.shape[0] // channels) ** 0.5)
    if channels * side * side == kernel.shape[0]:
        cells = kernel.reshape(channels, side, side, kernel.shape[1]).transpose(1, 2, 0, 3)
        weights[name] = {**weights[name], "kernel": cells.reshape(kernel.shape)}


def folded_batch_norm(bias: np.ndarray, bn_eps: float) -> dict[str, np.ndarray]:
    """A batch norm that only adds `bias`: its scale is gamma / sqrt(variance + eps) = 1."""
    ones = np.ones_like(bias)
    return {
        "gamma": ones,
        "beta": bias,
        "moving_mean": np.zeros_like(bias),
        "moving_variance": ones * (1.0 - bn_eps),
    }
