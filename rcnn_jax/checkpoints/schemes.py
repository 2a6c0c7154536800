"""From the names and layouts of other projects to ours.

Ours are those of the original (Faster R-CNN facts section 4.1, Mask R-CNN facts section 3) with
`kernel` HWIO, background last, deltas (dy, dx, dh, dw) and features flattened H, W, C. What is
reordered on the way in is reordered here and nowhere else.
"""

import re
from collections.abc import Callable, Mapping

import numpy as np

Weights = dict[str, dict[str, np.ndarray]]

LEAVES = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")
FPN_CHANNELS = 256
VGG_CHANNELS = 512
VGG_REPEATS = {8: (1, 1, 2, 2, 2), 10: (2,) * 5, 13: (2, 2, 3, 3, 3), 16: (2, 2, 4, 4, 4)}

_BACKGROUND_FIRST = ("class-predict", "box-predict", "mask_fcn_logits")
_BOX_LAYERS = ("rpn_out_regress", "dense_regress_td", "rpn-box", "box-predict")
_TORCH_LEAF = re.compile(r"\.(weight|bias|running_mean|running_var)$")
_FOLDED = re.compile(r"^\d+_(conv|depthwise)\.[wb]$")


def from_flat(arrays: Mapping[str, np.ndarray], bn_eps: float = 1e-3) -> Weights:
    """Sorts flat names into layers, whatever project they come from.

    Understood are our own bundles' names (`params/conv1/kernel`), Keras' (`conv1/kernel:0`),
    torchvision's and timm's (`layer1.0.conv1.weight`), and numbered convolutions with folded batch
    norm (`00_conv.w`). Names that nothing is known about stay as they are.

    Args:
      arrays: {name: array}.
      bn_eps: epsilon of the model's batch norm, for folded files.
    """
    if any(name.startswith("params/") for name in arrays):
        return _by_layer(arrays)
    if any(_FOLDED.match(name) for name in arrays):
        return _from_folded(arrays, bn_eps)
    if any(_TORCH_LEAF.search(name) for name in arrays):
        return from_torch(arrays, bn_eps)
    return from_keras(_by_layer(arrays))


def _by_layer(arrays: Mapping[str, np.ndarray]) -> Weights:
    layers: Weights = {}
    for name, array in arrays.items():
        path = re.sub(r"^(params|batch_stats)/", "", name.removesuffix(":0"))
        layer, _, leaf = path.rpartition("/")
        layers.setdefault(layer, {})[leaf] = array
    return layers


def from_keras(layers: Weights) -> Weights:
    """Brings layouts and orders of a Keras model of the original into ours."""
    result: Weights = {}
    for name, leaves in layers.items():
        leaves = dict(leaves)
        if "depthwise_kernel" in leaves:
            leaves["kernel"] = leaves.pop("depthwise_kernel").swapaxes(2, 3)
        if name == "conv5-mask":
            leaves["kernel"] = leaves["kernel"].swapaxes(2, 3)
        result[name] = leaves
    # The original computes channels first, so these products read C, H, W.
    if "block_1a_conv_1" in result:
        _rows_to_channels_last(result, "fc6", FPN_CHANNELS)
        _rows_to_channels_last(result, "fc1", VGG_CHANNELS)
    return background_last(_boxes_y_first(result))


def background_last(weights: Weights) -> Weights:
    """Moves background from first to last in the predictors of Mask R-CNN.

    `class-predict` and `mask_fcn_logits` have n+1 columns, `box-predict` 4(n+1).
    """
    result = dict(weights)
    for name in _BACKGROUND_FIRST:
        if name in result:
            step = 4 if name == "box-predict" else 1
            result[name] = {k: np.roll(a, -step, axis=-1) for k, a in result[name].items()}
    return result


def _boxes_y_first(weights: Weights) -> Weights:
    """(dx, dy, dw, dh) -> (dy, dx, dh, dw) in the layers that predict deltas.

    The deltas of Mask R-CNN are y first in the original too; only those of torchvision are not.
    """
    return {
        name: _swap_xy(leaves) if name in _BOX_LAYERS[:2] else leaves
        for name, leaves in weights.items()
    }


def _swap_xy(leaves: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        leaf: a.reshape(*a.shape[:-1], -1, 4)[..., [1, 0, 3, 2]].reshape(a.shape)
        for leaf, a in leaves.items()
    }


def _rows_to_channels_last(weights: Weights, name: str, channels: int) -> None:
    """Reorders the rows of a product from C, H, W to H, W, C, in place."""
    kernel = weights.get(name, {}).get("kernel")
    if kernel is None or kernel.shape[0] % channels:
        return
    side = round((kernel.shape[0] // channels) ** 0.5)
    if channels * side * side == kernel.shape[0]:
        cells = kernel.reshape(channels, side, side, -1).transpose(1, 2, 0, 3)
        weights[name] = {**weights[name], "kernel": cells.reshape(kernel.shape)}


def from_torch(arrays: Mapping[str, np.ndarray], bn_eps: float = 1e-3) -> Weights:
    """Renames and transposes the state dict of a torchvision or timm model.

    Known are ResNet (both), Faster and Mask R-CNN with ResNet-FPN, MobileNetV2 and VGG
    (torchvision), EfficientNet (timm).

    Args:
      arrays: {name: array} of a state dict.
      bn_eps: epsilon of the model's batch norm, where the file has none.
    """
    modules: Weights = {}
    for name, array in arrays.items():
        match = _TORCH_LEAF.search(name)
        if match:
            module = re.sub(r"^(module\.|backbone\.body\.|_orig_mod\.)+", "", name[: match.start()])
            modules.setdefault(module, {})[match[1]] = array
    rename = _namer(modules)
    result: Weights = {}
    for module, leaves in modules.items():
        result[rename(module)] = _torch_leaves(module, leaves)
    if rename.__name__ == "_vgg":
        _absorb_biases(result, bn_eps)
        _rows_to_channels_last(result, "fc1", VGG_CHANNELS)
    _rows_to_channels_last(result, "fc6", FPN_CHANNELS)
    for name in _BOX_LAYERS[2:]:
        if name in result:
            result[name] = _swap_xy(result[name])
    return background_last(result)
