"""NonMaxSuppression in standard operators, exact: marks of the boxes that greedy suppression keeps.

    select  Loop of `most` steps: the best box that is left is kept, what it suppresses goes
    loop    suppresses[i, j] = i goes before j and their IoU > threshold
            Loop, keep = alive and not (keep @ suppresses), until nothing changes

Row j of the matrix depends on earlier rows only, so the fixed point of `loop` is the greedy result,
reached after as many rounds as the longest chain of suppressions, about 8 in a detector. Unrolled rounds
would need no Loop, and are wrong on a longer chain. `select` has no matrix, O(n) memory and a fixed
number of steps: shorter where few boxes are kept, and all there is where the matrix would be large.

IoU is computed in the order of ONNX Runtime's kernel, area + area - intersection in float32 and one
division, because an IoU may lie exactly at the threshold.

Source: docs/reference/portable.md, "NonMaxSuppression".
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from onnx import TensorProto, helper

from rcnn_jax.export.lowering.portable_nodes import Nodes

NmsForm = Literal["loop", "select"]
FORMS: tuple[NmsForm, ...] = get_args(NmsForm)
# `select` takes a step per kept box: 100 to 300 in the heads, 1000 and more among proposals.
SELECT_LIMIT = 300
"""Boxes that are kept at most, up to which `select` is chosen."""
MATRIX_LIMIT = 64 << 20
"""Bytes of the matrix of one image's rows, above which `select` is chosen whatever is kept."""
_ABSENT = -0.5
"""A score below is that of an absent box: the exporter gives them -1, and scores are not negative."""
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, kw_only=True)
class Suppression:
    """A NonMaxSuppression node of one class a row.

    Attributes:
      boxes: f32[rows n 4], name of the tensor.
      scores: f32[rows 1 n]; below -0.5 a box is absent.
      count: n.
      most: kept boxes of a row at most.
      threshold: IoU above which a box is suppressed.
      ranked: scores fall along every row, but for absent boxes.
    """

    boxes: str
    scores: str
    count: int
    most: int
    threshold: float
    ranked: bool = False


def choose(most: int, count: int, rows: int) -> NmsForm:
    """Returns the form that suits a size.

    Args:
      most: kept boxes of a row.
      count: boxes of a row.
      rows: of one image.
    """
    if most <= SELECT_LIMIT or 4 * rows * count * count > MATRIX_LIMIT:
        return "select"
    return "loop"


def suppress(nodes: Nodes, nms: Suppression, form: NmsForm, *, sums: bool = False) -> str:
    """Adds the nodes of a form; returns f32[rows 1 n], 1 for a box that is kept and 0 for others.

    `loop` may mark more than `most`, the best of which are those that NonMaxSuppression selects; the
    TopK that follows in the exporter's graphs takes these.

    Args:
      nodes: to add to.
      nms: what is suppressed.
      form: how.
      sums: `loop` adds products up instead of multiplying matrices, see `portable.to_portable`.
    """
    return _select(nodes, nms) if form == "select" else _loop(nodes, nms, sums)


def _corners(nodes: Nodes, boxes: str) -> list[str]:
    """Returns y1, x1, y2, x2, each f32[rows n 1], in rising order whatever corners a box names."""
    # The operator takes corners in any order, and its boxes here may come from another model.
    first, second = nodes.split("Split", boxes, nodes.integers(2, 2), count=2, axis=2)
    low, high = nodes.add("Min", first, second), nodes.add("Max", first, second)
    ones = nodes.integers(1, 1)
    y1, x1 = nodes.split("Split", low, ones, count=2, axis=2)
    y2, x2 = nodes.split("Split", high, ones, count=2, axis=2)
    return [y1, x1, y2, x2]


def _area(nodes: Nodes, corners: list[str]) -> str:
    y1, x1, y2, x2 = corners
    return nodes.add("Mul", nodes.add("Sub", x2, x1), nodes.add("Sub", y2, y1))


def _overlaps(nodes: Nodes, one: list[str], other: list[str], threshold: str) -> str:
    """Returns where the IoU of two sets of boxes (y1, x1, y2, x2, area) is above the threshold."""

    # Differences before the product: two negative sides would make a positive area.
    def side(low: int, high: int) -> str:
        end = nodes.add("Min", one[high], other[high])
        length = nodes.add("Sub", end, nodes.add("Max", one[low], other[low]))
        return nodes.add("Max", length, nodes.number(0.0))

    inter = nodes.add("Mul", side(1, 3), side(0, 2))
    union = nodes.add("Sub", nodes.add("Add", one[4], other[4]), inter)
    # two empty boxes share nothing: 0 / tiny instead of 0 / 0, which no comparison should see
    iou = nodes.add("Div", inter, nodes.add("Max", union, nodes.number(_TINY)))
    return nodes.add("Greater", iou, threshold)


def _transposed(nodes: Nodes, tensor: str) -> str:
    """Returns [rows n 1] as [rows 1 n], and the other way round."""
    return nodes.add("Transpose", tensor, perm=[0, 2, 1])


def _loop(nodes: Nodes, nms: Suppression, sums: bool) -> str:
    tall = _corners(nodes, nms.boxes)
    tall.append(_area(nodes, tall))
    over = _overlaps(
        nodes, tall, [_transposed(nodes, t) for t in tall], nodes.number(nms.threshold)
    )
    # float32 holds whole numbers up to 2**24, and WebGPU has no int64.
    rank = np.arange(nms.count, dtype=np.float32)
    down = nodes.constant(rank.reshape(1, -1, 1))
    before = nodes.add("Less", down, nodes.constant(rank.reshape(1, 1, -1)))
    if not nms.ranked:
        first = _transposed(nodes, nms.scores)
        higher = nodes.add("Greater", first, nms.scores)
        # The lower index of equal scores goes first, as in ONNX Runtime: saturated float16 scores
        # are equal in dozens.
        ties = nodes.add("And", nodes.add("Equal", first, nms.scores), before)
        before = nodes.add("Or", higher, ties)
    present = nodes.add("Greater", nms.scores, nodes.number(_ABSENT))
    # Rows of absent boxes are cleared, or padding would suppress what is real.
    over = nodes.add("And", nodes.add("And", over, before), _transposed(nodes, present))
    matrix, alive = nodes.as_float(over), nodes.as_float(present)
    return _fixed_point(nodes, matrix, alive, nms.count, sums)


def _fixed_point(nodes: Nodes, matrix: str, alive: str, count: int, sums: bool) -> str:
    # A prefix of its own: names of a body share the name space of the graph around it.
    body = Nodes(f"{nodes.prefix}/body")
    step, go, before = (f"{body.prefix}/{name}" for name in ("step", "go", "before"))
    # Halfway between 0 and 1, so no comparison depends on how a runtime rounds.
    half = body.number(0.5)
    # sums of 0 and 1, exact in any order: only whether they are 0 counts
    if sums:
        hitting = body.add("Mul", _transposed(body, before), matrix)
        hits = body.add("ReduceSum", hitting, body.integers(1), keepdims=1)
    else:
        hits = body.add("MatMul", before, matrix)
    keep = body.add("Mul", body.as_float(body.add("Less", hits, half)), alive)
    change = body.add("Abs", body.add("Sub", keep, before))
    again = body.add("Greater", body.add("ReduceMax", change, keepdims=0), half)
    describe = helper.make_tensor_value_info
    # The rows stay open: with a free batch nobody knows them, and a runtime refuses a wrong number.
    shape = [None, 1, count]
    graph = helper.make_graph(
        body.nodes,
        body.prefix,
        [
            describe(step, TensorProto.INT64, []),
            describe(go, TensorProto.BOOL, []),
            describe(before, TensorProto.FLOAT, shape),
        ],
        [describe(again, TensorProto.BOOL, []), describe(keep, TensorProto.FLOAT, shape)],
        body.constants,
    )
    # a chain has at most n boxes: the bound ends what NaN in a damaged model would keep alive
    bound, true = nodes.constant(np.asarray(count + 1, np.int64)), nodes.constant(np.asarray(True))
    return nodes.add("Loop", bound, true, alive, body=graph)


def _select(nodes: Nodes, nms: Suppression) -> str:
    tall = _corners(nodes, nms.boxes)
    tall.append(_area(nodes, tall))
    rows = [_transposed(nodes, t) for t in tall]
    table = nodes.add("Concat", *tall, axis=2)  # [rows n 5]: one box is one row of memory
    # Zeros in the shape of the scores, whose rows no constant could name.
    none = nodes.add("Mul", nms.scores, nodes.number(0.0))

    body = Nodes(f"{nodes.prefix}/body")
    step, go, left, kept = (f"{body.prefix}/{name}" for name in ("step", "go", "left", "kept"))
    positions = body.constant(np.arange(nms.count, dtype=np.int64).reshape(1, 1, -1))
    best = body.add("ArgMax", left, axis=2, keepdims=1)  # of equal scores the lowest index
    here = body.add("Equal", positions, best)
    index = body.add("Reshape", best, body.integers(-1, 1))
    # GatherND with batch dims; Gather would take the same boxes for all rows.
    box = body.add("GatherND", table, index, batch_dims=1)  # [rows 5]
    box = body.add("Reshape", box, body.integers(-1, 5, 1))
    parts = body.split("Split", box, body.integers(1, 1, 1, 1, 1), count=5, axis=1)
    over = _overlaps(body, rows, parts, body.number(nms.threshold))
    # a row whose boxes are all gone has its best score below: it keeps no one
    real = body.add("And", here, body.add("Greater", left, body.number(_ABSENT)))
    more = body.add("Add", kept, body.as_float(real))
    # The kept box too: a box without area does not overlap itself and would be chosen for ever.
    gone = body.add("Or", over, here)
    rest = body.add("Where", gone, body.number(-1.0), left)
    # Never early: rows end at different steps, and one that has ended keeps no further box.
    again = body.add("Identity", go)
    describe = helper.make_tensor_value_info
    shape = [None, 1, nms.count]
    graph = helper.make_graph(
        body.nodes,
        body.prefix,
        [
            describe(step, TensorProto.INT64, []),
            describe(go, TensorProto.BOOL, []),
            describe(left, TensorProto.FLOAT, shape),
            describe(kept, TensorProto.FLOAT, shape),
        ],
        [
            describe(again, TensorProto.BOOL, []),
            describe(rest, TensorProto.FLOAT, shape),
            describe(more, TensorProto.FLOAT, shape),
        ],
        body.constants,
    )
    steps = nodes.constant(np.asarray(min(nms.most, nms.count), np.int64))
    true = nodes.constant(np.asarray(True))
    marks = nodes.split("Loop", steps, true, nms.scores, none, count=2, body=graph)[1]
    # `Nodes.result` renames the last node, and the Loop has two outputs.
    return nodes.add("Identity", marks)
