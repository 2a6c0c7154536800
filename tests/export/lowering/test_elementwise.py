"""Elementwise rules: layouts are kept, and what changes nothing leaves no node."""

from types import SimpleNamespace

import numpy as np
import pytest

from rcnn_jax.errors import ExportError
from rcnn_jax.export.lowering.elementwise import ELEMENTWISE, cast, common_perm
from rcnn_jax.export.lowering.graph import Graph
from rcnn_jax.export.lowering.values import Const, Value, number, whole

F32, NCHW, NHWC = np.dtype(np.float32), (0, 3, 1, 2), (0, 1, 2, 3)
SHAPE = (2, 4, 6, 3)


@pytest.fixture
def graph():
    return Graph()


@pytest.fixture
def x(graph):
    """A feature map of the logical order NHWC, stored NCHW."""
    return graph.add_input("x", SHAPE, F32, NCHW)


def lower(graph, primitive, operands, shape=SHAPE, dtype=F32, **params):
    result = SimpleNamespace(shape=shape, dtype=np.dtype(dtype))
    (made,) = ELEMENTWISE[primitive](graph, params, operands, [result])
    return made


def ops(graph):
    return [node.op for node in graph.nodes]


def filled(value, shape=SHAPE):
    return Const(np.full((1,) * len(shape), value, np.float32), shape)


@pytest.mark.parametrize(
    ("primitive", "operands"),
    [
        ("add", lambda x: [x, filled(0.0)]),
        ("add", lambda x: [filled(0.0), x]),
        ("sub", lambda x: [x, filled(0.0)]),
        ("mul", lambda x: [x, filled(1.0)]),
        ("mul", lambda x: [filled(1.0), x]),
        ("div", lambda x: [x, filled(1.0)]),
        ("max", lambda x: [x, filled(-np.inf)]),
        ("max", lambda x: [filled(-np.inf), x]),
        ("stop_gradient", lambda x: [x]),
        ("copy", lambda x: [x]),
    ],
)
def test_what_changes_nothing_leaves_no_node(graph, x, primitive, operands):
    made = lower(graph, primitive, operands(x))
    assert ops(graph) == [] and made.name == "x" and made.perm == NCHW


@pytest.mark.parametrize(
    ("primitive", "operands"),
    [("sub", lambda x: [filled(0.0), x]), ("div", lambda x: [filled(1.0), x])],
)
def test_the_neutral_number_on_the_left_of_minus_and_division_matters(
    graph, x, primitive, operands
):
    lower(graph, primitive, operands(x))
    assert ops(graph) == [{"sub": "Sub", "div": "Div"}[primitive]]


def test_a_bias_is_stored_in_the_layout_of_the_map(graph, x):
    bias = Const(np.arange(3, dtype=np.float32).reshape(1, 1, 1, 3), SHAPE)
    made = lower(graph, "add", [x, bias])
    assert ops(graph) == ["Add"] and made.perm == NCHW and made.stored == (2, 3, 4, 6)
    (constant,) = graph.constants.values()
    assert constant.shape == (1, 3, 1, 1), "no Transpose, and no repetition"


def test_the_layout_is_that_of_the_map_and_not_of_a_mask(graph, x):
    mask = Value("m", SHAPE, F32, NHWC, (2, 4, 6, 1))
    assert common_perm([mask, x]) == NCHW
    assert common_perm([mask, filled(1.0)]) == NHWC
    assert common_perm([number(2.0), number(3.0)]) == ()


def test_a_maximum_with_zero_is_a_relu_of_numbers_and_a_maximum_of_integers(graph, x):
    lower(graph, "max", [x, filled(0.0)])
    levels = graph.add_input("levels", (2,), np.dtype(np.int32), (0,))
    lower(graph, "max", [levels, whole(np.zeros(2, np.int32))], (2,), np.int32)
    assert ops(graph) == ["Relu", "Max"]


def test_a_clamp_from_zero_is_a_minimum_and_a_relu(graph, x):
    lower(graph, "clamp", [filled(0.0), x, filled(6.0)])
    assert ops(graph) == ["Min", "Relu"]


def test_select_lists_the_case_of_false_first_and_where_that_of_true(graph, x):
    which = graph.add_input("w", SHAPE, np.dtype(np.bool_), NCHW)
    other = graph.add_input("y", SHAPE, F32, NCHW)
    lower(graph, "select_n", [which, x, other])
    assert graph.nodes[0].op == "Where" and graph.nodes[0].inputs == ["w", "y", "x"]
    index = graph.add_input("i", SHAPE, np.dtype(np.int32), NCHW)
    with pytest.raises(ExportError, match="more than two cases"):
        lower(graph, "select_n", [index, x, other, x])


def test_a_cast_to_its_own_type_is_none(graph, x):
    assert cast(graph, x, np.float32) is x
    assert cast(graph, x, np.int32).dtype == np.int32 and ops(graph) == ["Cast"]


def test_the_first_tap_names_a_tensor(graph, x):
    assert lower(graph, "name", [x], name="conv1_relu") is x
    lower(graph, "name", [x], name="second")
    assert graph.taps == {"x": "conv1_relu"} and ops(graph) == []


@pytest.mark.parametrize(
    ("primitive", "nodes"),
    [("ne", ["Equal", "Not"]), ("rsqrt", ["Sqrt", "Reciprocal"]), ("square", ["Mul"])],
)
def test_primitives_without_an_operator_are_made_of_two(graph, x, primitive, nodes):
    operands = [x, filled(2.0)] if primitive == "ne" else [x]
    lower(graph, primitive, operands, dtype=np.bool_ if primitive == "ne" else F32)
    assert ops(graph) == nodes
