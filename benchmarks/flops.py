"""Arithmetic of a function by stage, counted in its trace: 2 FLOP per multiplication and addition.

Convolutions and matrix products alone are counted; the rest of a detector moves data. Of the
branches of a condition the most expensive one counts, of a loop of unknown length one round.
"""

from collections import Counter
from typing import Any

import jax
from jax.extend import core

from benchmarks.stages import direction_of, stage_of
from rcnn_jax.tracing.flops import flops_of
from rcnn_jax.tracing.jaxpr import Site, sites

Key = tuple[str, str]
"""(stage, direction)."""


def flops_by_stage(function: Any, *arguments: Any) -> Counter[Key]:
    """Returns {(stage, direction): FLOP} of `function(*arguments)`; nothing is computed."""
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr, None)


def _count(jaxpr: core.Jaxpr, within: Site | None) -> Counter[Key]:
    total: Counter[Key] = Counter()
    for site in sites(jaxpr, within):
        name = "/".join((site.scope, *site.calls))
        # Scopes and names of calls: a marked op is named by its call, a layer by its scope.
        total[stage_of(name), direction_of(name)] += flops_of(site.equation)
        inner = [(body, _count(body.jaxpr, site)) for body in site.bodies]
        # Only one branch runs. The dearest is what a step can cost (the mask head while a roi has
        # an object).
        if site.primitive == "cond":
            inner = [max(inner, key=lambda one: sum(one[1].values()))]
        for body, counts in inner:
            for key, value in counts.items():
                # A scan knows its rounds, a while loop does not: suppression ends when nothing
                # changes.
                total[key] += (body.rounds or 1) * value
    return total
