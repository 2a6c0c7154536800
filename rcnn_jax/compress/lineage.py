"""Lineage of a pruned model: which channels of the features of the model before it are left."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.checkpoints.bundle import Bundle
from rcnn_jax.compress.channels import ChannelMap, trace_channels
from rcnn_jax.compress.groups import shapes_of, variables_from
from rcnn_jax.compress.prune import FILTERS
from rcnn_jax.tasks.experiment import Experiment

_PROBE = "probe"


def kept_features(experiment: Experiment, pruned: Bundle) -> dict[int, np.ndarray]:
    """Returns {level: channels of the features that a pruned model has kept, i32[c]}.

    Args:
      experiment: of the model before, with its widths.
      pruned: what was pruned of it; empty results where it does not say, as after a training.
    """
    channels, levels = _probed(experiment)
    count = 1 + max(
        int(a.max()) for axes in channels.leaves.values() for a in axes if a is not None
    )
    kept = np.ones(count, bool)
    for name, axes in channels.leaves.items():
        layer = name.removeprefix("params/").removesuffix("/kernel")
        left = pruned.arrays.get(f"{FILTERS}/{layer}/kept")
        if left is None or axes[-1] is None:
            continue
        norms = pruned.arrays.get(f"{FILTERS}/{layer}/norms")
        if norms is None or len(norms) != len(axes[-1]):
            return {}  # of another model
        gone = np.ones(len(axes[-1]), bool)
        gone[left] = False
        kept[axes[-1][gone]] = False
    if kept.all():
        return {}
    kept_channels: dict[int, np.ndarray] = {}
    for level in levels:
        classes = channels.leaves[_probe(level)][-2]
        if classes is not None:
            kept_channels[level] = np.flatnonzero(kept[classes]).astype(np.int32)
    return kept_channels


def _probe(level: int) -> str:
    return f"{_PROBE}/{level}/kernel"


def _probed(experiment: Experiment) -> tuple[ChannelMap, list[int]]:
    """Returns the channels of a backbone whose features are read by one more kernel a level.

    The inputs of such a kernel are the channels of the features, in their order.
    """
    task = experiment.task
    shapes = shapes_of(jax.eval_shape(task.init, jax.random.key(0)))
    images = jax.ShapeDtypeStruct((1, 64, 64, task.pixels.channels), jnp.float32)

    def extract(leaves: Mapping[str, Any], pixels: jax.Array) -> Any:
        weights = {name: leaf for name, leaf in leaves.items() if not name.startswith(_PROBE)}
        return task.model.apply(variables_from(weights), pixels, train=False, method="extract")

    features = jax.eval_shape(extract, shapes, images)
    probes = {
        _probe(level): jax.ShapeDtypeStruct((1, 1, leaf.shape[-1], 1), jnp.float32)
        for level, leaf in features.items()
    }

    def read(leaves: Mapping[str, Any], pixels: jax.Array) -> Any:
        return {
            level: jax.lax.conv_general_dilated(
                feature.astype(jnp.float32),
                leaves[_probe(level)],
                (1, 1),
                "VALID",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            for level, feature in extract(leaves, pixels).items()
        }

    return trace_channels(read, {**shapes, **probes}, images), list(features)
