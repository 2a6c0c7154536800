"""Trace of channels: numbers, ties between them and reasons to keep them, gathered along a jaxpr.

    axes of numbered channels -> rule of a primitive -> axes of its results; ties and pins are noted

The trace walks the program and knows no primitive but element-wise ones; `channel_rules` has the others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rcnn_jax.compress.axes import FIXED, UNIFORM, Axes, Axis, channels_of
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


def fixed(shape: Sequence[int]) -> Axes:
    """Returns the axes of a value without channels."""
    return tuple(UNIFORM if size == 1 else FIXED for size in shape)


def shape_of(variable: Any) -> tuple[int, ...]:
    """Returns the shape of a variable of a jaxpr."""
    return variable.aval.shape


class Trace:
    """Channels, ties and pins while a program is read.

    Attributes:
      pinned: (channel, why).
      costs: in the order of the program, in channels.
    """

    def __init__(self, rules: Mapping[str, "Rule"]):
        """Begins without channels.

        Args:
          rules: by the name of a primitive, or of the marker around a whole operation.
        """
        self._rules = rules
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
        shapes = [shape_of(variable) for variable in equation.outvars]
        # Markers first: inside them are gathers, as in RoIAlign, that have no rule.
        mark = read_mark(str(equation.params.get("name", ""))) if site.call else None
        rule = self._rules.get(mark[0] if mark else primitive)
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


Rule = Callable[[Trace, Site, list[Axes]], list[Axes]]
"""(trace, equation, axes of its operands) -> axes of its results."""
