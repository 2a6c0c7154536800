"""Lowerings of marked ops: one JAX function each, a few standard ONNX nodes each.

Nothing here needs a plugin, and every length but the batch is fixed: what NonMaxSuppression selects
becomes a mask at once.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rcnn_jax.errors import ExportError
from rcnn_jax.export.lowering.dense import (
    NCHW,
    TOPK_LIMIT,
    conv_transposed,
    convolved,
    pooled,
    top_k,
)
from rcnn_jax.export.lowering.elementwise import apply, cast
from rcnn_jax.export.lowering.graph import Graph, Tensor
from rcnn_jax.export.lowering.roi_align import roi_align
from rcnn_jax.export.lowering.shaping import reshaped
from rcnn_jax.export.lowering.values import Const, Operand, Value, identity, number

MarkedRule = Callable[[Graph, dict[str, Any], list[Operand], list[Any]], Sequence[Operand]]

# `tensorrt_gate` knows the limit too; found here, the message can name the counts of the spec.
NMS_LIMIT = 5000
"""Boxes per image that TensorRT's NonMaxSuppression looks at."""
_I64, _F32 = np.dtype(np.int64), np.dtype(np.float32)


def nms(graph, attributes, operands, results):
    """NonMaxSuppression of rows, its selection sorted by score."""
    boxes, scores, valid = operands
    return _suppressed(graph, attributes, boxes, scores, valid, results)


def ranked_nms(graph, attributes, operands, results):
    """The same for sorted rows: the rank from the end serves as score, so there are no ties."""
    boxes, scores, valid = operands
    count = scores.shape[-1]
    # TensorRT leaves the order of equal scores open. Ranks have none, so both runtimes keep the
    # same boxes.
    ramp = np.arange(count, 0, -1, dtype=np.float32).reshape((1,) * (len(scores.shape) - 1) + (-1,))
    return _suppressed(graph, attributes, boxes, Const(ramp, scores.shape), valid, results)


def gather_rows(graph, attributes, operands, results):
    """Rows of a table by index, both per image, or of one table for all images."""
    table, index = operands
    shape, dtype = results[0].shape, results[0].dtype
    mapped = len(table.shape) - attributes["row_rank"] - 1
    if mapped == 0:
        rows = graph.full(table, identity(len(table.shape)))
        row_index = graph.full(index, identity(len(index.shape)))
        name = graph.emit("Gather", [rows, row_index], [Tensor(shape, dtype)], axis=0)[0]
        return [graph.make(name, shape, dtype)]
    if mapped != 1 or len(index.shape) != 2 or table.shape[0] != index.shape[0]:
        raise ExportError("gather_rows with more than one mapped axis, or one that is not in front")
    rows = graph.full(table, identity(len(table.shape)))
    # GatherND takes whole rows per image (batch_dims=1) and int64 indices; GatherElements would
    # need the index repeated over every number of a row.
    row_index = cast(graph, reshaped(graph, index, (*index.shape, 1)), np.int64)
    name = graph.emit(
        "GatherND",
        [rows, graph.full(row_index, (0, 1, 2))],
        [Tensor(shape, dtype)],
        batch_dims=1,
    )[0]
    return [graph.make(name, shape, dtype)]


def upsample_nearest(graph, attributes, operands, results):
    """Resize by a whole factor."""
    stored = tuple(results[0].shape[axis] for axis in NCHW)
    # Scales and not sizes, which would hold the batch. asymmetric and floor read index floor(o /
    # factor), as the original's ResizeNearest_TRT; half_pixel, the default, would shift the map by
    # half a cell.
    factor = float(attributes["factor"])
    scales = graph.constant(np.asarray([1.0, 1.0, factor, factor], np.float32), "scales")
    name = graph.emit(
        "Resize",
        [graph.full(operands[0], NCHW), "", scales],
        [Tensor(stored, results[0].dtype)],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )[0]
    return [Value(name, results[0].shape, results[0].dtype, NCHW, stored)]


def group_norm(graph, attributes, operands, results):
    """InstanceNormalization of groups as channels, then gamma and beta of the real ones.

    GroupNormalization begins with opset 18, where it has one gamma per group; one per channel needs 21.
    These nodes are the same in every opset, and ONNX Runtime, TensorRT and OpenVINO have them.
    """
    x, gamma, beta = operands
    groups, result = attributes["groups"], results[0]
    stored = tuple(result.shape[axis] for axis in NCHW)
    rows, channels, height, width = stored
    grouped = (rows, groups, channels // groups * height * width)
    cells = graph.reshaped(graph.full(x, NCHW), grouped)
    ones = graph.constant(np.ones(groups, np.float32), "ones")
    zeros = graph.constant(np.zeros(groups, np.float32), "zeros")
    normal = graph.emit(
        "InstanceNormalization",
        [cells, ones, zeros],
        [Tensor(grouped, result.dtype)],
        epsilon=attributes["epsilon"],
    )[0]
    normal = Value(graph.reshaped(normal, stored), result.shape, result.dtype, NCHW, stored)
    factor, offset = (_of_channels(graph, leaf, channels) for leaf in (gamma, beta))
    scaled = apply(graph, "Mul", [normal, factor], result.shape, result.dtype)
    return [apply(graph, "Add", [scaled, offset], result.shape, result.dtype)]


def _of_channels(graph, leaf, channels):
    """Returns one number per channel as an operand of a map [b h w c]."""
    shape = (1, 1, 1, channels)
    if isinstance(leaf, Const):  # weights: no node of the graph
        return Const(leaf.array.reshape(1, 1, 1, -1), shape)
    return reshaped(graph, leaf, shape)


def marked_conv(graph, attributes, operands, results):
    """One Conv, in as many groups as the channels that its kernel reads fit into those of the image."""
    x, kernel = operands
    image = convolved(
        graph,
        x,
        kernel,
        results[0],
        groups=x.shape[3] // kernel.shape[2],
        strides=(attributes["strides"],) * 2,
        dilations=(1, 1),
        pads=attributes.get("pads", ((0, 0), (0, 0))),
    )
    return [image]


def transposed_conv(graph, attributes, operands, results):
    """One ConvTranspose, whose strides are the sides of its kernel."""
    x, kernel = operands
    return [conv_transposed(graph, x, kernel, results[0])]


def max_pool(graph, attributes, operands, results):
    """MaxPool, whose padding never wins."""
    window, strides = (attributes["window"],) * 2, (attributes["strides"],) * 2
    return [pooled(graph, operands[0], results[0], window, strides, attributes["pads"])]


def _suppressed(graph, attributes, boxes, scores, valid, results):
    """Returns (index, kept) of rows [b g n]; scores must be greater than -1."""
    *lead, count = scores.shape
    keep = attributes["max_keep"]
    if count > NMS_LIMIT or keep > TOPK_LIMIT:
        raise ExportError(
            f"NMS over {count} boxes that keeps {keep}: TensorRT looks at {NMS_LIMIT} at most and "
            f"sorts {TOPK_LIMIT} at most; lower the counts of the spec"
        )
    # Classes with boxes of their own go into the batch: suppression never crosses them, and the
    # limit of TensorRT is one per batch item.
    rows = lead[0] * lead[1] if len(lead) == 2 else lead[0]
    # Scores are probabilities or ranks and never negative. Free slots get -1, below the score
    # threshold of -0.5, so they neither survive nor suppress.
    nobody = number(-1.0)
    candidates = apply(graph, "Where", [valid, scores, nobody], scores.shape, _F32)
    candidates = graph.make(graph.full(candidates, identity(len(scores.shape))), scores.shape, _F32)
    flat = graph.full(reshaped(graph, candidates, (rows, 1, count)), (0, 1, 2))
    # y1, x1, y2, x2 is the operator's own order (center_point_box 0).
    corners = graph.full(reshaped(graph, boxes, (rows, count, 4)), (0, 1, 2))
    limits = [
        graph.integers(keep),
        graph.constant(np.asarray([attributes["threshold"]], np.float32), "iou"),
        graph.constant(np.asarray([-0.5], np.float32), "score"),
    ]
    # The one data-dependent length of the graph. It ends in the mask a few nodes below, because
    # nvinfer allocates outputs of fixed shape, and everything behind is TopK over all slots.
    selected = Tensor(("selected", 3), _I64)
    chosen = graph.emit("NonMaxSuppression", [corners, flat, *limits], [selected])[0]
    size = graph.emit("Shape", [chosen], [Tensor((2,), _I64)])[0]
    bounds = [graph.integers(0), graph.integers(1), graph.integers(0)]
    size = graph.emit("Slice", [size, *bounds], [Tensor((1,), _I64)])[0]
    one, none = np.ones(1, np.float32), np.zeros(1, np.float32)
    ones = graph.emit("ConstantOfShape", [size], [Tensor(("selected",), _F32)], value=one)[0]
    shape = graph.emit("Shape", [flat], [Tensor((3,), _I64)])[0]
    mask = Tensor((rows, 1, count), _F32)
    zeros = graph.emit("ConstantOfShape", [shape], [mask], value=none)[0]
    # The selected triples (row, class 0, box) are indices of the mask as they are. No reduction:
    # TensorRT has none, and no triple comes twice.
    marks = graph.emit("ScatterND", [zeros, chosen, ones], [mask])[0]
    marks = reshaped(graph, graph.make(marks, (rows, 1, count), _F32), scores.shape)
    kept = apply(graph, "Greater", [marks, number(0.5)], scores.shape, np.bool_)
    left = apply(graph, "Where", [kept, candidates, nobody], scores.shape, _F32)
    # NonMaxSuppression lists its selection row by row; TopK sorts it and brings it to `keep` slots.
    best, index = top_k(graph, {"k": keep}, [left], [results[0], results[0]])
    valid = apply(graph, "Greater", [best, number(-0.5)], best.shape, bool)
    return [
        # Indices of free slots must stay inside the tables that are gathered by them.
        apply(graph, "Where", [valid, index, number(0, np.int32)], index.shape, np.int32),
        valid,
    ]


MARKED: dict[str, MarkedRule] = {
    "conv": marked_conv,
    "depthwise_conv": marked_conv,
    "gather_rows": gather_rows,
    "group_norm": group_norm,
    "max_pool": max_pool,
    "nms": nms,
    "pointwise_conv": marked_conv,
    "ranked_nms": ranked_nms,
    "roi_align": roi_align,
    "transposed_conv": transposed_conv,
    "upsample_nearest": upsample_nearest,
}
