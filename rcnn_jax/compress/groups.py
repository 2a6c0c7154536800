"""Groups: layers whose filters are kept or removed together, found in the trace of a prediction.

experiment, weights -> ChannelMap -> Group (one decision per filter), kept layers with the reason
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.checkpoints.leaves import flatten, nest
from rcnn_jax.compress.channel_trace import Pin
from rcnn_jax.compress.channels import ChannelMap, trace_channels
from rcnn_jax.errors import UsageError
from rcnn_jax.models.heads import PREDICTORS
from rcnn_jax.models.variables import layer_order
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.families import family

KERNEL = "/kernel"
_WEIGHTS = "params/"


@dataclass(frozen=True, kw_only=True)
class Group:
    """Filters of some layers that are decided together.

    Attributes:
      layers: names, in the order in which they run.
      classes: class of channels of each decision, i32[n], in the order of the first layer's filters.
      filters: {layer: filter numbers i32[n k]} that belong to each decision; k is 1 but for convolutions
        in groups.
      pin: why all filters are kept, or None.
    """

    layers: tuple[str, ...]
    classes: np.ndarray
    filters: Mapping[str, np.ndarray]
    pin: Pin | None

    @property
    def unit(self) -> int:
        """Filters of one layer that a decision removes, the most of all layers."""
        return max(rows.shape[1] for rows in self.filters.values())


@dataclass(frozen=True, kw_only=True)
class Network:
    """The channels of a network, sorted into groups.

    Attributes:
      channels: of the trace.
      groups: in the order in which their first layers run.
      widths: {layer: filters}, in the order in which they run.
      shapes: {name of a leaf: its shape}.
    """

    channels: ChannelMap
    groups: tuple[Group, ...]
    widths: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def count(self) -> int:
        """Number of classes of channels."""
        leaves = self.channels.leaves.values()
        return 1 + max(int(a.max()) for axes in leaves for a in axes if a is not None)


def find_groups(
    experiment: Experiment,
    excluded: Sequence[str] = (),
    *,
    canvas: tuple[int, int] = (64, 64),
    spare_pyramid: bool = True,
) -> Network:
    """Finds the groups of the network of an experiment; nothing is computed.

    Args:
      experiment: with the widths of the model.
      excluded: names of layers that keep all their filters.
      canvas: (height, width) that FLOP are counted on; groups do not depend on it.
      spare_pyramid: keep what the original never prunes though it could be: `Family.never_pruned`.

    Raises:
      UsageError: a name of `excluded` is that of no layer with filters.
    """
    task = experiment.task
    shapes = shapes_of(jax.eval_shape(task.init, jax.random.key(0)))
    layers = [
        layer
        # In the order in which they run: that of names would put block_10 before block_2.
        for layer in layer_order(task.model, task.pixels.channels)
        if kernel_of(layer) in shapes
    ]
    for name in excluded:
        if name not in layers:
            near = difflib.get_close_matches(name, layers, 3)
            hint = f"; did you mean {' or '.join(near)}?" if near else f": {', '.join(layers)}"
            raise UsageError(
                f"-el {name}: the network has no layer with filters of this name{hint}"
            )
    # Predictors have as many outputs as there are classes and anchors; the others are the
    # original's choice.
    never = family(experiment.kind).never_pruned
    spared = {name: why for name, why in never.items() if spare_pyramid}
    reasons = {
        **{name: "classes or anchors" for name in PREDICTORS},
        **spared,
        **dict.fromkeys(excluded, "excluded by -el"),
    }
    # One small image: the trace has the same equations on every canvas.
    images = jax.ShapeDtypeStruct((1, *canvas, task.pixels.channels), jnp.uint8)
    test = experiment.inference.of_one_view
    channels = trace_channels(
        lambda leaves, pixels: task.predict(variables_from(leaves), pixels, test),
        shapes,
        images,
        excluded={
            kernel_of(name): why for name, why in reasons.items() if kernel_of(name) in shapes
        },
    )
    return Network(
        channels=channels,
        groups=_groups(channels, layers),
        widths={layer: shapes[kernel_of(layer)].shape[-1] for layer in layers},
        shapes={name: tuple(leaf.shape) for name, leaf in shapes.items()},
    )


def shapes_of(variables: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns {name: shape} of abstract variables, named as the leaves of a `ChannelMap`."""
    paths, _ = jax.tree_util.tree_flatten_with_path(variables)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in paths}


def variables_from(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the variables whose leaves have these names."""
    groups = dict.fromkeys(name.split("/")[0] for name in leaves)
    return {group: nest(leaves, group) for group in groups}


def kernel_of(layer: str) -> str:
    """Returns the name of the leaf that holds the filters of a layer."""
    return f"{_WEIGHTS}{layer}{KERNEL}"


def _groups(channels: ChannelMap, layers: Sequence[str]) -> tuple[Group, ...]:
    """Returns the classes sorted by the layers that have filters in them."""
    members: dict[int, dict[str, list[int]]] = {}
    for layer in layers:
        filters = channels.leaves[kernel_of(layer)][-1]
        for index, number in enumerate(() if filters is None else filters.tolist()):
            members.setdefault(number, {}).setdefault(layer, []).append(index)
    # Two layers behind one concatenation meet in different filters of a third: a decision concerns the
    # layers that have a filter in it, and those with the same layers make a group.
    by_layers: dict[tuple, list[int]] = {}
    for number, rows in members.items():
        # With the counts: decisions on two filters of a layer weigh twice those on one.
        signature = tuple((layer, len(indices)) for layer, indices in rows.items())
        by_layers.setdefault(signature, []).append(number)
    return tuple(
        Group(
            layers=tuple(layer for layer, _ in signature),
            classes=np.asarray(classes, np.int32),
            filters={
                layer: np.asarray([members[number][layer] for number in classes], np.int32)
                for layer, _ in signature
            },
            # One reason is enough to keep a whole group: its layers lose the same decisions or
            # none.
            pin=next((channels.pins[c] for c in classes if c in channels.pins), None),
        )
        for signature, classes in by_layers.items()
    )


def kept_leaves(
    channels: ChannelMap, arrays: Mapping[str, np.ndarray], kept: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the weights without the channels that are not kept.

    Args:
      channels: of the network.
      arrays: {name: array} of all its leaves.
      kept: bool by class.
    """
    smaller = {}
    for name, array in arrays.items():
        for axis, classes in enumerate(channels.leaves[name]):
            # A leaf that loses nothing is not copied, which is most of them at low thresholds.
            if classes is not None and not kept[classes].all():
                array = np.take(array, np.flatnonzero(kept[classes]), axis)
        smaller[name] = np.ascontiguousarray(array)
    return smaller


def flat(variables: Any) -> dict[str, np.ndarray]:
    """Returns {name: array} of variables, named as the leaves of a `ChannelMap`."""
    return {k: v for group, tree in variables.items() for k, v in flatten(tree, group).items()}
