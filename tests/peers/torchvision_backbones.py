"""torchvision's classifiers with our weights: both list their layers in the same order."""

from functools import cache
from typing import Any

import numpy as np

from benchmarks.torchvision_peer import import_torch, import_torchvision
from tests.reference.backbone_cases import Case, published_layers


@cache
def _networks() -> dict[str, Any]:
    models = import_torchvision().models
    return {
        "resnet:18": models.resnet18,
        "resnet:34": models.resnet34,
        "resnet:50": models.resnet50,
        "resnet:101": models.resnet101,
        "vgg:16": models.vgg16_bn,
        "vgg:19": models.vgg19_bn,
        "googlenet": lambda: models.googlenet(aux_logits=False, init_weights=False),
        "mobilenet_v2": models.mobilenet_v2,
    }


def build(arch: str) -> Any:
    """The classifier, changed where it is known to differ from the published network.

    VGG: the first dense layer looks at 2 x 2 cells instead of 7 x 7. GoogLeNet: its third branch has
    3 x 3 kernels by mistake and its stem pools over 3 x 3. MobileNet v2: clips its ReLU at 6.
    """
    nn = import_torch().nn
    network = _networks()[arch]().eval()
    if arch.startswith("vgg"):
        network.avgpool = nn.Identity()
        network.classifier[0] = nn.Linear(4 * 512, 4096)
    if arch == "googlenet":
        for name in ("maxpool1", "maxpool2", "maxpool3"):
            setattr(network, name, nn.MaxPool2d(2, 2))
        for name, block in network.named_children():
            if name.startswith("inception"):
                old = block.branch3[1].conv
                block.branch3[1].conv = nn.Conv2d(
                    old.in_channels, old.out_channels, 5, padding=2, bias=False
                )
    if arch == "mobilenet_v2":
        for block in network.modules():
            for name, child in block.named_children():
                if isinstance(child, nn.ReLU6):
                    setattr(block, name, nn.ReLU())
    return network


def layers(network: Any) -> list[Any]:
    """Convolutions, batch norms and dense layers in order, without the last dense layer."""
    nn = import_torch().nn
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)
    return [module for module in network.modules() if isinstance(module, kinds)][:-1]


def layer_shapes(network: Any) -> list[dict[str, tuple[int, ...]]]:
    """Leaves of every layer in our words and layouts."""
    return [_shapes(layer) for layer in layers(network)]


def features(case: Case, variables: dict, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features of stride 16, NHWC, and the vectors before the last dense layer."""
    torch = import_torch()
    network = build(case.arch)
    names = list(published_layers(case.network()))
    for name, layer in zip(names, layers(network), strict=True):
        leaves = {**variables["params"][name], **variables.get("batch_stats", {}).get(name, {})}
        with torch.no_grad():
            for ours, theirs in _leaves(layer).items():
                theirs.copy_(torch.from_numpy(_to_torch(name, ours, leaves[ours])))
    seen = {}
    trunk_end, vector_end = _ends(network, case.arch)
    trunk_end.register_forward_hook(lambda module, given, made: seen.update(trunk=made))
    vector_end.register_forward_hook(lambda module, given, made: seen.update(vector=made))
    with torch.no_grad():
        network(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()))
    return seen["trunk"].numpy().transpose(0, 2, 3, 1), seen["vector"].flatten(1).numpy()


def _ends(network: Any, arch: str) -> tuple[Any, Any]:
    """The modules whose results are the trunk and the vector."""
    if arch.startswith("resnet"):
        return network.layer3, network.avgpool
    if arch.startswith("vgg"):
        return network.features[-2], network.classifier[4]
    if arch == "googlenet":
        return network.inception4e, network.avgpool
    # MobileNet v2 takes its mean without a module; its dropout is the first to see the vector.
    return network.features[13], network.classifier[0]


def _leaves(layer: Any) -> dict[str, Any]:
    if hasattr(layer, "running_mean"):
        return {
            "gamma": layer.weight,
            "beta": layer.bias,
            "moving_mean": layer.running_mean,
            "moving_variance": layer.running_var,
        }
    leaves = {"kernel": layer.weight}
    return leaves if layer.bias is None else {**leaves, "bias": layer.bias}


def _shapes(layer: Any) -> dict[str, tuple[int, ...]]:
    shapes = {name: tuple(leaf.shape) for name, leaf in _leaves(layer).items()}
    for name in ("moving_mean", "moving_variance"):
        shapes.pop(name, None)
    if "kernel" in shapes:
        out, inner, *sides = shapes["kernel"]
        shapes["kernel"] = (*sides, inner, out)
    return shapes


def _to_torch(name: str, leaf: str, value: np.ndarray) -> np.ndarray:
    if leaf != "kernel":
        return value
    if value.ndim == 4:
        return value.transpose(3, 2, 0, 1).copy()
    if name == "fc1":  # the flattened crop: H, W, C here, C, H, W there
        value = value.reshape(2, 2, -1, value.shape[1]).transpose(2, 0, 1, 3)
        value = value.reshape(-1, value.shape[-1])
    return value.T.copy()
