"""The backbones that torchvision publishes: same layers, same weights in, same features out."""

import numpy as np
import pytest

from benchmarks.measure import PeerUnavailableError
from benchmarks.torchvision_peer import import_torchvision
from tests.models.backbones.test_published_features import close, golden
from tests.peers import torchvision_backbones as peer
from tests.reference.backbone_cases import (
    TORCHVISION_CASES,
    features,
    images,
    published_layers,
    sample,
    seeded_variables,
)

pytestmark = pytest.mark.peers

try:
    import_torchvision()
except PeerUnavailableError as error:
    pytest.skip(f"{error}; the peers' environment has it", allow_module_level=True)


@pytest.mark.parametrize("name", TORCHVISION_CASES)
def test_layers_have_the_shapes_of_torchvision_in_its_order(name):
    ours = published_layers(TORCHVISION_CASES[name].network())
    assert list(ours.values()) == peer.layer_shapes(peer.build(name))


@pytest.mark.parametrize("name", TORCHVISION_CASES)
def test_same_weights_give_the_features_of_torchvision(name):
    case = TORCHVISION_CASES[name]
    model, pixels = case.network(), images(case)
    variables = seeded_variables(model)
    ours, theirs = features(model, variables, pixels), peer.features(case, variables, pixels)
    for part, a, b in zip(("trunk", "vector"), ours, theirs, strict=True):
        close(a, b)
        close(sample(np.asarray(b)), golden()[f"{name}/{part}"])
