"""Lowerings of primitives that change shapes: most of them only relabel axes."""

import numpy as np

from rcnn_jax.errors import ExportError
from rcnn_jax.export.lowering.elementwise import Rule, cast, common_perm, relabel
from rcnn_jax.export.lowering.graph import Graph, Tensor
from rcnn_jax.export.lowering.values import Const, Operand, Shape, Value, identity, is_static


def transpose(graph, params, operands, results):
    """A new label for the axes."""
    del graph
    (x,), order = operands, list(params["permutation"])
    if isinstance(x, Const):
        return [Const(x.array.transpose(order), results[0].shape)]
    # The tensor stays where it is. Most transposes cancel out between two layers; one that does not
    # is emitted where a tensor is needed in another order.
    perm = tuple(order.index(axis) for axis in x.perm)
    return [Value(x.name, results[0].shape, x.dtype, perm, x.stored)]


def reshape(graph, params, operands, results):
    """A reshape of the leading axis alone keeps the layout of the others."""
    if params.get("dimensions") is not None:
        raise ExportError("reshape with a permutation")
    return [reshaped(graph, operands[0], results[0].shape)]


def reshaped(graph: Graph, x: Operand, shape: Shape) -> Operand:
    """Returns the numbers of x, in logical order, in another shape."""
    # One number has no order: it keeps length 1 on every axis, also where the batch is among them.
    if isinstance(x, Const) and x.uniform() is not None:
        return Const(x.array.reshape(-1)[:1].reshape((1,) * len(shape)), shape)
    x = graph.value(x)
    # [b r h w c] to [b*r h w c] and back merges axes that are stored in front: NCHW crops stay
    # NCHW.
    kept = _common_tail(x.shape, shape)
    if x.perm != identity(len(x.shape)) and kept:
        split = len(x.shape) - kept
        # the axes in front of the common tail must be stored in front, in order
        if x.perm[:split] == tuple(range(split)) and _whole(x):
            front = len(shape) - kept
            tail = tuple(axis - split + front for axis in x.perm[split:])
            perm = (*range(front), *tail)
            stored = tuple(shape[axis] for axis in perm)
            return Value(graph.reshaped(x.name, stored), shape, x.dtype, perm, stored)
    name = graph.reshaped(graph.full(x, identity(len(x.shape))), shape)
    return graph.make(name, shape, x.dtype)


def squeeze(graph, params, operands, results):
    """Removes axes of length 1."""
    del params
    (x,), shape = operands, results[0].shape
    return [reshaped(graph, x, shape)]


def broadcast_in_dim(graph, params, operands, results):
    """Repeats nothing: new axes have length 1 until they are needed."""
    (x,), shape = operands, results[0].shape
    axes = tuple(params["broadcast_dimensions"])
    if isinstance(x, Const):
        dims = [1] * len(shape)
        for axis, dim in zip(axes, x.array.shape, strict=True):
            dims[axis] = dim
        return [Const(x.array.reshape(dims), shape)]
    if len(shape) == len(x.shape):
        return [relabel(x, shape)]
    if _whole(x):
        lengths = dict(zip(axes, x.shape, strict=True))
        thin = tuple(lengths.get(axis, 1) for axis in range(len(shape)))
        return [relabel(reshaped(graph, x, thin), shape)]
    name, have = graph.stored(x, identity(len(x.shape)))
    stored = [1] * len(shape)
    for axis, dim in zip(axes, have, strict=True):
        stored[axis] = dim
    name = graph.reshaped(name, tuple(stored))
    return [Value(name, shape, x.dtype, identity(len(shape)), tuple(stored))]


def concatenate(graph, params, operands, results):
    """Concat along one axis; everything is repeated to its whole length first."""
    shape, axis = results[0].shape, params["dimension"]
    if len(operands) == 1:
        return [operands[0]]
    # ONNX's Concat does not broadcast, so here what repeats itself is written out.
    perm = common_perm(operands)
    names = [graph.full(x, perm) for x in operands]
    stored = tuple(shape[i] for i in perm)
    dtype = operands[0].dtype
    name = graph.emit("Concat", names, [Tensor(stored, dtype)], axis=perm.index(axis))[0]
    return [Value(name, shape, dtype, perm, stored)]


def stack(graph, params, operands, results):
    """Concat along a new axis."""
    shape, axis = results[0].shape, params["axis"]
    thin = tuple(1 if i == axis else dim for i, dim in enumerate(shape))
    parts = [reshaped(graph, x, thin) for x in operands]
    return concatenate(graph, {"dimension": axis}, parts, results)


def split(graph, params, operands, results):
    """Split along one axis."""
    x, axis = graph.value(operands[0]), params["axis"]
    sizes = [int(size) for size in params["sizes"]]
    if len(sizes) == 1:
        return [x]
    name, stored_axis = graph.full(x, x.perm), x.perm.index(axis)
    stored = [tuple(result.shape[i] for i in x.perm) for result in results]
    tensors = [Tensor(dims, x.dtype) for dims in stored]
    # Sizes are an input since opset 13; without them ONNX would split evenly.
    names = graph.emit("Split", [name, graph.integers(*sizes)], tensors, axis=stored_axis)
    return [
        Value(name, result.shape, x.dtype, x.perm, dims)
        for name, result, dims in zip(names, results, stored, strict=True)
    ]


def slice_(graph, params, operands, results):
    """Slice along the axes that change."""
    repeated = _sliced_constant(operands[0], params, results[0].shape)
    if repeated is not None:
        return [repeated]
    x, shape = graph.value(operands[0]), results[0].shape
    starts, ends = params["start_indices"], params["limit_indices"]
    steps = params["strides"] or (1,) * len(shape)
    name = graph.full(x, x.perm)
    changed = [i for i in range(len(shape)) if shape[i] != x.shape[i]]
    if not changed:
        return [x]
    stored = tuple(shape[i] for i in x.perm)
    bounds = [
        graph.integers(*(int(starts[i]) for i in changed)),
        graph.integers(*(int(ends[i]) for i in changed)),
        graph.integers(*(x.perm.index(i) for i in changed)),
        graph.integers(*(int(steps[i]) for i in changed)),
    ]
    name = graph.emit("Slice", [name, *bounds], [Tensor(stored, x.dtype)])[0]
    return [Value(name, shape, x.dtype, x.perm, stored)]


def pad(graph, params, operands, results):
    """Pad with a constant; bool travels as float, which TensorRT can pad."""
    x, filler = graph.value(operands[0]), operands[1]
    config = params["padding_config"]
    if any(inner or low < 0 or high < 0 for low, high, inner in config):
        raise ExportError("pad with negative or interior padding")
    if not any(low or high for low, high, _ in config):
        return [x]
    if not isinstance(filler, Const):
        raise ExportError("pad with a computed filler")
    if x.dtype == np.bool_:
        wide = cast(graph, x, np.float32)
        number = Const(filler.array.astype(np.float32), ())
        return [cast(graph, _padded(graph, wide, number, config, results[0].shape), np.bool_)]
    return [_padded(graph, x, filler, config, results[0].shape)]


def iota(graph, params, operands, results):
    """Only the batch axis is unknown here: everything else was folded."""
    del operands
    shape, dtype = results[0].shape, results[0].dtype
    axis = params["dimension"]
    if is_static((shape[axis],)):
        # A ramp along a known axis is a constant; only its repetition over the batch was not.
        ramp = np.arange(shape[axis], dtype=dtype)
        dims = tuple(-1 if i == axis else 1 for i in range(len(shape)))
        return [Const(ramp.reshape(dims), shape)]
    batch = graph.tensors[graph.inputs[0]].stored[0]
    if shape[axis] != batch:
        raise ExportError(f"a ramp of the unknown length {shape[axis]}")
    stored = tuple(batch if i == axis else 1 for i in range(len(shape)))
    name = graph.batch_index(len(shape), axis)
    ramp = Value(name, shape, np.dtype(np.float32), identity(len(shape)), stored)
    return [cast(graph, ramp, dtype)]


def _padded(graph: Graph, x: Value, filler: Const, config, shape: Shape) -> Value:
    lows = [int(config[axis][0]) for axis in x.perm]
    highs = [int(config[axis][1]) for axis in x.perm]
    stored = tuple(shape[axis] for axis in x.perm)
    inputs = [graph.full(x, x.perm), graph.integers(*lows, *highs)]
    inputs.append(graph.constant(filler.array.astype(x.dtype).reshape(())))
    name = graph.emit("Pad", inputs, [Tensor(stored, x.dtype)])[0]
    return Value(name, shape, x.dtype, x.perm, stored)


def _sliced_constant(x: Operand, params, shape: Shape) -> Const | None:
    """Returns part of a constant that repeats itself over the batch."""
    if not isinstance(x, Const):
        return None
    steps = params["strides"] or (1,) * len(shape)
    cuts = [
        # An axis that repeats itself is the same wherever it is cut.
        slice(None) if dim == 1 else slice(int(start), int(end), int(step))
        for dim, start, end, step in zip(
            x.array.shape, params["start_indices"], params["limit_indices"], steps, strict=True
        )
    ]
    return Const(x.array[tuple(cuts)], shape)


def _common_tail(a: Shape, b: Shape) -> int:
    """Returns how many of the last axes two shapes share."""
    count = 0
    while count < min(len(a), len(b)) and a[-1 - count] == b[-1 - count]:
        count += 1
    # One axis is left in front: it takes the change of length.
    return count if count < min(len(a), len(b)) else count - 1


def _whole(x: Value) -> bool:
    return x.stored == tuple(x.shape[axis] for axis in x.perm)


SHAPING: dict[str, Rule] = {
    "broadcast_in_dim": broadcast_in_dim,
    "concatenate": concatenate,
    "expand_dims": reshape,
    "iota": iota,
    "pad": pad,
    "reshape": reshape,
    "slice": slice_,
    "split": split,
    "squeeze": squeeze,
    "stack": stack,
    "transpose": transpose,
}
