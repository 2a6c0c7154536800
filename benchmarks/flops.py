"""Arithmetic of a function by stage, counted in its trace: 2 FLOP per multiplication and addition.

Convolutions and matrix products alone are counted; the rest of a detector moves data. Of the
branches of a condition the most expensive one counts, of a loop of unknown length one round.
"""

import math
from collections import Counter
from typing import Any

import jax
import numpy as np
from jax.extend import core

from benchmarks.stages import direction_of, stage_of

Key = tuple[str, str]
"""(stage, direction)."""


def flops_by_stage(function: Any, *arguments: Any) -> Counter[Key]:
    """Returns {(stage, direction): FLOP} of `function(*arguments)`; nothing is computed."""
    closed = jax.make_jaxpr(function)(*arguments)
    return _count(closed.jaxpr, "")


def _count(jaxpr: Any, scope: str) -> Counter[Key]:
    found: Counter[Key] = Counter()
    for equation in jaxpr.eqns:
        name = f"{scope}/{equation.source_info.name_stack}"
        found[stage_of(name), direction_of(name)] += _flops_of(equation)
        inner = [
            _count(body, f"{name}/{equation.params.get('name', '')}") for body in _bodies(equation)
        ]
        if equation.primitive.name == "cond":
            inner = [max(inner, key=lambda counts: sum(counts.values()))]
        rounds = equation.params["length"] if equation.primitive.name == "scan" else 1
        for counts in inner:
            for key, value in counts.items():
                found[key] += rounds * value
    return found


def _bodies(equation: Any) -> list[Any]:
    """Returns the jaxprs that an equation holds; not the rules of its derivative."""
    bodies = []
    for name, value in equation.params.items():
        if name.startswith(("fwd", "bwd", "jvp")):
            continue
        for one in value if isinstance(value, tuple | list) else (value,):
            if isinstance(one, core.ClosedJaxpr):
                bodies.append(one.jaxpr)
            elif isinstance(one, core.Jaxpr):
                bodies.append(one)
    return bodies


def _flops_of(equation: Any) -> int:
    shapes = [variable.aval.shape for variable in equation.invars[:2]]
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        size = math.prod(shapes[0][axis] for axis in contracted)
        return 2 * size * math.prod(equation.outvars[0].aval.shape)
    if equation.primitive.name == "conv_general_dilated":
        return _convolution(equation, *shapes)
    return 0


def _convolution(equation: Any, image: tuple[int, ...], kernel: tuple[int, ...]) -> int:
    """Returns the FLOP of a convolution; taps on padding or in the holes of a dilation are none."""
    params = equation.params
    numbers, out = params["dimension_numbers"], equation.outvars[0].aval.shape
    pairs = 1
    for axis, (lhs, rhs, place) in enumerate(
        zip(numbers.lhs_spec[2:], numbers.rhs_spec[2:], numbers.out_spec[2:], strict=True)
    ):
        hole = params["lhs_dilation"][axis]
        begin = np.arange(out[place]) * params["window_strides"][axis] - params["padding"][axis][0]
        read = begin[:, None] + np.arange(kernel[rhs]) * params["rhs_dilation"][axis]
        pairs *= int(((read >= 0) & (read <= (image[lhs] - 1) * hole) & (read % hole == 0)).sum())
    images, features = out[numbers.out_spec[0]], out[numbers.out_spec[1]]
    return 2 * images * features * kernel[numbers.rhs_spec[1]] * pairs
