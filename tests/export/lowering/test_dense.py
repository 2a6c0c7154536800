"""Dense rules: convolutions, pooling, products, reductions, and the forms that are refused."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from rcnn_jax.errors import ExportError
from rcnn_jax.export.lowering.dense import DENSE, conv_transposed
from rcnn_jax.export.lowering.graph import Graph
from rcnn_jax.export.lowering.values import identity, whole

F32, NCHW = np.dtype(np.float32), (0, 3, 1, 2)
NUMBERS = SimpleNamespace(lhs_spec=NCHW, rhs_spec=(3, 2, 0, 1), out_spec=NCHW)
CONVOLUTION = {
    "dimension_numbers": NUMBERS,
    "batch_group_count": 1,
    "feature_group_count": 1,
    "lhs_dilation": (1, 1),
    "rhs_dilation": (1, 1),
    "window_strides": (2, 1),
    "padding": ((1, 0), (2, 3)),
}
POOLING = {
    "window_dimensions": (1, 2, 3, 1),
    "window_strides": (1, 2, 1, 1),
    "base_dilation": (1,) * 4,
    "window_dilation": (1,) * 4,
    "padding": ((0, 0), (0, 1), (1, 0), (0, 0)),
}


def image(shape=(2, 4, 6, 3), perm=NCHW):
    graph = Graph()
    return graph, graph.add_input("x", shape, F32, perm)


def lower(graph, primitive, operands, *shapes, **params):
    results = [SimpleNamespace(shape=shape, dtype=F32) for shape in shapes]
    return DENSE[primitive](graph, params, operands, results)


def kernel(*shape):
    return whole(np.arange(np.prod(shape), dtype=np.float32).reshape(shape))


def test_a_convolution_reads_and_writes_nchw_with_its_kernel_in_the_order_of_onnx():
    graph, x = image()
    (made,) = lower(
        graph, "conv_general_dilated", [x, kernel(3, 2, 3, 5)], (2, 2, 10, 5), **CONVOLUTION
    )
    (node,) = graph.nodes
    assert node.op == "Conv" and made.perm == NCHW and made.stored == (2, 5, 2, 10)
    assert node.attributes["pads"] == [1, 2, 0, 3], "all starts, then all ends"
    assert node.attributes["strides"] == [2, 1] and node.attributes["kernel_shape"] == [3, 2]
    weight = graph.constants[node.inputs[1]]
    np.testing.assert_array_equal(weight, kernel(3, 2, 3, 5).array.transpose(3, 2, 0, 1))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"dimension_numbers": SimpleNamespace(**{**vars(NUMBERS), "lhs_spec": (0, 1, 2, 3)})},
         "that is not NHWC, HWIO, NHWC"),
        ({"batch_group_count": 2}, "with batch groups"),
        ({"lhs_dilation": (2, 1)}, "lhs_dilation (a dilated image)"),
    ],
)  # fmt: skip
def test_convolutions_of_other_forms_are_refused(changes, text):
    graph, x = image()
    with pytest.raises(ExportError, match=re.escape(text)):
        params = {**CONVOLUTION, **changes}
        lower(graph, "conv_general_dilated", [x, kernel(3, 2, 3, 5)], (2, 2, 10, 5), **params)


def test_a_kernel_must_be_known():
    graph, x = image()
    computed = graph.add_input("k", (3, 2, 3, 5), F32, identity(4))
    with pytest.raises(ExportError, match="a convolution with a computed kernel"):
        lower(graph, "conv_general_dilated", [x, computed], (2, 2, 10, 5), **CONVOLUTION)


def test_a_transposed_convolution_has_input_channels_first():
    graph, x = image()
    made = conv_transposed(
        graph, x, kernel(2, 2, 3, 5), SimpleNamespace(shape=(2, 8, 12, 5), dtype=F32)
    )
    (node,) = graph.nodes
    assert node.op == "ConvTranspose" and made.stored == (2, 5, 8, 12)
    assert graph.constants[node.inputs[1]].shape == (3, 5, 2, 2)
    assert node.attributes["strides"] == [2, 2]


def test_max_pooling_is_over_rows_and_columns_only():
    graph, x = image()
    (made,) = lower(graph, "reduce_window_max", [x], (2, 2, 5, 3), **POOLING)
    assert made.stored == (2, 3, 2, 5) and graph.nodes[0].attributes["pads"] == [0, 1, 1, 0]
    for changes in ({"window_dimensions": (1, 2, 2, 2)}, {"window_dilation": (1, 2, 1, 1)}):
        with pytest.raises(ExportError, match="not over the rows and columns"):
            lower(graph, "reduce_window_max", [x], (2, 2, 5, 3), **{**POOLING, **changes})


def contraction(a, b, batch=((), ())):
    return {"dimension_numbers": (((a,), (b,)), batch)}


def test_a_flattened_map_meets_permuted_rows_instead_of_a_transpose():
    graph, x = image()
    flat = graph.make(graph.reshaped(graph.full(x, identity(4)), (2, 72)), (2, 72), F32)
    weights = kernel(72, 5)
    lower(graph, "dot_general", [flat, weights], (2, 5), **contraction(1, 0))
    node = graph.nodes[-1]
    assert node.op == "MatMul" and graph.producer(node.inputs[0]).inputs[0] == "x"
    by_cell = weights.array.reshape(4, 6, 3, 5)
    np.testing.assert_array_equal(
        graph.constants[node.inputs[1]], by_cell.transpose(2, 0, 1, 3).reshape(72, 5)
    )


def test_products_of_other_axes_are_refused():
    graph, x = image((2, 8), identity(2))
    with pytest.raises(ExportError, match="no plain matrix product"):
        lower(graph, "dot_general", [x, kernel(5, 8)], (2, 5), **contraction(1, 1))


def test_a_reduction_keeps_the_layout_of_what_remains():
    graph, x = image()
    (mean,) = lower(graph, "reduce_sum", [x], (2, 3), axes=(1, 2))
    assert (mean.perm, mean.stored) == ((0, 1), (2, 3))
    assert graph.constants[graph.nodes[-1].inputs[1]].tolist() == [2, 3]
    (rows,) = lower(graph, "reduce_max", [x], (2, 6, 3), axes=(1,))
    assert (rows.perm, rows.stored) == ((0, 2, 1), (2, 3, 6)), "channels stay in front"
    assert [node.op for node in graph.nodes] == ["ReduceSum", "ReduceMax"]


def test_top_k_and_sums_along_other_axes_or_from_the_end_are_refused():
    graph, x = image((2, 8), identity(2))
    with pytest.raises(ExportError, match="another axis than the last"):
        lower(graph, "top_k", [x], (2, 8), (2, 8), k=1, axis=0)
    with pytest.raises(ExportError, match="cumsum from the end"):
        lower(graph, "cumsum", [x], (2, 8), axis=1, reverse=True)
