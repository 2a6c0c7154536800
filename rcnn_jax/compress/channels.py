"""Channels of a network, followed through its trace: which ones stand and fall together.

    jaxpr -> for every axis of every value: the channels that it holds -> ties between channels -> classes

Every output and input channel of every layer is a number. A rule for each primitive says where channels
go, and which ones must be one: those of two summands, those of an activation and the rows of the kernel
that reads it. Because rules move the numbers of single channels, a concatenation is an offset, a
flattened crop a repetition and a depthwise convolution a tie, without a word about layers. What remains
are connected components: channels of one class are removed together or not at all.

A primitive without a rule pins the channels that enter it: they are kept, and the reason is.
Source: Fang et al., DepGraph: Towards Any Structural Pruning, 2023 (arXiv:2301.12900), section 3, whose
rules are per layer; here they are per primitive, so that a new layer needs none.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from rcnn_jax.compress.axes import channels_of
from rcnn_jax.compress.channel_rules import RULES
from rcnn_jax.compress.channel_trace import Cost, Pin, Trace, fixed


@dataclass(frozen=True, kw_only=True)
class ChannelMap:
    """Result of a trace.

    Attributes:
      leaves: {name of a leaf: per axis the class of each index i32[n], or None where the axis has no
        channels}; names are those of `checkpoints.leaves.flatten`.
      pins: {class: why it is kept}.
      costs: of every convolution and product.
      constants: bytes of the constants of the trace.
    """

    leaves: Mapping[str, tuple[np.ndarray | None, ...]]
    pins: Mapping[int, Pin]
    costs: tuple[Cost, ...]
    constants: int


def trace_channels(
    function: Callable[..., Any],
    leaves: Mapping[str, jax.ShapeDtypeStruct],
    *arguments: Any,
    excluded: Mapping[str, str] | None = None,
) -> ChannelMap:
    """Follows the channels of all leaves through a function; nothing is computed.

    Args:
      function: ({name: array}, *arguments) -> anything, for example a prediction.
      leaves: shapes of the weights by name. The last axis of a `kernel` are its filters and the one
        before its inputs, as everywhere in `models.layers`; a vector has one axis of channels.
      *arguments: further inputs, such as images; their axes are never cut.
      excluded: {name of a leaf: why the last axis keeps all channels}.
    """
    closed = jax.make_jaxpr(function)(dict(leaves), *arguments)
    trace = Trace(RULES)
    labelled = {name: trace.label(name, leaf.shape) for name, leaf in sorted(leaves.items())}
    for name, reason in (excluded or {}).items():
        trace.pin(labelled[name][-1], Pin(reason=reason))
    operands = list(labelled.values())
    rest = closed.jaxpr.invars[len(operands) :]
    operands += [fixed(variable.aval.shape) for variable in rest]
    outputs = trace.run(closed.jaxpr, closed.consts, operands)
    for axes in outputs:
        for axis in axes:
            trace.pin(axis, Pin(reason="an output of the network"))
    classes = trace.classes()
    return ChannelMap(
        leaves={
            name: tuple(None if (a := channels_of(axis)) is None else classes[a] for axis in axes)
            for name, axes in labelled.items()
        },
        # Reversed, so that the first reason in the program wins: it is the cause, later ones follow
        # from it.
        pins={int(classes[channel]): pin for channel, pin in reversed(trace.pinned)},
        costs=tuple(
            Cost(flops=cost.flops, axes=tuple(classes[axis] for axis in cost.axes))
            for cost in trace.costs
        ),
        constants=sum(np.asarray(value).nbytes for value in closed.consts),
    )
