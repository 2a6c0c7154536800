"""RoiAlign in standard operators: half-pixel centres, averages, boxes within the map.

    gather  reads of rows x reads of columns: their cells of the map as rows of a table, one Gather, and
            the weighted sum as a product [1 reads] @ [reads c]
    grid    one GridSample of all boxes of an image, and an AveragePool over the samples of a cell

A bilinear sample is separable, so the reads of a cell are 2 sampling_ratio rows times as many columns,
with the weight of a read the product of two. `gather` takes 1.1 to 1.6 times as long as ONNX Runtime's
RoiAlign on an idle CPU; its sum is one product, because sixteen Mul and Add would read and write every
crop three times each. Where the gathered reads would be large they are taken one row of reads at a time.
`grid` has the fewest nodes and takes a CPU five to eight times as long; WebGPU and GPUs have a kernel of
GridSample.

A sample more than one cell outside the map is 0 in the operator and in `gather`; `grid` reads the border
there. The exporter's boxes lie within the canvas, so that none of their samples does.

Source: docs/reference/portable.md, "RoiAlign".
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from onnx import TensorProto

from rcnn_jax.export.lowering.portable_nodes import Nodes

RoiForm = Literal["gather", "grid"]
GRID_LIMIT = 1024
"""Numbers in the crops of an image up to which the 25 nodes of `grid` are done before the 45 of `gather`:
0.03 ms to 0.04 ms at 64, equal near 600, twice as long at 2300 (ONNX Runtime 1.32, one thread)."""
FORMS: tuple[RoiForm, ...] = get_args(RoiForm)
READS_LIMIT = 256 << 20
"""Bytes of an image's gathered reads, above which they are taken in several passes."""


@dataclass(frozen=True, kw_only=True)
class Crops:
    """A RoiAlign node.

    Attributes:
      feature: f32[b c h w], name of the tensor.
      rois: f32[b * r 4], x1 y1 x2 y2; those of one image lie together, as many for every image.
      image: i64[b * r], the image of every roi.
      shape: (c, h, w).
      per_image: r.
      size: cells per side of a crop.
      samples: per side of a cell.
      scale: cells of the map per unit of a roi.
    """

    feature: str
    rois: str
    image: str
    shape: tuple[int, int, int]
    per_image: int
    size: int
    samples: int
    scale: float


def choose(crops: Crops) -> RoiForm:
    """Returns the form that suits a size: `grid`, with its few nodes, for a handful of numbers."""
    numbers = crops.per_image * crops.size**2 * crops.shape[0]
    return "grid" if numbers <= GRID_LIMIT else "gather"


def align(nodes: Nodes, crops: Crops, form: RoiForm, *, sums: bool = False) -> str:
    """Adds the nodes of a form; returns f32[b * r c size size].

    Args:
      nodes: to add to.
      crops: what is cropped.
      form: how.
      sums: `gather` adds products up instead of multiplying matrices, see `portable.to_portable`.
    """
    x1, y1, x2, y2 = nodes.split("Split", crops.rois, nodes.integers(1, 1, 1, 1), count=4, axis=1)
    _, height, width = crops.shape
    across = _positions(nodes, crops, x1, x2)
    down = _positions(nodes, crops, y1, y2)
    if form == "grid":
        return _grid(nodes, crops, down, across)
    return _gather(nodes, crops, down, across, sums)


def _positions(nodes: Nodes, crops: Crops, low: str, high: str) -> str:
    """Returns where the samples of every roi lie along one axis, in cells, f32[b * r size * samples]."""
    count = crops.size * crops.samples
    # From the start of the roi, not from sample to sample, where rounding would add up.
    steps = ((np.arange(count) + 0.5) / count).astype(np.float32).reshape(1, -1)
    scale = nodes.number(crops.scale)
    start = nodes.add("Sub", nodes.add("Mul", low, scale), nodes.number(0.5))
    side = nodes.add("Mul", nodes.add("Sub", high, low), scale)
    return nodes.add("Add", start, nodes.add("Mul", side, nodes.constant(steps)))


def _clipped(nodes: Nodes, position: str, length: int) -> str:
    low = nodes.add("Max", position, nodes.number(0.0))
    return nodes.add("Min", low, nodes.number(float(length - 1)))


def _reads(nodes: Nodes, crops: Crops, position: str, length: int) -> tuple[str, str]:
    """Returns the cells that samples read and their weights, both f32[b * r size 2 * samples]."""
    # Before clipping, which would hide it.
    under = nodes.add("Greater", nodes.number(-1.0), position)
    beyond = nodes.add("Or", under, nodes.add("Greater", position, nodes.number(float(length))))
    # Floor and weights are of the clipped position: a sample beyond the border reads the border
    # alone.
    position = _clipped(nodes, position, length)
    near = nodes.add("Floor", position)
    # a sample on the last cell has weight 0 beyond it, and there is no cell to read
    far = nodes.add("Add", near, nodes.number(1.0))
    far = nodes.add("Min", far, nodes.number(float(length - 1)))
    # Per axis: the product of the two weights divides by samples squared.
    average = nodes.number(1.0 / crops.samples)
    average = nodes.add("Where", beyond, nodes.number(0.0), average)
    far_weight = nodes.add("Mul", nodes.add("Sub", position, near), average)
    # From the far weight, not from the position again: the two then add up to the average.
    near_weight = nodes.add("Sub", average, far_weight)
    split = nodes.integers(-1, crops.size, crops.samples, 1)
    joined = nodes.integers(-1, crops.size, 2 * crops.samples)

    def pair(one: str, other: str) -> str:
        both = [nodes.add("Reshape", tensor, split) for tensor in (one, other)]
        return nodes.add("Reshape", nodes.add("Concat", *both, axis=3), joined)

    return pair(near, far), pair(near_weight, far_weight)


def passes(crops: Crops) -> int:
    """Returns in how many passes the reads of a cell are gathered: 1, or one for every row of reads."""
    reads = (2 * crops.samples) ** 2
    size = 4 * crops.per_image * crops.size**2 * reads * crops.shape[0]
    return 1 if size <= READS_LIMIT else 2 * crops.samples


def _gather(nodes: Nodes, crops: Crops, down: str, across: str, sums: bool) -> str:
    channels, height, width = crops.shape
    reads, size = 2 * crops.samples, crops.size
    # Channels last: the reads of a cell are then runs of memory, and Gather copies instead of
    # picking.
    table = nodes.add("Transpose", crops.feature, perm=[0, 2, 3, 1])
    table = nodes.add("Reshape", table, nodes.integers(-1, channels))
    rows, row_weights = _reads(nodes, crops, down, height)
    columns, column_weights = _reads(nodes, crops, across, width)
    rows = nodes.add("Cast", rows, to=TensorProto.INT64)
    rows = nodes.add("Mul", rows, nodes.integers(width))
    # One table for all images, where each begins h * w rows after the one before.
    first = nodes.add("Mul", crops.image, nodes.integers(height * width))
    rows = nodes.add("Add", rows, nodes.add("Reshape", first, nodes.integers(-1, 1, 1)))
    columns = nodes.add("Cast", columns, to=TensorProto.INT64)
    count = passes(crops)
    at_once = reads // count
    # [roi, row of cells, column of cells, read of rows, read of columns]
    over = nodes.integers(-1, 1, size, 1, reads)
    columns = nodes.add("Reshape", columns, over)
    column_weights = nodes.add("Reshape", column_weights, over)
    total = ""
    for start in range(0, reads, at_once):
        index, weight = rows, row_weights
        if count > 1:
            # Along rows alone: the columns of one row of reads are few enough.
            bounds = (nodes.integers(start), nodes.integers(start + at_once), nodes.integers(2))
            index, weight = (nodes.add("Slice", t, *bounds) for t in (rows, row_weights))
        along = nodes.integers(-1, size, 1, at_once, 1)
        index = nodes.add("Add", nodes.add("Reshape", index, along), columns)
        weight = nodes.add("Mul", nodes.add("Reshape", weight, along), column_weights)
        flat = nodes.add("Reshape", index, nodes.integers(-1, at_once * reads))
        cells = nodes.add("Gather", table, flat, axis=0)  # [cells of crops, reads, c]
        lying = (at_once * reads, 1) if sums else (1, at_once * reads)
        weight = nodes.add("Reshape", weight, nodes.integers(-1, *lying))
        if sums:
            weighted = nodes.add("Mul", cells, weight)
            part = nodes.add("ReduceSum", weighted, nodes.integers(1), keepdims=1)
        else:
            part = nodes.add("MatMul", weight, cells)
        total = nodes.add("Add", total, part) if total else part
    # The layout of the operator that is replaced: the rows of the first dense layer are in it.
    crop = nodes.add("Reshape", total, nodes.integers(-1, size, size, channels))
    return nodes.add("Transpose", crop, perm=[0, 3, 1, 2])


def _grid(nodes: Nodes, crops: Crops, down: str, across: str) -> str:
    channels, height, width = crops.shape
    size, side = crops.size, crops.size * crops.samples

    def normalised(position: str, length: int) -> str:
        position = _clipped(nodes, position, length)
        # a map of one cell has one position, which is the middle
        if length == 1:
            return nodes.add("Mul", position, nodes.number(0.0))
        # `align_corners` 1: -1 and 1 are the centres of the first and the last cell.
        # Clipped before, since `padding_mode` border is left with what rounding puts outside again.
        scaled = nodes.add("Mul", position, nodes.number(2.0 / (length - 1)))
        return nodes.add("Sub", scaled, nodes.number(1.0))

    x = nodes.add("Reshape", normalised(across, width), nodes.integers(-1, 1, side, 1))
    y = nodes.add("Reshape", normalised(down, height), nodes.integers(-1, side, 1, 1))
    # by sums, not by Expand: its shape would have to name the number of rois
    x = nodes.add("Add", x, nodes.constant(np.zeros((1, side, 1, 1), np.float32)))
    y = nodes.add("Add", y, nodes.constant(np.zeros((1, 1, side, 1), np.float32)))
    both = nodes.add("Concat", x, y, axis=3)
    # GridSample takes one grid per image, so the rois of an image are stacked below each other.
    grid = nodes.add("Reshape", both, nodes.integers(-1, crops.per_image * side, side, 2))
    sampled = nodes.add(
        "GridSample", crops.feature, grid, mode="bilinear", padding_mode="border", align_corners=1
    )
    step = [crops.samples, crops.samples]
    # Samples of a cell are neighbours in the grid, so their mean is a pooling without overlap.
    pooled = nodes.add("AveragePool", sampled, kernel_shape=step, strides=step)
    shape = nodes.integers(-1, channels, crops.per_image, size, size)
    crop = nodes.add("Transpose", nodes.add("Reshape", pooled, shape), perm=[0, 2, 1, 3, 4])
    return nodes.add("Reshape", crop, nodes.integers(-1, channels, size, size))
