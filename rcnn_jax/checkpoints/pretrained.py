"""Pretrained weights: read a file, fill the layers whose names and shapes agree, report them.

    file --load_weights--> Weights --skip_matching, apply_weights--> params, rows, coverage

Files are data, never programs: no pickle is executed. `torch_names` and `schemes` map names and layouts
of other projects; layers that do not fit keep their random start.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rcnn_jax.checkpoints.atomic import read_file
from rcnn_jax.checkpoints.bundle import decode_arrays, read_bundle
from rcnn_jax.checkpoints.keras_file import read_keras
from rcnn_jax.checkpoints.leaves import flatten, unflatten
from rcnn_jax.checkpoints.npz_file import read_npz
from rcnn_jax.checkpoints.pickle_file import read_pickle
from rcnn_jax.checkpoints.schemes import DEPTHWISE, Weights, by_layer, from_keras
from rcnn_jax.checkpoints.taken_for_granted import coco_categories
from rcnn_jax.checkpoints.torch_file import read_torch
from rcnn_jax.checkpoints.torch_names import from_flat
from rcnn_jax.errors import CheckpointError

SUFFIXES = (".tlt", ".hdf5", ".h5", ".keras", ".npz", ".safetensors", ".pth", ".pt", ".pkl")

_RULE, _DASHES = "=" * 99, "-" * 99
_SCHEMES = (
    (re.compile(r"^blocks\.\d|^conv_stem|^stages[._]\d|^stem[._]"), "timm"),
    (re.compile(r"^layer\d\.|^features\.\d|^roi_heads\."), "torchvision"),
    (re.compile(r"^(backbone\.bottom_up|proposal_generator|res\d\.)"), "detectron2"),
    (
        re.compile(r"^(block\d+_conv\d|conv\d_block\d|Conv_1$|block\d_sepconv)"),
        "keras.applications",
    ),
    (re.compile(r"^(params|batch_stats|ResNetBlock_\d|BottleneckResNetBlock_\d)"), "Flax examples"),
    (re.compile(r"^block_?\d+[a-z]_|^expanded_conv|^conv_dw_1|^inception_"), "this project"),
)
# In this order: the first that matches counts, and every average pool is a pool.
_WEIGHTLESS = (
    (r"avg_pool|squeeze", "AveragePooling2D"),
    (r"pool", "MaxPooling2D"),
    (r"_output$", "Concatenate"),
    (r"add\d*$|^FPN_add", "Add"),
    (r"excite$", "Multiply"),
)


class Row(NamedTuple):
    """One layer of the status table; `status` is `Yes`, `Part`, `No`, or `None` for no weights."""

    layer: str
    kind: str
    status: str


_SCOPES = {
    "rpn_head": r"rpn|rpn-class|rpn-box",
    "box_head": r"fc6|fc7|class-predict|box-predict",
    "mask_head": r"mask-conv-l\d|conv5-mask|mask_fcn_logits",
}
"""Scopes of the heads in older releases of Mask R-CNN: {scope: layers}."""


class Loaded(NamedTuple):
    """Result of `apply_weights`.

    Attributes:
      params: of the structure, shapes and dtypes given.
      batch_stats: likewise.
      rows: one per layer, in the order of the model.
      coverage: fraction in [0, 1] of the expected parameters that were filled.
      reason: the likeliest reason why layers were not filled; empty where all were.
    """

    params: Any
    batch_stats: Any
    rows: tuple[Row, ...]
    coverage: float
    reason: str


class Pretrained(NamedTuple):
    """Weights of a file.

    Attributes:
      layers: {layer: {leaf: array}}.
      class_names: of its predictors, background excluded; None where nobody says.
    """

    layers: Weights
    class_names: tuple[str, ...] | None


def load_weights(path: Path | str, key: str | None = None, bn_eps: float = 1e-3) -> Weights:
    """Reads {layer: {leaf: array}} in our names and layouts; see `load_pretrained`."""
    return load_pretrained(path, key, bn_eps).layers


def load_pretrained(path: Path | str, key: str | None = None, bn_eps: float = 1e-3) -> Pretrained:
    """Reads the layers of a file in our names and layouts, and its classes.

    A detector of torchvision with 90 classes and one of detectron2 with 80 are taken for COCO's.

    Args:
      path: `.tlt` bundle, Keras `.hdf5`/`.h5`/`.keras`, `.npz`, `.safetensors`, torch `.pth`/`.pt`, or
        detectron2's `.pkl`.
      key: of an encrypted bundle.
      bn_eps: epsilon of the model's batch norm, for files in which it is folded away.

    Raises:
      CheckpointError: missing, damaged, closed or unknown file, wrong key.
      MissingDependencyError: a Keras file without h5py.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise CheckpointError(
            f"{path}: pretrained weights are read from {', '.join(SUFFIXES)}, not from "
            f"'{path.suffix}'"
        )
    if suffix != ".tlt" and not path.is_file():
        raise CheckpointError(f"{path}: no such weights file; check the path")
    weights, names = _read(path, suffix, key, bn_eps)
    # Names are printed. Those of layers are plain, so escaping loses no layer.
    layers = {
        name if name.isprintable() else ascii(name): leaves for name, leaves in weights.items()
    }
    return Pretrained(layers, names)


def _read(path: Path, suffix: str, key: str | None, bn_eps: float) -> Pretrained:
    if suffix == ".tlt":
        bundle = read_bundle(path, key)
        # A bundle may hold the state of an optimizer and an average too; neither is a layer.
        kept = {n: a for n, a in bundle.arrays.items() if n.startswith(("params/", "batch_stats/"))}
        return Pretrained(by_layer(kept), tuple(bundle.header["class_names"]))
    if suffix in (".hdf5", ".h5", ".keras"):
        return Pretrained(from_keras(read_keras(path)), None)
    weights = from_flat(flat_arrays(path), bn_eps)
    return Pretrained(weights, _coco_names(weights))


def _coco_names(weights: Weights) -> tuple[str, ...] | None:
    """Returns COCO's names where the predictor has as many columns as COCO's models do."""
    kernel = weights.get("class-predict", {}).get("kernel")
    known = None if kernel is None or not kernel.ndim else coco_categories(kernel.shape[-1] - 1)
    return None if known is None else known.names


def flat_arrays(path: Path) -> dict[str, np.ndarray]:
    """Returns {name: array} of a file of arrays by name, as the file has them.

    Args:
      path: `.npz`, `.safetensors`, `.pth`, `.pt` or `.pkl`.

    Raises:
      CheckpointError: missing, damaged, or a program that wants to do something.
    """
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return read_npz(path)
    if suffix == ".safetensors":
        return decode_arrays(read_file(path, "weights file"), str(path))
    return read_pickle(path) if suffix == ".pkl" else read_torch(path)


def skip_matching(weights: Weights, pattern: str) -> Weights:
    """Drops the layers whose name matches a regular expression (`skip_checkpoint_variables`).

    The heads of Mask R-CNN match under their scopes in older releases too, such as `box_head/fc6`, so
    that the pattern `head` of the documentation works.

    Args:
      weights: as read.
      pattern: as for `re.search`; empty skips nothing.

    Raises:
      CheckpointError: not a regular expression.
    """
    if not pattern:
        return weights
    try:
        return {
            name: leaves
            for name, leaves in weights.items()
            if not any(re.search(pattern, alias) for alias in _aliases(name))
        }
    except re.error as error:
        raise CheckpointError(
            f"skip_checkpoint_variables: '{pattern}' is not a regular expression: {error}"
        ) from error


def _aliases(layer: str) -> tuple[str, ...]:
    """Returns the name of a layer and, for a head of Mask R-CNN, the name in its old scope."""
    for scope, pattern in _SCOPES.items():
        if re.fullmatch(pattern, layer):
            return layer, f"{scope}/{layer}"
    return (layer,)


def apply_weights(
    params: Any,
    batch_stats: Any,
    weights: Weights,
    *,
    layers: Sequence[str] = (),
    expected: Collection[str] | None = None,
    partial: Collection[str] = (),
) -> Loaded:
    """Fills every layer whose leaves all have the same names and shapes in the file.

    A layer is filled whole or not at all. Source: docs/reference/faster_rcnn.md,
    "Starting weights"; of the two behaviours at a shape that differs, the original manual's (leave
    the layer out) is followed.

    Args:
      params: {layer: {leaf: array}}.
      batch_stats: likewise; may be empty.
      weights: as read.
      layers: names of all layers in the order of the model, those without weights included; without
        it the layers with weights in the order of `params`.
      expected: layers that count for the coverage, for example those of the backbone; all without.
      partial: layers that hold rows of the file and fresh ones, see `class_rows`.
    """
    ours = {**flatten(params, "params"), **flatten(batch_stats, "batch_stats")}
    model = by_layer(ours)
    fitting = {name for name, leaves in model.items() if _fits(leaves, weights.get(name))}
    new = {}
    for name, array in ours.items():
        layer, _, leaf = name.partition("/")[2].rpartition("/")
        # A layer at a time, never a leaf: a kernel with the bias or the statistics of another one
        # is worse than a fresh layer.
        source = weights[layer][leaf] if layer in fitting else array
        new[name] = np.asarray(source, array.dtype, order="C")
    counted = [name for name in model if expected is None or name in expected]
    # Counted by values and not by layers: a file that fits in all batch norms and in no kernel has
    # little to give.
    filled = sum(_size(model[name]) for name in counted if name in fitting)
    total = sum(_size(model[name]) for name in counted)
    return Loaded(
        params=unflatten(new, params, "params"),
        batch_stats=unflatten(new, batch_stats, "batch_stats"),
        rows=tuple(
            Row(name, _kind(name, model.get(name)), _status(name, model, fitting, partial))
            for name in layers or model
        ),
        coverage=filled / total if total else 1.0,
        reason="" if len(fitting) == len(model) else _reason(model, weights, fitting),
    )


def check_coverage(loaded: Loaded, path: Path | str, minimum: float) -> None:
    """Refuses a pretrained file that is plainly of another network.

    Args:
      loaded: result of `apply_weights`.
      path: of the file.
      minimum: smallest coverage accepted, in [0, 1].

    Raises:
      CheckpointError: the coverage is below; the message says which shape differs first, or how the
        names of the file look.
    """
    if loaded.coverage < minimum:
        raise CheckpointError(
            f"{path}: fills {loaded.coverage:.0%} of the weights expected from it, at least "
            f"{minimum:.0%} are wanted. {loaded.reason}. Give a file of the same architecture, or "
            "lower min_pretrained_coverage to accept a random start"
        )


def status_table(loaded: Loaded) -> str:
    """Returns the status of each layer, as a table in the form of the original.

    Source: docs/reference/faster_rcnn.md, "Table of loaded weights".
    """
    partly = any(row.status == "Part" for row in loaded.rows)
    lines = [
        _RULE,
        "Pretrained weights loading status summary:",
        "None: the layer has no weights.",
        "Yes: the layer has weights and they were taken from the file.",
        "No: the layer has weights but the file has none of this name and shape.",
        *(["Part: the rows of classes that both have were taken from the file."] * partly),
        _RULE,
        f"{'Layer(Type):':<90}{'Status:':<9}",
        _DASHES,
    ]
    for row in loaded.rows:
        lines += [f"{f'{row.layer}({row.kind})':<90}{row.status:<9}", _DASHES]
    return "\n".join(line.rstrip() for line in lines)


def likely_scheme(names: Collection[str]) -> str:
    """Returns the project whose naming fits most of the layers, or `an unknown project`."""
    counts = {
        scheme: sum(bool(pattern.search(name)) for name in names) for pattern, scheme in _SCHEMES
    }
    best = max(counts, key=lambda scheme: counts[scheme])
    return best if counts[best] else "an unknown project"


def _fits(leaves: Mapping[str, np.ndarray], stored: Mapping[str, np.ndarray] | None) -> bool:
    if stored is None or stored.keys() != leaves.keys():
        return False
    return all(stored[leaf].shape == array.shape for leaf, array in leaves.items())


def _size(leaves: Mapping[str, np.ndarray]) -> int:
    return sum(array.size for array in leaves.values())


def _status(name: str, model: Weights, fitting: Collection[str], partial: Collection[str]) -> str:
    if name not in model:
        return "None"
    if name not in fitting:
        return "No"
    return "Part" if name in partial else "Yes"


def _kind(name: str, leaves: Mapping[str, np.ndarray] | None) -> str:
    """Keras class of a layer, guessed from its name and leaves; None for no weights."""
    if leaves is None:
        return next(
            (kind for pattern, kind in _WEIGHTLESS if re.search(pattern, name)), "Activation"
        )
    if "gamma" in leaves:
        return "BatchNormalization"
    if leaves["kernel"].ndim == 2:
        return "Dense"
    if name == "conv5-mask":
        return "Conv2DTranspose"
    return "DepthwiseConv2D" if DEPTHWISE.search(name) else "Conv2D"


def _reason(model: Weights, weights: Weights, fitting: Collection[str]) -> str:
    """The likeliest reason why layers were not filled."""
    # Shapes before names: a layer of the right name and another shape says that the network
    # differs, whatever else is missing.
    for name, leaves in model.items():
        for leaf, array in leaves.items():
            stored = weights.get(name, {}).get(leaf)
            if stored is not None and stored.shape != array.shape:
                return (
                    f"{name}/{leaf} is {list(stored.shape)} in the file and {list(array.shape)} "
                    "in the model, so the file is of another network"
                )
    missing = max(model.keys() - fitting, key=lambda name: (_size(model[name]), name))
    if fitting:
        return f"It lacks the layer '{missing}', among others"
    example = next(iter(weights), "nothing")
    return (
        f"Its names look like those of {likely_scheme(weights)} ('{example}'), "
        f"the model's are like '{missing}'"
    )
