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
from rcnn_jax.tracing.jaxpr import Site, sites

Key = tuple[str, str]
"""(stage, direction)."""


def flops_by_stage(function: Any, *arguments: Any) -> Counter[Key]:
    """Returns {(stage, direction): FLOP} of `function(*arguments)`; nothing is computed."""
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr, None)


def _count(jaxpr: core.Jaxpr, within: Site | None) -> Counter[Key]:
    found: Counter[Key] = Counter()
    for site in sites(jaxpr, within):
        name = "/".join((site.scope, *site.calls))
        # Scopes and names of calls: a marked op is named by its call, a layer by its scope.
        found[stage_of(name), direction_of(name)] += _flops_of(site.equation)
        inner = [(body, _count(body.jaxpr, site)) for body in site.bodies]
        # Only one branch runs. The dearest is what a step can cost (the mask head while a roi has
        # an object).
        if site.primitive == "cond":
            inner = [max(inner, key=lambda one: sum(one[1].values()))]
        for body, counts in inner:
            for key, value in counts.items():
                # A scan knows its rounds, a while loop does not: suppression ends when nothing
                # changes.
                found[key] += (body.rounds or 1) * value
    return found


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
    """Returns the FLOP of a convolution; kernel offsets on padding or between dilated cells are none."""
    params = equation.params
    numbers, out = params["dimension_numbers"], equation.outvars[0].aval.shape
    pairs = 1
    for axis, (lhs, rhs, place) in enumerate(
        zip(numbers.lhs_spec[2:], numbers.rhs_spec[2:], numbers.out_spec[2:], strict=True)
    ):
        hole = params["lhs_dilation"][axis]
        begin = np.arange(out[place]) * params["window_strides"][axis] - params["padding"][axis][0]
        read = begin[:, None] + np.arange(kernel[rhs]) * params["rhs_dilation"][axis]
        # Products with padding are skipped by libraries or add zeros; counting them would flatter
        # small maps.
        pairs *= int(((read >= 0) & (read <= (image[lhs] - 1) * hole) & (read % hole == 0)).sum())
    images, features = out[numbers.out_spec[0]], out[numbers.out_spec[1]]
    return 2 * images * features * kernel[numbers.rhs_spec[1]] * pairs
