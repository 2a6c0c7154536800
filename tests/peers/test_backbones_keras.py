"""The backbones that Keras publishes: same names and shapes, same weights in, same features out."""

import numpy as np
import pytest

from tests.models.backbones.test_published_features import close, golden
from tests.peers import keras_backbones as peer
from tests.reference.backbone_cases import (
    KERAS_CASES,
    SHAPES,
    TORCHVISION_CASES,
    features,
    images,
    published_layers,
    sample,
    seeded_variables,
)

pytestmark = pytest.mark.peers

try:
    peer.import_keras()
except ImportError:
    pytest.skip("Keras is not installed; the extra 'peers' brings it", allow_module_level=True)


@pytest.mark.parametrize("name", [name for name in SHAPES if name not in TORCHVISION_CASES])
def test_layers_have_the_names_and_shapes_of_keras(name):
    case = SHAPES[name]
    theirs = peer.layer_shapes(peer.build(case.arch), case.arch)
    assert published_layers(case.network()) == theirs


@pytest.mark.parametrize("name", KERAS_CASES)
def test_same_weights_give_the_features_of_keras(name):
    case = KERAS_CASES[name]
    model, pixels = case.network(), images(case)
    variables = seeded_variables(model)
    ours, theirs = features(model, variables, pixels), peer.features(case, variables, pixels)
    for part, a, b in zip(("trunk", "vector"), ours, theirs, strict=True):
        close(a, b)
        close(sample(np.asarray(b)), golden()[f"{name}/{part}"])
