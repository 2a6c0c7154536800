"""Keras weight files: {layer: {parameter: array}}.

    Keras 2, and .h5 of Keras 3    [model_weights/]<layer>/<layer>/kernel[:0]
    Keras 3, .weights.h5           layers/<class>_<number>/vars/0, the layer's name an attribute
    Keras 3, .keras                a zip archive with the second as model.weights.h5

A wrapper (TimeDistributed) holds the weights of the layer inside; Keras 2 then keeps the inner name
in `model_config` alone. Nothing outside the file is read (`hdf5_file.py`).

Sources: docs/reference/faster_rcnn.md, "Names of layers"; files of Keras 3.15.
"""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rcnn_jax.checkpoints.archive import Archive
from rcnn_jax.checkpoints.hdf5_file import DAMAGE, check_sizes, refuse_references
from rcnn_jax.errors import CheckpointError
from rcnn_jax.optional import require
from rcnn_jax.printable import reason

Layers = dict[str, dict[str, np.ndarray]]

_ARCHIVED = "model.weights.h5"
_BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
_NUMBER = re.compile("[0-9]{1,6}")
_NOT_LAYERS = ("optimizer", "optimizer_weights")


def read_keras(path: Path) -> Layers:
    """Returns the weights of a Keras file in the layouts of Keras.

    A wrapped layer has two entries: the name of the wrapper and its own.

    Args:
      path: `.hdf5`, `.h5`, `.weights.h5` or `.keras`.

    Raises:
      MissingDependencyError: h5py is not installed.
      CheckpointError: not such a file, damaged, or a file that does not name its layers.
    """
    h5py = require("h5py", extra="keras-weights", purpose=f"Reading {path}")
    try:
        with h5py.File(_unpacked(path) if path.suffix == ".keras" else path, "r") as file:
            refuse_references(h5py, file, str(path))
            arrays = _arrays(file, h5py.Dataset, path)
            if "vars" in file or "layers" in file:
                return _numbered(path, arrays, lambda group: file[group].attrs.get("name"))
            return _named(arrays, _inner_names(file.attrs.get("model_config", "{}")))
    except DAMAGE as error:
        raise CheckpointError(f"{path}: is not a readable Keras file: {reason(error)}") from error


def _unpacked(path: Path) -> io.BytesIO:
    with Archive(path, "Keras archive") as archive:
        return io.BytesIO(archive.read(_ARCHIVED))


def _arrays(file: Any, dataset: type, path: Path) -> dict[str, np.ndarray]:
    """Returns {path in the file: array}, without the optimizer."""
    nodes: dict[str, Any] = {}
    # `and None`: any other value would end the walk.
    file.visititems(lambda name, node: nodes.setdefault(name, node) and None)
    kept = {
        name: node
        for name, node in nodes.items()
        if isinstance(node, dataset) and name.partition("/")[0] not in _NOT_LAYERS
        # Strings, counters and seeds of random generators are data sets too, and no weights.
        if node.shape is not None and node.dtype.kind == "f"
    }
    check_sizes(kept, path.stat().st_size, str(path))
    return {name.removeprefix("model_weights/"): np.asarray(node) for name, node in kept.items()}


def _named(arrays: dict[str, np.ndarray], inner: dict[str, str]) -> Layers:
    """Layers of the old layout, by the names below their group; a single one by the group too."""
    groups: dict[str, Layers] = {}
    for name, array in arrays.items():
        group, *folders, leaf = name.split("/")
        layer = folders[-1] if folders else group
        groups.setdefault(group, {}).setdefault(layer, {})[leaf.removesuffix(":0")] = array
    layers: Layers = {}
    for group, held in groups.items():
        layers.update({inner.get(name, name): leaves for name, leaves in held.items()})
        if len(held) == 1:
            layers[group] = next(iter(held.values()))
    return layers


def _numbered(path: Path, arrays: dict[str, np.ndarray], name_of: Callable[[str], Any]) -> Layers:
    """Layers of the new layout, whose variables are numbered in the order of creation."""
    groups: dict[str, list[str]] = {}
    for name in arrays:
        folder, _, last = name.rpartition("/")
        if folder.endswith("/vars") and _NUMBER.fullmatch(last):
            groups.setdefault(folder.removesuffix("/vars"), []).append(name)
    layers: Layers = {}
    for folder, names in groups.items():
        variables = [arrays[name] for name in sorted(names, key=lambda n: int(n.split("/")[-1]))]
        name = name_of(f"{folder}/vars")
        if not isinstance(name, str):
            raise CheckpointError(
                f"{path}: is in the first form of the Keras 3 format, which numbers layers instead "
                f"of naming them ({folder}); load the model in Keras and save it as .h5"
            )
        layers[name] = _leaves(variables)
        # A wrapper keeps its layer in `layer`, and wrappers may be nested.
        while folder.endswith("/layer"):
            folder = folder.removesuffix("/layer")
            outer = name_of(f"{folder}/vars")
            if isinstance(outer, str):
                layers[outer] = layers[name]
    return layers


def _leaves(variables: list[np.ndarray]) -> dict[str, np.ndarray]:
    # Numbers carry no names: four vectors of one shape are a batch norm, anything else kernel and bias.
    shapes = [array.shape for array in variables]
    if len(shapes[0]) == 1 and shapes == shapes[:1] * len(_BATCH_NORM):
        return dict(zip(_BATCH_NORM, variables, strict=True))
    return dict(zip(("kernel", "bias"), variables, strict=False))


def _inner_names(config: Any) -> dict[str, str]:
    """{name of a wrapper: name of the layer inside} of a model's description in JSON."""
    names: dict[str, str] = {}

    def visit(node: Any) -> str | None:
        if isinstance(node, list):
            for item in node:
                visit(item)
            return None
        if not isinstance(node, dict):
            return None
        own = node.get("config")
        if not isinstance(own, dict):
            for item in node.values():
                visit(item)
            return None
        name = own.get("name") if isinstance(own.get("name"), str) else None
        wrapped = visit(own["layer"]) if isinstance(own.get("layer"), dict) else None
        visit([value for key, value in own.items() if key != "layer"])
        if name and wrapped:
            names[name] = wrapped
        return wrapped or name

    try:
        visit(json.loads(config))
    except (ValueError, TypeError, RecursionError):
        # Names inside wrappers are a help, no more: weights of a file without them load by the
        # outer names.
        return {}
    return names
