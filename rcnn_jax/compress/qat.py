"""Quantisation-aware training: experiments and variables that compute on the int8 grid of the export.

    float experiment --- plan of the exporter ---> quantised experiment, batch norm frozen
    float weights    --- calibrated ranges  ---> collection `quant` {module: {input_i: scale}}

Ranges are calibrated once and frozen; scales of weights follow the weights. Folding batch norm needs no
simulation: with one symmetric scale per output channel, rounding commutes with the factor of the channel,
so the integers are those of the folded kernel up to its sign.

Source: Nagel et al., "A White Paper on Neural Network Quantization", 2021, sections 4 and 5.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.models.quant import QuantPlan, leaf_name
from rcnn_jax.ops.fake_quant import fake_quant_weight, weight_scale, weight_steps
from rcnn_jax.reporter import Reporter
from rcnn_jax.settings.training import QatSettings
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.task import Variables

COLLECTION = "quant"
"""Variable collection of the scales."""
Site = tuple[str, int]
"""A rounded input: (module, number of the input)."""
Ranges = Mapping[Site, float]
"""{rounded input: scale}."""


@dataclass(frozen=True, kw_only=True)
class Quantiser:
    """Interface of the exporter for quantisation-aware training; it stands on a higher floor.

    Attributes:
      plan: the inputs that the exported graph of an experiment rounds.
      ranges: their scales for variables in float, calibrated on training images.
    """

    plan: Callable[[Experiment], QuantPlan]
    ranges: Callable[[Experiment, Variables, QatSettings, Reporter], Ranges]


def quantised(experiment: Experiment, plan: QuantPlan) -> Experiment:
    """Returns the experiment whose network rounds the inputs of a plan, with frozen batch norm.

    Statistics of a batch would move the factors that the exported weights are folded with.
    """
    model = experiment.task.model
    options = dataclasses.replace(model.options, freeze_bn=True)
    return _with_model(experiment, quant=plan, options=options)


def in_float(experiment: Experiment) -> Experiment:
    """Returns the experiment whose network rounds nothing."""
    return _with_model(experiment, quant=QuantPlan())


def _with_model(experiment: Experiment, **fields: Any) -> Experiment:
    task: Any = experiment.task
    task = dataclasses.replace(task, model=task.model.clone(**fields))
    return dataclasses.replace(experiment, task=task)


def collection(plan: QuantPlan, ranges: Ranges | None = None) -> dict[str, dict[str, np.ndarray]]:
    """Returns the collection `quant` of a plan.

    Args:
      plan: the rounded inputs.
      ranges: their scales; None for those of a run that has not calibrated yet, which are 0.
    """
    known = ranges or {}
    return {
        name: {leaf_name(i): np.asarray(known.get((name, i), 0.0), np.float32) for i in inputs}
        for name, inputs in plan.sites
    }


def is_calibrated(collections: Mapping[str, Any]) -> bool:
    """Says whether the ranges of variables or of a state have been calibrated."""
    scales = jax.tree.leaves(collections.get(COLLECTION, {}))
    return bool(scales) and all(float(scale) > 0 for scale in scales)


def ranges_of(variables: Variables, plan: QuantPlan) -> dict[Site, float]:
    """Returns the scales of quantised variables."""
    tree = variables[COLLECTION]
    return {
        (name, i): float(np.float32(tree[name][leaf_name(i)]))
        for name, inputs in plan.sites
        for i in inputs
    }


def float_variables(variables: Variables) -> Variables:
    """Returns variables without ranges, for the float network."""
    return {name: tree for name, tree in variables.items() if name != COLLECTION}


def rounded_variables(variables: Variables, plan: QuantPlan) -> Variables:
    """Returns variables of the float network whose rounded kernels lie on their grid.

    An exported graph that is made of them has exactly the weights that the quantised network computes
    with.
    """
    params = dict(variables["params"])
    for layer in rounded_layers(params, plan):
        kernel = fake_quant_weight(jnp.asarray(params[layer]["kernel"]))
        params[layer] = {**params[layer], "kernel": np.asarray(kernel)}
    return {**float_variables(variables), "params": params}


@dataclass(frozen=True, eq=False)
class RoundedKernel:
    """A kernel in int8.

    Attributes:
      steps: i8[... out], the integers.
      scale: f32[out], before batch norm is folded in.
    """

    steps: np.ndarray
    scale: np.ndarray


def rounded_kernels(variables: Variables, plan: QuantPlan) -> dict[str, RoundedKernel]:
    """Returns {layer: its kernel in int8}, as the quantised network computes with it."""
    params = variables["params"]
    kernels = {layer: params[layer]["kernel"] for layer in rounded_layers(params, plan)}
    return {
        layer: RoundedKernel(np.asarray(weight_steps(kernel)), np.asarray(weight_scale(kernel)))
        for layer, kernel in kernels.items()
    }


def rounded_layers(params: Mapping[str, Any], plan: QuantPlan) -> list[str]:
    """Returns the layers of a plan; its other modules are sums, which have no kernel."""
    return [name for name, _ in plan.sites if "kernel" in params.get(name, {})]
