"""Lowerings of elementwise primitives: they keep the layout and broadcast as ONNX does."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import helper

from rcnn_jax.errors import ExportError
from rcnn_jax.export.lowering.graph import Graph, Tensor
from rcnn_jax.export.lowering.values import Const, Operand, Perm, Shape, Value, identity

Rule = Callable[[Graph, dict[str, Any], list[Operand], list[Any]], Sequence[Operand]]
"""(graph, parameters of the equation, operands, abstract results) -> results."""


def common_perm(operands: Sequence[Operand]) -> Perm:
    """Returns the common layout of elementwise operands: the first that is not the logical one."""
    ranks = {len(operand.shape) for operand in operands}
    perms = [operand.perm for operand in operands if isinstance(operand, Value)]
    perms = [perm for perm in perms if len(perm) == max(ranks)]
    plain = identity(max(ranks))
    # A feature map is stored NCHW, what meets it in logical order is a bias or a mask: the
    # Transpose, if any, falls on the small one.
    return next((perm for perm in perms if perm != plain), plain)


def apply(
    graph: Graph, op: str, operands: Sequence[Operand], shape: Shape, dtype: Any, **attributes: Any
) -> Value:
    """Emits a broadcasting op over operands of one rank or rank 0."""
    perm = common_perm([*operands])
    names, stored = [], []
    for operand in operands:
        rank = len(operand.shape)
        name, have = graph.stored(operand, perm if rank else ())
        names.append(name)
        stored.append(have or (1,) * len(perm))
    # Broadcast as the nodes will: lengths of 1 stay until somebody needs the whole array.
    result = tuple(_longest(dims) for dims in zip(*stored, strict=True))
    name = graph.emit(op, names, [Tensor(result, np.dtype(dtype))], **attributes)[0]
    return Value(name, shape, np.dtype(dtype), perm, result)


def relabel(operand: Operand, shape: Shape) -> Operand:
    """Returns the operand broadcast to a shape of the same rank, which costs nothing."""
    if isinstance(operand, Const):
        return Const(operand.array, shape)
    return Value(operand.name, shape, operand.dtype, operand.perm, operand.stored)


def simple(op: str) -> Rule:
    """Returns the rule of a primitive that is one ONNX op."""

    def rule(graph, params, operands, results):
        del params
        return [apply(graph, op, operands, results[0].shape, results[0].dtype)]

    return rule


def arithmetic(op: str, neutral: float, *, either_side: bool) -> Rule:
    """Returns the rule of + - * /, which leaves out what changes nothing."""

    def rule(graph, params, operands, results):
        a, b = operands
        shape = results[0].shape
        # Graphs take normalised pixels, so the model normalises with mean 0 and deviation 1
        # (`contracts.outputs_of`): these two operations vanish here.
        if isinstance(b, Const) and b.uniform() == neutral and len(a.shape) == len(shape):
            return [relabel(a, shape)]
        free = either_side and isinstance(a, Const) and a.uniform() == neutral
        if free and len(b.shape) == len(shape):
            return [relabel(b, shape)]
        return simple(op)(graph, params, operands, results)

    return rule


def maximum(graph, params, operands, results):
    """max(x, 0) is Relu, max(x, -inf) is x."""
    shape, dtype = results[0].shape, results[0].dtype
    for x, other in (operands, operands[::-1]):
        if isinstance(other, Const) and isinstance(x, Value) and len(x.shape) == len(shape):
            bound = other.uniform()
            # Runtimes fuse Relu with the layer before it, a Max of two tensors stays a node of its
            # own. Integers (pyramid levels) keep Max.
            if bound == 0.0 and np.issubdtype(dtype, np.floating):
                return [apply(graph, "Relu", [x], shape, dtype)]
            if bound == -np.inf:
                return [relabel(x, shape)]
    return simple("Max")(graph, params, operands, results)


def clamp(graph, params, operands, results):
    """Min and Max; operands are (low, x, high)."""
    low, x, high = operands
    # Min and Max: bounds may be arrays, such as the sides of the canvas, and Clip takes scalars.
    # With low = 0 the Max becomes Relu.
    below = simple("Min")(graph, params, [x, high], results)
    return maximum(graph, params, [below[0], low], results)


def select(graph, params, operands, results):
    """select_n(which, case of False, case of True)."""
    del params
    if len(operands) != 3 or operands[0].dtype != np.bool_:
        raise ExportError("select_n with more than two cases")
    which, if_false, if_true = operands
    # The other way round: select_n lists the case of False first, Where that of True.
    return [apply(graph, "Where", [which, if_true, if_false], results[0].shape, results[0].dtype)]


def convert(graph, params, operands, results):
    """convert_element_type."""
    (x,), (result,) = operands, results
    if x.dtype == result.dtype:
        return [x]
    return [cast(graph, x, params["new_dtype"])]


def cast(graph: Graph, x: Operand, dtype: Any) -> Value:
    """Returns x with numbers of another type."""
    dtype = np.dtype(dtype)
    if isinstance(x, Value) and x.dtype == dtype:
        return x
    kind = helper.np_dtype_to_tensor_dtype(dtype)
    return apply(graph, "Cast", [x], x.shape, dtype, to=kind)


def not_equal(graph, params, operands, results):
    """Not(Equal): ONNX has no NotEqual."""
    equal = simple("Equal")(graph, params, operands, results)
    return simple("Not")(graph, params, [*equal], results)


def rsqrt(graph, params, operands, results):
    """1 / sqrt(x)."""
    root = simple("Sqrt")(graph, params, operands, results)
    return simple("Reciprocal")(graph, params, [*root], results)


def square(graph, params, operands, results):
    """The product of x with itself."""
    return simple("Mul")(graph, params, operands * 2, results)


def integer_pow(graph, params, operands, results):
    """x**y with a constant y."""
    exponent = Const(np.asarray(params["y"], operands[0].dtype), ())
    return simple("Pow")(graph, params, [operands[0], exponent], results)


def unchanged(graph, params, operands, results):
    """Primitives that matter to other transformations only."""
    del graph, params, results
    return list(operands)


def tapped(graph, params, operands, results):
    """Emits no node: a tap of the network only names the tensor of its input."""
    del results
    (x,) = operands
    if isinstance(x, Value):
        # The first tap names a tensor; a second one stands behind a layer that emitted no node.
        graph.taps.setdefault(x.name, params["name"])
    return [x]


def _longest(dims: Sequence[Any]) -> Any:
    return next((dim for dim in dims if not (isinstance(dim, int) and dim == 1)), 1)


ELEMENTWISE: dict[str, Rule] = {
    "abs": simple("Abs"),
    "add": arithmetic("Add", 0.0, either_side=True),
    "add_any": arithmetic("Add", 0.0, either_side=True),
    "and": simple("And"),
    "ceil": simple("Ceil"),
    "clamp": clamp,
    "convert_element_type": convert,
    "copy": unchanged,
    "copy_p": unchanged,
    "div": arithmetic("Div", 1.0, either_side=False),
    "eq": simple("Equal"),
    "erf": simple("Erf"),
    "exp": simple("Exp"),
    "floor": simple("Floor"),
    "ge": simple("GreaterOrEqual"),
    "gt": simple("Greater"),
    "integer_pow": integer_pow,
    "le": simple("LessOrEqual"),
    "log": simple("Log"),
    "logistic": simple("Sigmoid"),
    "lt": simple("Less"),
    "max": maximum,
    "min": simple("Min"),
    "mul": arithmetic("Mul", 1.0, either_side=True),
    "ne": not_equal,
    "name": tapped,
    "neg": simple("Neg"),
    "not": simple("Not"),
    "optimization_barrier": unchanged,
    "or": simple("Or"),
    "pow": simple("Pow"),
    "rsqrt": rsqrt,
    "select_n": select,
    "sign": simple("Sign"),
    "sqrt": simple("Sqrt"),
    "square": square,
    "stop_gradient": unchanged,
    "sub": arithmetic("Sub", 0.0, either_side=False),
    "tanh": simple("Tanh"),
}
