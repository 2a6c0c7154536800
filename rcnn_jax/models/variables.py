"""Variables of a network, their order and widths, from its smallest input."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.core import Tracer

from rcnn_jax.models.channels import ChannelPlan
from rcnn_jax.models.heads import PREDICTORS
from rcnn_jax.models.network import Network
from rcnn_jax.tracing.jaxpr import walk

SomeNetwork = TypeVar("SomeNetwork", bound=Network)
Variables = dict[str, dict]

_RUN_ONCE = {"xla_backend_optimization_level": 1}
"""Dozens of random generators in one program take the compiler two to four times as long at its usual
level, for the same bits."""


def initial_variables(model: Network, key: jax.Array, image_channels: int = 3) -> Variables:
    """Fresh variables {"params": ..., "batch_stats": ...}, float32.

    Parameters do not depend on the size of the image, so the smallest one is used; under jit the
    forward pass that Flax writes down is dropped by the compiler.

    Args:
      model: an unbound network.
      key: source of the random initial weights.
      image_channels: 3, or 1 for grey images.
    """
    options = None if isinstance(key, Tracer) else _RUN_ONCE  # none inside other programs
    make = jax.jit(model.init, compiler_options=options)
    return make(key, *_smallest_inputs(model, image_channels))


def parameter_order(
    model: Network, image_channels: int = 3
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """("layer/leaf", shape) of every trainable parameter in the order the layers are made.

    This is the order of the TRAINABLE VARIABLES table of the original; JAX itself sorts by name.
    Nothing is computed.
    """
    order = []

    # Noted inside the trace: what leaves it is a pytree, whose dicts JAX sorts by name.
    def record(key: jax.Array) -> None:
        variables: Any = model.init(key, *_smallest_inputs(model, image_channels))
        for layer, leaves in variables["params"].items():
            order.extend((f"{layer}/{leaf}", tuple(a.shape)) for leaf, a in leaves.items())

    jax.eval_shape(record, jax.random.key(0))
    return tuple(order)


def layer_order(model: Network, image_channels: int = 3) -> tuple[str, ...]:
    """Names of all layers in the order they run, those without weights among them.

    Layers with weights are known by the scope of their equations, the others by the tap behind them.
    Nothing is computed.
    """
    inputs = _smallest_inputs(model, image_channels)
    # Shapes instead of arrays: the walk reads names alone.
    variables = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    names = []
    for site in walk(jax.make_jaxpr(model.apply)(variables, *inputs).jaxpr):
        module = site.scope.rpartition("/")[2]
        if site.primitive == "name":
            names.append(site.equation.params["name"])
        elif module in variables["params"]:
            names.append(module)
    # First occurrences: a layer is several equations, and the RPN runs once for each level.
    return tuple(dict.fromkeys(names))


def layer_widths(model: Network, image_channels: int = 3) -> dict[str, int]:
    """Output channels of every layer a `ChannelPlan` may name, in order of creation.

    The predictors are absent: their width is a number of classes or anchors. Depthwise convolutions
    are listed, but they follow their input whatever a plan says.
    """
    return {
        name.removesuffix("/kernel"): shape[-1]
        for name, shape in parameter_order(model, image_channels)
        if name.endswith("/kernel") and name.removesuffix("/kernel") not in PREDICTORS
    }


def narrowed(model: SomeNetwork, factor: float, image_channels: int = 3) -> SomeNetwork:
    """The same network with every width multiplied by `factor`, rounded, at least 2.

    Equal widths stay equal, so residual sums still fit: this is how tests make tiny networks.
    """
    widths = layer_widths(model, image_channels)
    plan = ChannelPlan(tuple((name, max(2, round(w * factor))) for name, w in widths.items()))
    return model.clone(channels=plan)


def _smallest_inputs(model: Network, image_channels: int) -> tuple[jax.Array, jax.Array]:
    # One cell of the coarsest level: the smallest image a pyramid takes.
    side = 2 ** max(model.levels)
    return jnp.zeros((1, side, side, image_channels)), jnp.zeros((1, 1, 4))
