"""Costs of a network with some of its channels: parameters, FLOP, bytes of its ONNX file."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rcnn_jax.compress.channels import ChannelMap

_FOLDED = ("gamma", "moving_mean", "moving_variance")
"""Leaves of batch norm that the exporter folds into the kernel before it; beta stays as its bias."""
_GRAPH = 400
"""Bytes of nodes and names for each array of weights: 340 in a tiny Faster R-CNN, 540 in a Mask R-CNN."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Costs of a network.

    Attributes:
      parameters: number of trainable values.
      flops: of a prediction of one image: 2 per multiplication and addition in convolutions and products.
      onnx_bytes: predicted size of the exported FP32 file.
    """

    parameters: int
    flops: int
    onnx_bytes: int


def costs_of(
    channels: ChannelMap, shapes: Mapping[str, tuple[int, ...]], kept: np.ndarray
) -> Costs:
    """Returns the costs of a network that keeps some classes of channels.

    Args:
      channels: of the network.
      shapes: {name: shape} of its leaves.
      kept: bool by class.
    """
    parameters = stored = 0
    for name, shape in shapes.items():
        size = 1
        for length, classes in zip(shape, channels.leaves[name], strict=True):
            size *= length if classes is None else int(kept[classes].sum())
        group, _, leaf = name.partition("/")
        # Statistics of batch norm are not trained and no parameters, but they are in the file.
        parameters += size if group == "params" else 0
        stored += 0 if leaf.rpartition("/")[2] in _FOLDED else size
    flops = 0.0
    for cost in channels.costs:
        part = 1.0
        for classes in cost.axes:
            # The kept fraction of each axis: FLOP of a product are those of its axes multiplied.
            part *= kept[classes].mean()
        flops += part * cost.flops
    return Costs(
        parameters=parameters,
        flops=round(flops),
        onnx_bytes=4 * stored + channels.constants + _GRAPH * len(shapes),
    )
