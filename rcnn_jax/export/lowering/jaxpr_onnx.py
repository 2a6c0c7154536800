"""From a JAX function to an ONNX model: trace, fold what is constant, lower what is left.

    function, variables closed over -> jaxpr -> each equation: all inputs known -> run it
                                                               a marker         -> its few nodes
                                                               a call           -> look inside
                                                               anything else    -> its lowering

Values carry the order in which their axes are stored, so no Transpose appears between convolutions.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from rcnn_jax.errors import ExportError
from rcnn_jax.export.lowering.fold import fold
from rcnn_jax.export.lowering.graph import Graph
from rcnn_jax.export.lowering.marked_ops import MARKED
from rcnn_jax.export.lowering.passes import name_taps, simplify
from rcnn_jax.export.lowering.table import LOWERINGS
from rcnn_jax.export.lowering.values import Operand, Perm, whole
from rcnn_jax.ops.marker import read_mark
from rcnn_jax.tracing.jaxpr import Site, interpret


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
        # A jaxpr has no names of outputs. Tracing calls the function exactly once.
        names.extend(outputs)
        return list(outputs.values())

    # The weights are closed over and arrive as constants, so all that depends on them alone (batch
    # norm's factors, anchors, transposed kernels) is computed during the export.
    closed = jax.make_jaxpr(listed)(jax.ShapeDtypeStruct(dims, jnp.float32))
    graph = Graph()
    value = graph.add_input(input_name, dims, np.float32, input_perm)
    outputs = interpret(
        closed.jaxpr, closed.consts, [value], functools.partial(_lower, graph), _constant
    )
    # Outputs are named by the contract, not after the layer that came last.
    graph.scope = ""
    for name, operand in zip(names, outputs, strict=True):
        graph.add_output(operand, name)
    simplify(graph)
    name_taps(graph)
    return graph


def _lower(graph: Graph, site: Site, operands: list[Operand]) -> list[Operand] | None:
    """Emits the nodes of an equation and returns its results; None for a call to look inside."""
    graph.scope = _layer(site.scope)
    results = [atom.aval for atom in site.equation.outvars]
    # Before the table is asked: what works on constants alone needs no lowering, so the table holds
    # only what an image reaches.
    folded = fold(site.equation, operands)
    if folded is not None:
        return folded
    params = site.equation.params
    rule, arguments = LOWERINGS.get(site.primitive), params
    if site.call is not None:
        mark = read_mark(params.get("name", ""))
        if mark is None:
            # No marker, so an ordinary nested jit: its equations are lowered one by one.
            return None
        rule, arguments = MARKED.get(mark[0]), mark[1]
    try:
        if rule is None:
            raise ExportError("there is no ONNX lowering")
        return [*rule(graph, arguments, operands, results)]
    except ExportError as error:
        # The user knows layers, the developer equations: the message has both, and the cause.
        raise ExportError(
            f"layer {graph.scope or '(top)'}: cannot export  {_one_line(site.equation)}\n  {error}"
        ) from error


def _constant(array: Any) -> Operand:
    return whole(np.asarray(array))


def _layer(name_stack: str) -> str:
    """Returns the path of the layer without the marks of transformations and methods."""
    # Transformations leave `jvp(...)` or `vmap(...)` in the stack. Flax appends the method to the
    # module whose stage was called: `FasterRcnn.extract`.
    parts = [part for part in name_stack.split("/") if part and "(" not in part]
    return "/".join(part.split(".")[0] if i == 0 else part for i, part in enumerate(parts))


def _one_line(equation: Any) -> str:
    text = " ".join(str(equation).split())
    return text if len(text) <= 300 else text[:300] + " ..."
