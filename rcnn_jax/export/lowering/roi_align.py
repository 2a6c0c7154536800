"""Lowering of RoIAlign: one node for the whole pyramid.

ONNX has no RoiAlign of several maps, and one node a level would sample every box on every level to
throw all but one away. So the maps are laid below one another in an atlas, each padded with one cell of
edge replication, which is what samples up to a cell outside of a map have to read:

    +----------+      a box of level l, in pixels, is on the atlas, in cells,
    |  level 2 |
    +-----+----+          box / 2**l + 1, moved down by the maps above
    |  3  |    |
    +--+--+    |      What lies right of a smaller map repeats its last column
    |4 |       |      and is not read. Boxes must lie within the canvas.
    +--+-------+
"""

from typing import Any

import numpy as np

from rcnn_jax.export.lowering.dense import NCHW
from rcnn_jax.export.lowering.elementwise import apply, cast
from rcnn_jax.export.lowering.graph import Graph, Tensor
from rcnn_jax.export.lowering.shaping import reshaped
from rcnn_jax.export.lowering.values import Operand, Value, number

_I64, _F32 = np.dtype(np.int64), np.dtype(np.float32)


def roi_align(
    graph: Graph, attributes: dict[str, Any], operands: list[Operand], results: list[Any]
) -> list[Operand]:
    """Returns the crops of boxes, each from its level."""
    levels, shape = attributes["levels"], results[0].shape
    features, (boxes, level, *cell_weights) = operands[: len(levels)], operands[len(levels) :]
    rows = shape[0] * shape[1]
    corners = graph.full(reshaped(graph, boxes, (rows, 4)), (0, 1))
    order = graph.integers(1, 0, 3, 2)  # x1 y1 x2 y2
    rois = graph.emit("Gather", [corners, order], [Tensor((rows, 4), _F32)], axis=1)[0]
    rois = graph.make(rois, (rows, 4), _F32)
    # RoiAlign takes rois of all images in one list, with the image of each as int64.
    image = Value(graph.batch_index(2), shape[:2], _F32, (0, 1), (shape[0], 1))
    image = graph.full(reshaped(graph, cast(graph, image, np.int64), (rows,)), (0,))
    level = reshaped(graph, level, (rows, 1))
    # One map, as in Faster R-CNN, needs no atlas: the scale is an attribute of the node.
    if len(levels) == 1:
        crops = _crops(graph, attributes, features[0], rois, image, 2.0 ** -levels[0])
    else:
        atlas, first = _atlas(graph, features)
        rois = _on_atlas(graph, rois, level, levels, first)
        crops = _crops(graph, attributes, atlas, rois, image, 1.0)
    if cell_weights:
        crops = _scaled(graph, crops, *cell_weights)
    return [reshaped(graph, crops, shape)]


def _crops(graph, attributes, feature, rois, image, scale) -> Value:
    """Emits the node: crops [rows s s c] of rois [rows 4] in units of 1 / scale cells."""
    rows, size, channels = rois.shape[0], attributes["output_size"], feature.shape[3]
    stored = (rows, channels, size, size)
    name = graph.emit(
        "RoiAlign",
        [graph.full(feature, NCHW), graph.full(rois, (0, 1)), image],
        [Tensor(stored, _F32)],
        # The one meaning that the op has in JAX; torchvision's unaligned crop is reached by moving
        # the box.
        coordinate_transformation_mode="half_pixel",
        mode="avg",
        output_height=size,
        output_width=size,
        # Never 0: the adaptive ratio depends on each roi, which a compiled program of fixed shapes
        # cannot.
        sampling_ratio=attributes["sampling_ratio"],
        spatial_scale=scale,
    )[0]
    return Value(name, (rows, size, size, channels), _F32, NCHW, stored)


def _scaled(graph, crops, row_weights, column_weights) -> Value:
    """Returns crops [rows s s c] times the weights f32[b r s] of their rows and columns."""
    rows, size, _, _ = crops.shape
    # In JAX the weights go into the interpolation, behind one node only a product is left.
    down = reshaped(graph, row_weights, (rows, size, 1, 1))
    across = reshaped(graph, column_weights, (rows, 1, size, 1))
    factor = apply(graph, "Mul", [down, across], (rows, size, size, 1), _F32)
    return apply(graph, "Mul", [crops, factor], crops.shape, _F32)


def _atlas(graph: Graph, features: list[Operand]) -> tuple[Value, list[int]]:
    """Returns the maps [b h w c], padded, finest first, one below the other, and their first rows."""
    batch, _, widest, channels = features[0].shape
    width, first, maps = widest + 2, [0], []
    for feature in features:
        # Concat along the rows needs equal widths: coarser maps are widened, so the atlas is about
        # twice the finest map.
        right = width - feature.shape[2] - 1
        pads = graph.integers(0, 0, 1, 1, 0, 0, 1, right)
        padded = Tensor((batch, channels, feature.shape[1] + 2, width), feature.dtype)
        maps += graph.emit("Pad", [graph.full(feature, NCHW), pads], [padded], mode="edge")
        first.append(first[-1] + feature.shape[1] + 2)
    height = first.pop()
    stored = (batch, channels, height, width)
    name = graph.emit("Concat", maps, [Tensor(stored, features[0].dtype)], axis=2)[0]
    return Value(name, (batch, height, width, channels), features[0].dtype, NCHW, stored), first


def _on_atlas(graph, rois, level, levels, first) -> Value:
    """Returns rois [rows 4], in pixels, in cells of the atlas; levels rise without a gap."""
    last = len(levels) - 1
    index = apply(graph, "Sub", [level, number(levels[0], np.int32)], level.shape, np.int32)
    # Gather has no clamping: a level outside of the table would read past it.
    index = apply(graph, "Max", [index, number(0, np.int32)], level.shape, np.int32)
    index = apply(graph, "Min", [index, number(last, np.int32)], level.shape, np.int32)
    index = graph.full(reshaped(graph, cast(graph, index, np.int64), level.shape[:1]), (0,))

    def of_level(table: list[list[float]]) -> Value:
        entries = graph.constant(np.asarray(table, np.float32), "of_level")
        shape = (level.shape[0], len(table[0]))
        name = graph.emit("Gather", [entries, index], [Tensor(shape, _F32)], axis=0)[0]
        return graph.make(name, shape, _F32)

    # Powers of two: the product is exact in float32.
    cells = of_level([[2.0**-i] for i in levels])
    shift = of_level([[1.0, 1.0 + row] * 2 for row in first])
    rois = apply(graph, "Mul", [rois, cells], rois.shape, _F32)
    return apply(graph, "Add", [rois, shift], rois.shape, _F32)
