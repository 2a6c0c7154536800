"""Every classifier of `rcnn-jax weights list` in the shapes of torchvision's module: all of it is read.

    make test-peers

A row whose file were read in part would start a training from half a backbone, so none is listed.
"""

import re

import numpy as np
import pytest

from benchmarks.measure import PeerUnavailableError
from benchmarks.torchvision_peer import import_torch, import_torchvision
from rcnn_jax.checkpoints.published import PUBLISHED
from rcnn_jax.checkpoints.torch_names import from_flat
from rcnn_jax.models import BackboneOptions, FasterRcnn
from tests.models.tiny import variable_shapes

pytestmark = pytest.mark.peers

try:
    import_torchvision()
except PeerUnavailableError as error:
    pytest.skip(f"{error}; the peers' environment has it", allow_module_level=True)

ARCHS = {
    "resnet18": "resnet:18",
    "resnet34": "resnet:34",
    "resnet50": "resnet:50",
    "resnet101": "resnet:101",
    "mobilenet_v2": "mobilenet_v2",
    "vgg16": "vgg16",
    "vgg16_bn": "vgg:16",
    "vgg19": "vgg:19",
    "vgg19_bn": "vgg:19",
    "efficientnet_b0": "efficientnet:b0",
    "efficientnet_b1": "efficientnet:b1",
}
"""{torchvision's function: our backbone}."""
NAMES = [name for name in PUBLISHED if name.startswith("imagenet/")]
CLASSES = ("fc", "classifier.1", "classifier.6")
"""torchvision's layer of ImageNet's classes, which no detector has."""


PLAIN_VGG = ("vgg16", "vgg19")
SECOND_NAME = re.compile(r"block\d_conv\d|block_\d[a-d]_(conv|bn)_1")
"""Their layers have two names, for the backbone with batch norm and for the one without."""


def function_of(name: str) -> str:
    """torchvision's function of a row: the file is called after it."""
    file = PUBLISHED[name].url.rpartition("/")[2]
    return file.partition("-")[0].removesuffix("_rwightman")


def state_of(name: str) -> dict[str, np.ndarray]:
    """Zeros in the shapes of a state dict; a network of VGG has 140 million numbers."""
    with import_torch().device("meta"):
        network = getattr(import_torchvision().models, function_of(name))()
    return {
        leaf: np.broadcast_to(np.float32(1), tuple(tensor.shape))
        for leaf, tensor in network.state_dict().items()
        if not leaf.endswith("num_batches_tracked")
    }


def our_layers(arch: str) -> dict[str, dict[str, tuple[int, ...]]]:
    """{layer: {leaf: shape}} of the backbone."""
    options = BackboneOptions(use_pooling=True, all_projections=False)
    shapes = variable_shapes(FasterRcnn(arch, 3, 9, options=options))
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    for tree in shapes.values():
        for layer, leaves in tree.items():
            if not layer.startswith(("rpn_", "dense_")):
                layers.setdefault(layer, {}).update({n: leaf.shape for n, leaf in leaves.items()})
    return layers


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_of_a_listed_classifier_has_its_place(name):
    weights = from_flat(state_of(name))
    theirs = {
        layer: {leaf: array.shape for leaf, array in leaves.items()}
        for layer, leaves in weights.items()
    }
    ours = our_layers(ARCHS[function_of(name)])
    assert ours == {layer: leaves for layer, leaves in theirs.items() if layer in ours}
    unread = set(theirs) - set(ours) - set(CLASSES)
    if function_of(name) in PLAIN_VGG:
        unread = {layer for layer in unread if not SECOND_NAME.fullmatch(layer)}
    assert not unread
