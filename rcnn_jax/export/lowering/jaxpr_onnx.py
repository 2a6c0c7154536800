"""From a JAX function to an ONNX model: trace, fold what is constant, lower what is left.

    function, variables closed over -> jaxpr -> each equation: all inputs known -> run it
                                                               a marker         -> its few nodes
                                                               a call           -> look inside
                                                               anything else    -> its lowering

Values carry the order in which their axes are stored, so no Transpose appears between convolutions.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export
from jax.extend import core

from rcnn_jax.errors import ExportError
from rcnn_jax.export.lowering.fold import INNER, fold
from rcnn_jax.export.lowering.graph import Graph
from rcnn_jax.export.lowering.marked_ops import MARKED
from rcnn_jax.export.lowering.passes import name_taps, simplify
from rcnn_jax.export.lowering.table import LOWERINGS
from rcnn_jax.export.lowering.values import Operand, Perm, whole
from rcnn_jax.ops.marker import read_mark

_NEVER_INSIDE = {"while", "scan", "cond"}


def trace(
    function: Callable[..., dict[str, jax.Array]],
    input_name: str,
    shape: Sequence[int | None],
    input_perm: Perm,
) -> Graph:
    """Returns the graph of a function of one float32 array.

    Args:
      function: array -> {output name: array}, in the order of the outputs.
      input_name: of the graph input.
      shape: logical shape of the input; None for a free batch size.
      input_perm: order in which the graph input is stored, for example NCHW of NHWC.

    Raises:
      ExportError: the function uses something that has no lowering.
    """
    (batch,) = jax_export.symbolic_shape("batch")
    dims = tuple(batch if dim is None else dim for dim in shape)
    names: list[str] = []

    def listed(images):
        outputs = function(images)
        names.extend(outputs)
        return list(outputs.values())

    closed = jax.make_jaxpr(listed)(jax.ShapeDtypeStruct(dims, jnp.float32))
    graph = Graph()
    value = graph.add_input(input_name, dims, np.float32, input_perm)
    outputs = _run(graph, closed.jaxpr, closed.consts, [value], "")
    graph.scope = ""
    for name, operand in zip(names, outputs, strict=True):
        graph.add_output(operand, name)
    simplify(graph)
    name_taps(graph)
    return graph


def _run(
    graph: Graph, jaxpr: Any, consts: Sequence[Any], operands: Sequence[Operand], scope: str
) -> list[Operand]:
    """Returns the results of a jaxpr over operands."""
    known: dict[Any, Operand] = dict(
        zip(jaxpr.constvars, (whole(np.asarray(c)) for c in consts), strict=True)
    )
    known.update(zip(jaxpr.invars, operands, strict=True))

    def read(atom: Any) -> Operand:
        return whole(np.asarray(atom.val)) if isinstance(atom, core.Literal) else known[atom]

    for equation in jaxpr.eqns:
        own = str(equation.source_info.name_stack)
        inner = "/".join(part for part in (scope, own) if part)
        graph.scope = _layer(inner)
        inputs = [read(atom) for atom in equation.invars]
        outputs = _lower(graph, equation, inputs, inner)
        known.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _lower(graph: Graph, equation: Any, operands: list[Operand], scope: str) -> list[Operand]:
    name, params = equation.primitive.name, equation.params
    results = [atom.aval for atom in equation.outvars]
    folded = fold(equation, operands)
    if folded is not None:
        return folded
    inner = next((params[key] for key in INNER if key in params), None)
    mark = read_mark(params["name"]) if inner is not None and "name" in params else None
    if mark is not None:
        op, attributes = mark
        rule, arguments = MARKED.get(op), attributes
    elif inner is not None and name not in _NEVER_INSIDE:
        body = getattr(inner, "jaxpr", inner)
        return _run(graph, body, getattr(inner, "consts", ()), operands, scope)
    else:
        rule, arguments = LOWERINGS.get(name), params
    try:
        if rule is None:
            raise ExportError("there is no ONNX lowering")
        return [*rule(graph, arguments, operands, results)]
    except ExportError as error:
        raise ExportError(
            f"layer {graph.scope or '(top)'}: cannot export  {_one_line(equation)}\n  {error}"
        ) from error


def _layer(name_stack: str) -> str:
    """Returns the path of the layer without the marks of transformations and methods."""
    parts = [part for part in name_stack.split("/") if part and "(" not in part]
    return "/".join(part.split(".")[0] if i == 0 else part for i, part in enumerate(parts))


def _one_line(equation: Any) -> str:
    text = " ".join(str(equation).split())
    return text if len(text) <= 300 else text[:300] + " ..."
