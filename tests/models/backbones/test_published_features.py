"""At full width: kernels and features of the networks torchvision and Keras publish.

The recorded features were computed by those libraries with weights that both sides draw from the same
seeds: `tests/golden/record_backbones.py`. The peers' environment compares all of them,
`tests/peers/test_backbones_*.py`.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.reference.backbone_cases import (
    CASES,
    SHAPES,
    features,
    images,
    kernel_shapes,
    published_layers,
    sample,
    seeded_variables,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "backbones_features.npz"
# The same kind of unit more often, and long to compile: in the peers' environment only.
REPEATED = {"resnet:34", "resnet:101", "vgg:19", "efficientnet:b4"}


@cache
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as recorded:
        return dict(recorded)


def close(ours, theirs) -> None:
    """Equal up to the order of sums: a hundred layers amplify the last bit of the largest number."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert np.abs(ours).max() > 0.1 and np.abs(ours - theirs).max() < 1e-5 * np.abs(ours).max()


@pytest.mark.parametrize("name", SHAPES)
def test_kernels_have_the_shapes_of_the_published_network(name):
    ours = kernel_shapes(published_layers(SHAPES[name].network()).values())
    np.testing.assert_array_equal(ours, golden()[f"{name}/kernels"])


@pytest.mark.parametrize("name", [name for name in CASES if name not in REPEATED])
def test_features_are_those_of_the_published_network(name):
    case = CASES[name]
    model = case.network()
    trunk, vector = features(model, seeded_variables(model), images(case))
    assert trunk.shape == tuple(golden()[f"{name}/trunk_shape"])
    close(sample(np.asarray(trunk)), golden()[f"{name}/trunk"])
    close(sample(np.asarray(vector)), golden()[f"{name}/vector"])
