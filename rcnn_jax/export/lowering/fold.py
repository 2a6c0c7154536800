"""Constant folding: an equation whose inputs are all known is run while exporting.

Operations that IEEE 754 fixes to the last bit, and those that only move numbers, are done by NumPy:
the same result without a compilation for every new shape.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend import core

from rcnn_jax.export.lowering.elementwise import ELEMENTWISE
from rcnn_jax.export.lowering.values import Const, Operand, is_static, whole
from rcnn_jax.tracing.jaxpr import call_body


def fold(equation: Any, operands: list[Operand]) -> list[Operand] | None:
    """Returns the results of an equation by running it, or None if it needs the graph."""
    results = [atom.aval for atom in equation.outvars]
    known = all(isinstance(operand, Const) for operand in operands)
    # dim_as_value is the batch size as a number: no inputs, and yet no constant.
    if not known or equation.primitive.name == "dim_as_value":
        return None
    constants = [operand for operand in operands if isinstance(operand, Const)]
    if all(c.is_whole for c in constants) and all(is_static(r.shape) for r in results):
        outputs = _execute(equation, [c.array for c in constants])
        return [whole(np.asarray(output)) for output in outputs]
    # A reduction over an axis that repeats itself would count one of the repeats.
    if equation.primitive.name not in ELEMENTWISE:
        return None
    # something is repeated over the batch: the numbers once are enough
    arrays = np.broadcast_arrays(*(c.array for c in constants))
    outputs = _execute(equation, [np.asarray(array) for array in arrays])
    return [Const(np.asarray(o), r.shape) for o, r in zip(outputs, results, strict=True)]


def _execute(equation: Any, arrays: list[np.ndarray]) -> list[Any]:
    """Returns the results of one equation over arrays; bodies of calls run as they are."""
    primitive, params = equation.primitive, equation.params
    # float32 alone: for other types wrapping and rounding are JAX's own.
    exact = _EXACT.get(primitive.name)
    if exact is not None and all(array.dtype == np.float32 for array in arrays):
        return [exact(params, *arrays)]
    body = call_body(equation)
    if body is not None:
        return list(core.jaxpr_as_fun(core.ClosedJaxpr(body.jaxpr, body.consts))(*arrays))
    # By JAX itself, so that folded numbers have the bits of the model that the graph is compared
    # with.
    outputs = primitive.bind(*(jnp.asarray(array) for array in arrays), **params)
    return list(outputs) if primitive.multiple_results else [outputs]


def _broadcast(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
    dims = [1] * len(params["shape"])
    for axis, length in zip(params["broadcast_dimensions"], x.shape, strict=True):
        dims[axis] = length
    return np.broadcast_to(x.reshape(dims), params["shape"])


def _reshape(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
    assert params.get("dimensions") is None
    return x.reshape(params["new_sizes"])


_EXACT: dict[str, Callable[..., np.ndarray]] = {
    "add": lambda _, a, b: a + b,
    "broadcast_in_dim": _broadcast,
    "mul": lambda _, a, b: a * b,
    "reshape": _reshape,
    "sub": lambda _, a, b: a - b,
}
