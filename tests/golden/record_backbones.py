"""Records what torchvision and Keras compute, for the tests that run without them.

.venv-peers/bin/python -m tests.golden.record_backbones

Writes tests/golden/backbones_features.npz: of every network in tests/reference/backbone_cases.py a
sample of the features of stride 16 and of the vector its tail makes of them, and the shapes of the
kernels of every network the two libraries publish. The weights are drawn from seeds by both sides
and are not stored.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.peers import keras_backbones, torchvision_backbones
from tests.reference.backbone_cases import (
    CASES,
    SHAPES,
    TORCHVISION_CASES,
    images,
    kernel_shapes,
    published_layers,
    sample,
    seeded_variables,
)

OUTPUT = Path(__file__).with_name("backbones_features.npz")


def record() -> dict[str, np.ndarray]:
    """Returns {"case/trunk", "case/trunk_shape", "case/vector", "case/kernels": array}."""
    recorded = {}
    for name, case in CASES.items():
        peer = torchvision_backbones if name in TORCHVISION_CASES else keras_backbones
        trunk, vector = peer.features(case, seeded_variables(case.network()), images(case))
        recorded[f"{name}/trunk"], recorded[f"{name}/vector"] = sample(trunk), sample(vector)
        recorded[f"{name}/trunk_shape"] = np.asarray(trunk.shape, np.int16)
        print(f"{name}: features {trunk.shape}, vector {vector.shape}", file=sys.stderr)
    for name, case in SHAPES.items():
        if name in TORCHVISION_CASES:
            layers = torchvision_backbones.layer_shapes(torchvision_backbones.build(case.arch))
        else:
            layers = keras_backbones.layer_shapes(keras_backbones.build(case.arch), case.arch)
            # Keras sorts the layers of parallel branches by depth, ours are in order of creation.
            layers = [layers[name] for name in published_layers(case.network())]
        recorded[f"{name}/kernels"] = kernel_shapes(layers)
    return recorded


def main() -> None:
    """Writes the file."""
    OUTPUT.parent.mkdir(exist_ok=True)
    arrays: Any = record()
    np.savez_compressed(OUTPUT, **arrays)
    print(f"{OUTPUT.name}: {OUTPUT.stat().st_size:,} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
