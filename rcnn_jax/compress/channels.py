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

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rcnn_jax.compress.axes import FIXED, UNIFORM, Axes, Axis, channels_of, reshaped
from rcnn_jax.ops.marker import read_mark
from rcnn_jax.tracing.flops import flops_of
from rcnn_jax.tracing.jaxpr import Site, interpret

# fmt: off
ELEMENTWISE = frozenset((
    "abs", "add", "and", "atan2", "bitcast", "cbrt", "ceil", "clamp", "convert_element_type",
    "copy", "cos", "div", "eq", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor",
    "ge", "gt", "integer_pow", "is_finite", "le", "log", "log1p", "logistic", "lt", "max",
    "min", "mul", "name", "ne", "neg", "nextafter", "not", "or", "pow", "reduce_precision",
    "rem", "round", "rsqrt", "select_n", "sign", "sin", "sqrt", "square", "sub", "tan",
    "tanh", "xor",
))
# fmt: on
"""Primitives that compute every element from the elements at the same index."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """FLOP of one convolution or product, and the channels that they are proportional to.

    Attributes:
      flops: at full width.
      axes: channels i32[n] of the axes that may be cut; the FLOP shrink with the kept part of each.
    """

    flops: int
    axes: tuple[np.ndarray, ...]


@dataclass(frozen=True, kw_only=True)
class Pin:
    """Why a class of channels is kept, whatever its filters weigh.

    Attributes:
      reason: end of the sentence "kept: ...".
      primitive: of JAX that has no rule; empty for other reasons.
    """

    reason: str
    primitive: str = ""


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
    trace = _Trace()
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


def fixed(shape: Sequence[int]) -> Axes:
    """Returns the axes of a value without channels."""
    return tuple(UNIFORM if size == 1 else FIXED for size in shape)


def _shape(variable: Any) -> tuple[int, ...]:
    """Returns the shape of a variable of a jaxpr."""
    return variable.aval.shape


class _Trace:
    """Channels, ties and pins while a program is read.

    Attributes:
      pinned: (channel, why).
      costs: in the order of the program, in channels.
    """

    def __init__(self) -> None:
        self.count = 0
        # Arrays, not pairs: a network has many thousands of ties, and scipy joins them at once.
        self.ties: list[tuple[np.ndarray, np.ndarray]] = []
        self.pinned: list[tuple[int, Pin]] = []
        self.costs: list[Cost] = []

    def fresh(self, size: int) -> np.ndarray:
        """Returns new channels."""
        self.count += size
        return np.arange(self.count - size, self.count, dtype=np.int32)

    def label(self, name: str, shape: Sequence[int]) -> Axes:
        """Returns the axes of a leaf."""
        # A convolution's kernel is [h w in out]: its first axes are space and hold no channels.
        own = 2 if name.endswith("kernel") else 1 if len(shape) == 1 else 0
        first = len(shape) - own
        axes = fixed(shape[:first])
        return (*axes, *(UNIFORM if size == 1 else self.fresh(size) for size in shape[first:]))

    def pin(self, axis: Axis, why: Pin) -> None:
        """Keeps the channels of an axis."""
        channels = channels_of(axis)
        if channels is not None:
            self.pinned += [(int(channel), why) for channel in channels]

    def pin_all(self, values: Sequence[Axes], why: Pin) -> None:
        """Keeps all channels of some values."""
        for axes in values:
            for axis in axes:
                self.pin(axis, why)

    def tie(self, one: Axis, other: Axis) -> Axis:
        """Makes the channels of two axes of equal length one, and returns the axis of a result."""
        first, second = channels_of(one), channels_of(other)
        if first is not None and second is not None:
            # Often an array meets itself, as in x * sigmoid(x).
            if first is not second:
                self.ties.append((first, second))
            return first
        if first is None and second is None:
            return FIXED if FIXED in (one, other) else UNIFORM
        channels, met = (one, other) if first is not None else (other, one)
        if met is FIXED:
            # Values that differ along this axis and belong to no layer cannot be cut with it.
            self.pin(channels, Pin(reason="combined with values of a fixed width"))
        return channels

    def classes(self) -> np.ndarray:
        """Returns the class of every channel, i32[count]."""
        if not self.ties:
            return np.arange(self.count, dtype=np.int32)
        one, other = (np.concatenate(side) for side in zip(*self.ties, strict=True))
        shape = (self.count, self.count)
        graph = coo_array((np.ones(len(one), np.int8), (one, other)), shape=shape)
        return connected_components(graph, directed=False)[1].astype(np.int32)

    def run(self, jaxpr: Any, consts: Any, operands: list[Axes], within: Any = None) -> list[Axes]:
        """Returns the axes of the results of a program."""
        return interpret(
            jaxpr, consts, operands, self.rule, lambda value: fixed(np.shape(value)), within
        )

    def rule(self, site: Site, values: list[Axes]) -> Sequence[Axes] | None:
        """Returns the axes of the results of an equation; None enters a call."""
        equation, primitive = site.equation, site.primitive
        shapes = [_shape(variable) for variable in equation.outvars]
        # Markers first: inside them are gathers, as in RoIAlign, that have no rule.
        mark = read_mark(str(equation.params.get("name", ""))) if site.call else None
        rule = _RULES.get(mark[0] if mark else primitive)
        if rule is not None:
            return rule(self, site, values)
        if primitive in ELEMENTWISE:
            return [self._elementwise(values, shapes[0])]
        carriers = [axes for axes in values if any(channels_of(axis) is not None for axis in axes)]
        # What computes anchors and masks carries no channels, and may use any primitive.
        if not carriers:
            return [fixed(shape) for shape in shapes]
        if site.call is not None:
            return None
        self.pin_all(carriers, Pin(reason=f"{primitive} has no channel rule", primitive=primitive))
        return [fixed(shape) for shape in shapes]

    def _elementwise(self, values: list[Axes], shape: Sequence[int]) -> Axes:
        arrays = [axes for axes in values if axes]  # scalars are the same for every channel
        result = list(arrays[0]) if arrays else []
        for axes in arrays[1:]:
            result = [self.tie(one, other) for one, other in zip(result, axes, strict=True)]
        return tuple(result) if arrays else fixed(shape)

    def proportional(self, equation: Any, *axes: Axis, flops: int | None = None) -> None:
        """Notes the FLOP of an equation."""
        cut = tuple(a for axis in axes if (a := channels_of(axis)) is not None)
        amount = flops_of(equation) if flops is None else flops
        self.costs.append(Cost(flops=amount, axes=cut))


def _convolution(trace: _Trace, site: Site, values: list[Axes]) -> list[Axes]:
    params = site.equation.params
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    image, kernel = values
    # Space and batch are never channels; where they hold some, a layer has folded them in.
    for axis in (*numbers.lhs_spec[2:], numbers.lhs_spec[0]):
        trace.pin(image[axis], Pin(reason="convolved over, or one image of a batch each"))
    for axis in numbers.rhs_spec[2:]:
        trace.pin(kernel[axis], Pin(reason="convolved over"))
    entering, read = image[numbers.lhs_spec[1]], kernel[numbers.rhs_spec[1]]
    filters = kernel[numbers.rhs_spec[0]]
    result = list(fixed(_shape(site.equation.outvars[0])))
    if params["batch_group_count"] != 1:
        trace.pin_all(values, Pin(reason="a convolution with batch groups has no channel rule"))
    elif groups == 1:
        trace.tie(entering, read)
    else:
        _tie_groups(trace, groups, entering, read, filters)
    trace.proportional(site.equation, entering, filters)
    result[numbers.out_spec[1]] = filters
    return [tuple(result)]


def _tie_groups(trace: _Trace, groups: int, entering: Axis, read: Axis, filters: Axis) -> None:
    """Ties the channels of a convolution in groups so that all groups stay of one size.

    Where a group reads one channel it goes with that channel. Otherwise the number of groups is part of
    the layer, so every group loses the same places.
    """
    inputs, outputs, rows = channels_of(entering), channels_of(filters), channels_of(read)
    if outputs is None:
        trace.pin(entering, Pin(reason="read by a convolution in groups of a fixed width"))
        return
    # XLA orders the filters by group: the first of them all, then those of the second.
    by_group = outputs.reshape(groups, -1)
    if inputs is None:
        trace.pin(outputs, Pin(reason="in groups over channels of a fixed number"))
    # Depthwise, with a multiplier: every channel has its own filters, which go with it.
    elif len(inputs) == groups:
        trace.ties.append((np.repeat(inputs, by_group.shape[1]), outputs))
    else:
        trace.ties.append((np.tile(by_group[0], groups), outputs))
        trace.ties.append((np.tile(inputs.reshape(groups, -1)[0], groups), inputs))
        if rows is not None:
            trace.ties.append((inputs.reshape(groups, -1)[0], rows))


def _depthwise(trace: _Trace, site: Site, values: list[Axes]) -> list[Axes]:
    """A marker, because as a sum of products its FLOP would not be counted."""
    image, kernel = values
    shape = _shape(site.equation.outvars[0])
    side = _shape(site.equation.invars[1])[0]
    result = list(fixed(shape))
    result[3] = trace.tie(image[3], kernel[3])
    trace.proportional(site.equation, result[3], flops=2 * side * side * math.prod(shape))
    return [tuple(result)]


def _product(trace: _Trace, site: Site, values: list[Axes]) -> list[Axes]:
    (contracted, batched) = site.equation.params["dimension_numbers"]
    one, other = values
    joined = [trace.tie(one[i], other[j]) for i, j in zip(*contracted, strict=True)]
    result = [trace.tie(one[i], other[j]) for i, j in zip(*batched, strict=True)]
    for axes, side in ((one, 0), (other, 1)):
        used = {*contracted[side], *batched[side]}
        result += [axis for i, axis in enumerate(axes) if i not in used]
    trace.proportional(site.equation, *joined, *result)
    return [tuple(result)]


def _roi_align(trace: _Trace, site: Site, values: list[Axes]) -> list[Axes]:
    """A marker: crops have the channels of the levels that they are cut from."""
    mark = read_mark(str(site.equation.params["name"]))
    assert mark is not None
    levels = [axes[-1] for axes in values[: len(mark[1]["levels"])]]
    channels = levels[0]
    for other in levels[1:]:
        channels = trace.tie(channels, other)
    return [(*fixed(_shape(site.equation.outvars[0]))[:-1], channels)]


def _broadcast(trace: _Trace, site: Site, values: list[Axes]) -> list[Axes]:
    shape, kept = (site.equation.params[name] for name in ("shape", "broadcast_dimensions"))
    sizes = _shape(site.equation.invars[0])
    result: list[Axis] = [UNIFORM] * len(shape)
    for axis, size, kept_axis in zip(values[0], sizes, kept, strict=True):
        if size == shape[kept_axis]:
            result[kept_axis] = axis
        else:  # one channel for all indices
            trace.pin(axis, Pin(reason="spread over an axis", primitive=site.primitive))
    return [tuple(result)]


def _reshape(trace: _Trace, site: Site, values: list[Axes]) -> list[Axes]:
    old, new = _shape(site.equation.invars[0]), _shape(site.equation.outvars[0])
    result, stuck = reshaped(values[0], old, new)
    for axis in stuck:
        trace.pin(axis, Pin(reason="split or merged by a reshape", primitive="reshape"))
    return [result]


def _transpose(trace: _Trace, site: Site, values: list[Axes]) -> list[Axes]:
    return [tuple(values[0][i] for i in site.equation.params["permutation"])]


def _reverse(trace: _Trace, site: Site, values: list[Axes]) -> list[Axes]:
    turned = site.equation.params["dimensions"]
    return [
        tuple(
            a[::-1] if i in turned and (a := channels_of(axis)) is not None else axis
            for i, axis in enumerate(values[0])
        )
    ]


def _slice(trace: _Trace, site: Site, values: list[Axes]) -> list[Axes]:
    params = site.equation.params
    strides = params["strides"] or (1,) * len(values[0])
    cuts = zip(values[0], params["start_indices"], params["limit_indices"], strides, strict=True)
    return [tuple(_part(axis, slice(start, stop, step)) for axis, start, stop, step in cuts)]


def _part(axis: Axis, part: slice) -> Axis:
    """Returns a part of an axis; one channel alone is no axis of channels."""
    channels = channels_of(axis)
    return axis if channels is None else channels[part]


def _split(trace: _Trace, site: Site, values: list[Axes]) -> list[Axes]:
    params, results, start = site.equation.params, [], 0
    for size in params["sizes"]:
        axes = list(values[0])
        axes[params["axis"]] = _part(axes[params["axis"]], slice(start, start + size))
        results.append(tuple(axes))
        start += size
    return results


def _concatenate(trace: _Trace, site: Site, values: list[Axes]) -> list[Axes]:
    joined = site.equation.params["dimension"]
    result = list(values[0])
    for axes in values[1:]:
        for i, axis in enumerate(axes):
            if i != joined:
                result[i] = trace.tie(result[i], axis)
    parts = [channels_of(axes[joined]) for axes in values]
    if all(part is None for part in parts):
        result[joined] = FIXED
        return [tuple(result)]
    for i, part in enumerate(parts):
        if part is None:  # what has no channels is kept as it is
            kept = trace.fresh(_shape(site.equation.invars[i])[joined])
            trace.pin(kept, Pin(reason="beside values of a fixed width"))
            parts[i] = kept
    result[joined] = np.concatenate([part for part in parts if part is not None])
    return [tuple(result)]


def _pad(trace: _Trace, site: Site, values: list[Axes]) -> list[Axes]:
    result = list(values[0])
    for i, widths in enumerate(site.equation.params["padding_config"]):
        if any(widths):
            trace.pin(result[i], Pin(reason="padded along its channels", primitive="pad"))
            result[i] = FIXED
    return [tuple(result)]


def _reduce(trace: _Trace, site: Site, values: list[Axes]) -> list[Axes]:
    gone = site.equation.params["axes"]
    for i in gone:
        trace.pin(values[0][i], Pin(reason="reduced over its channels", primitive=site.primitive))
    return [tuple(axis for i, axis in enumerate(values[0]) if i not in gone)]


def _windows(trace: _Trace, site: Site, values: list[Axes]) -> list[Axes]:
    result = list(values[0])
    for i, size in enumerate(site.equation.params["window_dimensions"]):
        if size != 1:
            trace.pin(result[i], Pin(reason="pooled over its channels", primitive=site.primitive))
            result[i] = FIXED
    return [tuple(result)]


def _same(trace: _Trace, site: Site, values: list[Axes]) -> list[Axes]:
    return list(values)


def _branches(trace: _Trace, site: Site, values: list[Axes]) -> list[Axes]:
    """Every branch is entered and their results are tied; the most expensive one counts."""
    results: list[list[Axes]] = []
    dearest: list[Cost] = []
    before, trace.costs = trace.costs, []
    for body in site.bodies:
        operands = [values[i] for i in body.operands]
        results.append(trace.run(body.jaxpr, body.consts, operands, site))
        # One branch runs, and which is not known: the bound is the dearest.
        dearest = max(dearest, trace.costs, key=lambda costs: sum(c.flops for c in costs))
        trace.costs = []
    trace.costs = before + dearest
    joined = results[0]
    for other in results[1:]:
        joined = [
            tuple(trace.tie(a, b) for a, b in zip(one, two, strict=True))
            for one, two in zip(joined, other, strict=True)
        ]
    return joined


Rule = Callable[[_Trace, Site, list[Axes]], list[Axes]]
_RULES: dict[str, Rule] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "cond": _branches,
    "conv_general_dilated": _convolution,
    "depthwise_conv": _depthwise,
    "dot_general": _product,
    "expand_dims": _reshape,
    "optimization_barrier": _same,
    "pad": _pad,
    "reshape": _reshape,
    "rev": _reverse,
    "roi_align": _roi_align,
    "slice": _slice,
    "split": _split,
    "squeeze": _reshape,
    "transpose": _transpose,
    **dict.fromkeys(("reduce_max", "reduce_min", "reduce_sum", "reduce_prod"), _reduce),
    **dict.fromkeys(
        ("reduce_window", "reduce_window_max", "reduce_window_min", "reduce_window_sum"), _windows
    ),
}
"""By the name of the primitive, or of the marker around a whole operation."""
