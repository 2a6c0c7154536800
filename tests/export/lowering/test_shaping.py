"""Shaping rules: axes are relabelled, and nodes are emitted where numbers must move."""

from types import SimpleNamespace

import numpy as np
import pytest

from rcnn_jax.errors import ExportError
from rcnn_jax.export.lowering.graph import Graph
from rcnn_jax.export.lowering.shaping import SHAPING
from rcnn_jax.export.lowering.values import Const, identity, whole

F32, NCHW = np.dtype(np.float32), (0, 3, 1, 2)


def lower(graph, primitive, operands, *shapes, **params):
    results = [SimpleNamespace(shape=shape, dtype=F32) for shape in shapes]
    return SHAPING[primitive](graph, params, operands, results)


def ops(graph):
    return [node.op for node in graph.nodes]


def image(shape=(2, 4, 6, 3), perm=NCHW):
    graph = Graph()
    return graph, graph.add_input("x", shape, F32, perm)


def test_two_transposes_that_cancel_out_leave_nothing():
    graph, x = image()
    (transposed,) = lower(graph, "transpose", [x], (2, 3, 4, 6), permutation=(0, 3, 1, 2))
    assert transposed.perm == identity(4) and transposed.stored == x.stored
    (back,) = lower(graph, "transpose", [transposed], (2, 4, 6, 3), permutation=(0, 2, 3, 1))
    assert back.perm == NCHW and ops(graph) == []


def test_a_constant_is_transposed_while_exporting():
    array = np.arange(6.0).reshape(2, 3)
    (made,) = lower(Graph(), "transpose", [whole(array)], (3, 2), permutation=(1, 0))
    np.testing.assert_array_equal(made.array, array.T)


def test_crops_that_are_merged_and_split_again_keep_their_layout():
    graph, x = image((2, 5, 7, 7, 8), (0, 1, 4, 2, 3))
    (merged,) = lower(graph, "reshape", [x], (10, 7, 7, 8), new_sizes=(10, 7, 7, 8))
    assert merged.perm == NCHW and merged.stored == (10, 8, 7, 7)
    (split,) = lower(graph, "reshape", [merged], x.shape, new_sizes=x.shape)
    assert split.perm == x.perm and split.name == "x", "back again is the input"
    assert ops(graph) == ["Reshape"]


def test_flattening_a_map_needs_its_logical_order():
    graph, x = image()
    (flat,) = lower(graph, "reshape", [x], (2, 72), new_sizes=(2, 72))
    assert ops(graph) == ["Transpose", "Reshape"] and flat.perm == (0, 1)
    with pytest.raises(ExportError, match="reshape with a permutation"):
        lower(graph, "reshape", [x], (2, 72), dimensions=(0, 2, 1, 3))


def test_a_broadcast_is_a_label_until_somebody_needs_the_whole():
    graph, x = image((3,), (0,))
    (made,) = lower(graph, "broadcast_in_dim", [x], (2, 5, 3), broadcast_dimensions=(2,))
    assert made.shape == (2, 5, 3) and made.stored == (1, 1, 3) and ops(graph) == ["Reshape"]
    row = whole(np.arange(3, dtype=np.float32))
    (constant,) = lower(graph, "broadcast_in_dim", [row], (5, 3), broadcast_dimensions=(1,))
    assert constant.array.shape == (1, 3) and constant.shape == (5, 3)
    assert ops(graph) == ["Reshape"]


def test_concatenation_keeps_the_layout_and_writes_out_what_repeats():
    graph, x = image()
    ones = Const(np.ones((1, 1, 1, 1), np.float32), x.shape)
    (made,) = lower(graph, "concatenate", [x, ones], (2, 4, 6, 6), dimension=3)
    assert made.perm == NCHW and made.stored == (2, 6, 4, 6)
    assert graph.nodes[-1].op == "Concat" and graph.nodes[-1].attributes["axis"] == 1
    (alone,) = lower(graph, "concatenate", [x], x.shape, dimension=3)
    assert alone is x


def test_a_split_follows_its_axis_in_the_layout():
    graph, x = image()
    parts = lower(graph, "split", [x], (2, 4, 6, 1), (2, 4, 6, 2), sizes=(1, 2), axis=3)
    assert [part.stored for part in parts] == [(2, 1, 4, 6), (2, 2, 4, 6)]
    assert graph.nodes[-1].attributes["axis"] == 1


def test_only_axes_that_change_are_sliced():
    graph, x = image()
    params = {"start_indices": (0, 1, 0, 0), "limit_indices": (2, 3, 6, 3), "strides": None}
    (made,) = lower(graph, "slice", [x], (2, 2, 6, 3), **params)
    assert made.stored == (2, 3, 2, 6)
    axes = graph.constants[graph.nodes[-1].inputs[3]]
    assert axes.tolist() == [2], "rows are the third axis as stored"
    whole_ = {"start_indices": (0,) * 4, "limit_indices": x.shape, "strides": None}
    assert lower(graph, "slice", [x], x.shape, **whole_) == [x]


def test_a_constant_that_repeats_over_the_batch_is_sliced_as_it_is():
    row = Const(np.arange(4, dtype=np.float32)[None], ("b", 4))
    params = {"start_indices": (0, 1), "limit_indices": (2, 3), "strides": (1, 1)}
    (made,) = lower(Graph(), "slice", [row], ("b", 2), **params)
    assert made.array.tolist() == [[1.0, 2.0]] and made.shape == ("b", 2)


def test_padding_that_pads_nothing_leaves_no_node_and_other_kinds_are_refused():
    graph, x = image()
    zero = whole(np.zeros((), np.float32))
    none = ((0, 0, 0),) * 4
    assert lower(graph, "pad", [x, zero], x.shape, padding_config=none) == [x]
    rows = ((0, 0, 0), (1, 2, 0), (0, 0, 0), (0, 0, 0))
    (made,) = lower(graph, "pad", [x, zero], (2, 7, 6, 3), padding_config=rows)
    assert made.stored == (2, 3, 7, 6)
    assert graph.constants[graph.nodes[-1].inputs[1]].tolist() == [0, 0, 1, 0, 0, 0, 2, 0]
    for bad in ((0, 0, 1), (-1, 0, 0)):
        with pytest.raises(ExportError, match="negative or interior padding"):
            lower(graph, "pad", [x, zero], x.shape, padding_config=(bad, *none[1:]))
    with pytest.raises(ExportError, match="pad with a computed filler"):
        lower(graph, "pad", [x, x], x.shape, padding_config=rows)


def test_a_ramp_along_a_known_axis_is_a_constant_and_along_the_batch_is_computed():
    graph = Graph()
    graph.add_input("x", ("b", 2), F32, identity(2))
    (known,) = lower(graph, "iota", [], ("b", 3), dimension=1)
    assert known.array.tolist() == [[0.0, 1.0, 2.0]] and ops(graph) == []
    (index,) = lower(graph, "iota", [], ("b", 3), dimension=0)
    assert index.stored == ("b", 1) and "CumSum" in ops(graph)
    with pytest.raises(ExportError, match="a ramp of the unknown length c"):
        lower(graph, "iota", [], ("c", 3), dimension=0)
