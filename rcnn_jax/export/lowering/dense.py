"""Lowerings of convolutions, pooling, products, reductions and top-k."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from rcnn_jax.errors import ExportError
from rcnn_jax.export.lowering.elementwise import Rule, cast
from rcnn_jax.export.lowering.graph import Graph, Tensor
from rcnn_jax.export.lowering.values import Const, Operand, Value, identity, is_static

NCHW = (0, 3, 1, 2)
TOPK_LIMIT = 3840
"""Largest k of TensorRT's TopK; more is taken in several exact passes."""


def convolution(graph, params, operands, results):
    """A convolution of NHWC images."""
    x, kernel = operands
    numbers = params["dimension_numbers"]
    if (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec) != (NCHW, (3, 2, 0, 1), NCHW):
        raise ExportError("a convolution that is not NHWC, HWIO, NHWC")
    if params["batch_group_count"] != 1:
        raise ExportError("a convolution with batch groups")
    # Transposed convolutions come as a marked op, with a kernel that need not be flipped.
    if tuple(params["lhs_dilation"]) != (1, 1):
        raise ExportError("a convolution with lhs_dilation (a dilated image)")
    image = convolved(
        graph,
        x,
        kernel,
        results[0],
        groups=params["feature_group_count"],
        strides=params["window_strides"],
        dilations=params["rhs_dilation"],
        pads=params["padding"],
    )
    return [image]


def convolved(
    graph: Graph, x: Operand, kernel: Operand, result, *, groups: int, strides, dilations, pads
) -> Value:
    """Returns NHWC images convolved with a kernel [kh kw in/groups out]."""
    array = _whole_kernel(kernel)
    attributes = {
        "kernel_shape": list(array.shape[:2]),
        "group": groups,
        "strides": list(strides),
        "dilations": list(dilations),
        "pads": _flat(pads),
    }
    # HWIO to OIHW on the constant: no node is left for it.
    weight = graph.constant(array.transpose(3, 2, 0, 1), "kernel")
    return _image(graph, "Conv", [graph.full(x, NCHW), weight], result, attributes)


def conv_transposed(graph: Graph, x: Operand, kernel: Operand, result) -> Value:
    """Returns NHWC images upsampled by a transposed convolution: kernel [k k in out], stride k."""
    array = _whole_kernel(kernel)
    sides = list(array.shape[:2])
    attributes = {"kernel_shape": sides, "group": 1, "strides": sides, "pads": [0, 0, 0, 0]}
    # [k k in out] to ONNX's [in out k k].
    weight = graph.constant(array.transpose(2, 3, 0, 1), "kernel")
    return _image(graph, "ConvTranspose", [graph.full(x, NCHW), weight], result, attributes)


def _whole_kernel(kernel: Operand) -> np.ndarray:
    if not isinstance(kernel, Const) or not kernel.is_whole:
        raise ExportError("a convolution with a computed kernel")
    return kernel.array


def max_pool(graph, params, operands, results):
    """reduce_window with max over NHWC images."""
    window, steps = tuple(params["window_dimensions"]), tuple(params["window_strides"])
    dilated = {*params["base_dilation"], *params["window_dilation"]} != {1}
    if len(window) != 4 or window[0] != 1 or window[3] != 1 or dilated:
        raise ExportError("a max pooling that is not over the rows and columns of NHWC")
    return [pooled(graph, operands[0], results[0], window[1:3], steps[1:3], params["padding"][1:3])]


def pooled(graph: Graph, x: Operand, result, window, strides, pads) -> Value:
    """Returns the largest values of windows over rows and columns of NHWC images."""
    attributes = {
        "kernel_shape": list(window),
        "strides": list(strides),
        "pads": _flat(pads),
    }
    return _image(graph, "MaxPool", [graph.full(x, NCHW)], result, attributes)


def product(graph, params, operands, results):
    """A product over the last axis of the left and the first free axis of the right side."""
    (contract_a, contract_b), (batch_a, batch_b) = params["dimension_numbers"]
    a, b = operands
    lead = tuple(range(len(batch_a)))
    plain = (
        tuple(contract_a) == (len(a.shape) - 1,)
        and tuple(batch_a) == tuple(batch_b) == lead
        and tuple(contract_b) == (len(lead),)
        and len(b.shape) == len(lead) + 2
        and (not lead or len(a.shape) == len(b.shape))
    )
    if not plain:
        raise ExportError("a dot_general that is no plain matrix product")
    left = graph.full(a, identity(len(a.shape)))
    # The first dense layer behind a flattened map: its rows are permuted instead of the map.
    if isinstance(b, Const) and b.is_whole and len(b.shape) == 2:
        left, array = _without_transpose(graph, left, b.array)
        right = graph.constant(array, "kernel")
    else:
        right = graph.full(b, identity(len(b.shape)))
    shape, dtype = results[0].shape, results[0].dtype
    name = graph.emit("MatMul", [left, right], [Tensor(shape, dtype)])[0]
    return [graph.make(name, shape, dtype)]


def reduction(op: str, *, axes_as_input: bool) -> Rule:
    """Returns the rule of a reduction over axes."""

    def rule(graph, params, operands, results):
        x = graph.value(operands[0])
        axes = [int(axis) for axis in params["axes"]]
        stored_axes = sorted(x.perm.index(axis) for axis in axes)
        # What remains keeps the order in which it is stored: a mean over rows and columns of NCHW
        # needs no Transpose.
        left = [axis for axis in x.perm if axis not in axes]
        perm = tuple(sorted(left).index(axis) for axis in left)
        stored = tuple(results[0].shape[i] for i in perm)
        inputs = [graph.full(x, x.perm)]
        attributes: dict[str, Any] = {"keepdims": 0}
        if axes_as_input:
            inputs.append(graph.integers(*stored_axes))
        else:
            attributes["axes"] = stored_axes
        name = graph.emit(op, inputs, [Tensor(stored, x.dtype)], **attributes)[0]
        return [Value(name, results[0].shape, x.dtype, perm, stored)]

    return rule


def top_k(graph, params, operands, results):
    """The largest k along the last axis, in passes of at most TOPK_LIMIT."""
    (x,) = operands
    shape, k = results[0].shape, params["k"]
    if params.get("axis", len(shape) - 1) not in (-1, len(shape) - 1):
        raise ExportError("top_k along another axis than the last")
    rest = graph.full(x, identity(len(x.shape)))
    values, indices = [], []
    # Exact, not a clamp: pass two starts where pass one ended, so the parts stay sorted, and both
    # ONNX and lax.top_k prefer the lower index among equal scores. Pre-NMS counts of 6000 and 12000
    # are usual.
    for start in range(0, k, TOPK_LIMIT):
        count = min(TOPK_LIMIT, k - start)
        dims = (*shape[:-1], count)
        results_ = [Tensor(dims, x.dtype), Tensor(dims, np.dtype(np.int64))]
        best, index = graph.emit("TopK", [rest, graph.integers(count)], results_, axis=-1)
        values.append(best)
        indices.append(index)
        if start + count < k:  # the next pass must not select the same elements again
            lowest = np.asarray([-np.inf], x.dtype)
            taken = graph.emit("Shape", [best], [Tensor((len(dims),), np.dtype(np.int64))])[0]
            worst = graph.emit("ConstantOfShape", [taken], [Tensor(dims, x.dtype)], value=lowest)
            tensor = [Tensor(x.shape, x.dtype)]
            rest = graph.emit("ScatterElements", [rest, index, worst[0]], tensor, axis=-1)[0]
    names = [
        parts[0] if len(parts) == 1 else graph.emit("Concat", parts, [Tensor(shape, t)], axis=-1)[0]
        for parts, t in ((values, x.dtype), (indices, np.dtype(np.int64)))
    ]
    # lax.top_k gives int32 indices, ONNX int64.
    order = graph.make(names[1], shape, np.int64)
    return [graph.make(names[0], shape, x.dtype), cast(graph, order, np.int32)]


def cumulative_sum(graph, params, operands, results):
    """Sums along an axis from its start."""
    if params["reverse"]:
        raise ExportError("cumsum from the end")
    x = graph.value(operands[0])
    name = graph.full(x, identity(len(x.shape)))
    # TensorRT takes the axis as a constant only.
    axis = graph.constant(np.asarray(params["axis"], np.int64))
    made = graph.emit("CumSum", [name, axis], [Tensor(x.shape, x.dtype)])[0]
    return [graph.make(made, x.shape, x.dtype)]


def _image(graph: Graph, op: str, inputs: list[str], result, attributes) -> Value:
    stored = tuple(result.shape[axis] for axis in NCHW)
    name = graph.emit(op, inputs, [Tensor(stored, result.dtype)], **attributes)[0]
    return Value(name, result.shape, result.dtype, NCHW, stored)


def _flat(pads: Iterable[Sequence[int]]) -> list[int]:
    """Returns the pads (low, high) as ONNX orders them: all starts, then all ends."""
    lows, highs = zip(*pads, strict=True)
    return [int(pad) for pad in (*lows, *highs)]


def _without_transpose(graph: Graph, left: str, right: np.ndarray) -> tuple[str, np.ndarray]:
    """Returns both factors with the rows of a constant reordered instead of a feature map.

    A map flattened in the order H, W, C is a Transpose from NCHW and a Reshape: both go away.
    """
    flat = graph.producer(left)
    if flat is None or flat.op != "Reshape":
        return left, right
    transposed = graph.producer(flat.inputs[0])
    if transposed is None or transposed.op != "Transpose":
        return left, right
    order, logical = transposed.attributes["perm"], graph.tensors[transposed.outputs[0]].stored
    # Only a whole map per image: with the batch moved, or flattened with it, rows of the kernel no
    # longer correspond to cells.
    if order[0] != 0 or not is_static(logical[1:]) or len(graph.tensors[left].stored) != 2:
        return left, right
    if int(np.prod(logical[1:])) != right.shape[0]:
        return left, right
    rows = np.arange(right.shape[0]).reshape(logical[1:])
    back = [order[1:].index(i + 1) for i in range(len(order) - 1)]
    source = graph.reshaped(transposed.inputs[0], graph.tensors[left].stored)
    return source, right[rows.transpose(back).reshape(-1)]


DENSE: dict[str, Rule] = {
    "conv_general_dilated": convolution,
    "cumsum": cumulative_sum,
    "dot_general": product,
    # ReduceSum has its axes as an input since opset 13, the other reductions from 18 on.
    "reduce_max": reduction("ReduceMax", axes_as_input=False),
    "reduce_min": reduction("ReduceMin", axes_as_input=False),
    "reduce_sum": reduction("ReduceSum", axes_as_input=True),
    "reduce_window_max": max_pool,
    "top_k": top_k,
}
