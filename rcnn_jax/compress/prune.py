"""The smaller model: weights without the channels that are not kept, and the widths that go with them.

bundle, kept classes -> bundle with sliced arrays, a channel plan, and the norms of the trained filters
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from rcnn_jax.checkpoints.bundle import Bundle, slim
from rcnn_jax.checkpoints.state import versions
from rcnn_jax.compress.criteria import Filters, filters_of
from rcnn_jax.compress.groups import Network, kept_leaves, kernel_of
from rcnn_jax.errors import CheckpointError

FILTERS = "pruning"
"""Group of the arrays `pruning/<layer>/{norms,kept,shape}`; training leaves it out of what it writes."""
HISTORY = "pruning"
"""Field of the header: the settings of every pruning since the last training."""


def trained_filters(
    bundle: Bundle, arrays: Mapping[str, np.ndarray], network: Network, name: str
) -> dict[str, Filters]:
    """Returns the filters of every layer as they were trained.

    Args:
      bundle: the file; one that was pruned and not trained since has the norms from before.
      arrays: {name: array} of the weights that predict.
      network: its layers.
      name: of the file, for the message.

    Raises:
      CheckpointError: the norms in the file do not belong to its layers.
    """
    filters = {}
    for layer, width in network.widths.items():
        parts = [
            bundle.arrays.get(f"{FILTERS}/{layer}/{part}") for part in ("norms", "kept", "shape")
        ]
        if parts[0] is None:
            filters[layer] = filters_of(arrays[kernel_of(layer)])
            continue
        norms, kept, shape = (np.zeros(0) if part is None else part for part in parts)
        sound = (
            norms.ndim == kept.ndim == shape.ndim == 1
            and norms.dtype == np.float32
            and kept.dtype == shape.dtype == np.int32
            and len(kept) == width
            and bool(np.isfinite(norms).all() and (norms >= 0).all())
            and bool((np.diff(kept) > 0).all() and kept[0] >= 0 and kept[-1] < len(norms))
        )
        if not sound:
            raise CheckpointError(
                f"{name}: is not as this program writes bundles: the norms of {layer} that pruning "
                "stored do not fit its filters"
            )
        filters[layer] = Filters(norms=norms, kept=kept, shape=tuple(map(int, shape)))
    return filters


def pruned_bundle(
    bundle: Bundle,
    arrays: Mapping[str, np.ndarray],
    network: Network,
    filters: Mapping[str, Filters],
    kept: np.ndarray,
    record: Mapping[str, Any],
) -> Bundle:
    """Returns the smaller model, without the state of the optimizer.

    Args:
      bundle: the model.
      arrays: {name: array} of the weights that predict; where a run kept an average, that is it.
      network: its channels and layers.
      filters: of every layer, as they were trained.
      kept: bool by class of channels.
      record: JSON values of the settings, for the header.
    """
    plan = dict(bundle.header["channel_plan"])
    before: dict[str, np.ndarray] = {}
    for layer, width in network.widths.items():
        classes = network.channels.leaves[kernel_of(layer)][-1]
        mine = np.ones(width, bool) if classes is None else kept[classes]
        if not mine.all():
            plan[layer] = int(mine.sum())
        own = filters[layer]
        before |= {
            f"{FILTERS}/{layer}/norms": own.norms,
            f"{FILTERS}/{layer}/kept": own.kept[mine],
            f"{FILTERS}/{layer}/shape": np.asarray(own.shape, np.int32),
        }
    smaller = kept_leaves(network.channels, arrays, kept)
    header = {
        **slim(bundle).header,
        "channel_plan": plan,
        HISTORY: [
            *bundle.header.get(HISTORY, []),
            {**record, "parameters": [_parameters(arrays), _parameters(smaller)]},
        ],
        "created_with": versions(),
    }
    header.pop("quant_plan", None)  # ranges of fake quantisation are of the wider network
    return replace(bundle, header=header, arrays={**smaller, **before})


def _parameters(arrays: Mapping[str, np.ndarray]) -> int:
    return sum(array.size for name, array in arrays.items() if name.startswith("params/"))
