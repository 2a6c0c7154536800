"""Reading a Keras `.hdf5` model or `.h5` weights file: {layer: {parameter: array}}.

Both hold one group per layer, a model file under `model_weights`; below it every weight is called
`<layer>/<parameter>:0`. A wrapper (TimeDistributed) holds the weights under the name of the layer
inside. Source: Faster R-CNN facts section 4.1.
"""

from pathlib import Path
from typing import Any

import numpy as np

from rcnn_jax.errors import CheckpointError
from rcnn_jax.optional import require


def read_keras(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """Returns the weights of a Keras 1 or 2 file; layouts of kernels are Keras' own.

    A wrapped layer is found under the wrapper's name and under its own.

    Args:
      path: `.hdf5` or `.h5`.

    Raises:
      MissingDependencyError: h5py is not installed.
      CheckpointError: not HDF5, or a Keras 3 weights file, which names no layers.
    """
    h5py = require("h5py", extra="keras-weights", purpose=f"Reading {path}")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise CheckpointError(f"{path}: is not a readable HDF5 file: {error}") from error
    with file:
        root = file.get("model_weights", file)
        if "vars" in file or "layers" in file:
            raise CheckpointError(
                f"{path}: is a Keras 3 weights file, which does not name layers as the model does; "
                "save the model as .h5 with Keras 2 (tf_keras), or its arrays as .npz with names "
                "such as conv1/kernel"
            )
        layers: dict[str, dict[str, np.ndarray]] = {}

        def collect(name: str, node: Any) -> None:
            if isinstance(node, h5py.Dataset):
                *folders, leaf = name.split("/")
                for layer in {folders[0], folders[-1]} if folders else ():
                    layers.setdefault(layer, {})[leaf.removesuffix(":0")] = np.asarray(node)

        root.visititems(collect)
    return layers
