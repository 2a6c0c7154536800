import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rcnn_jax.errors import ExportError
from rcnn_jax.export.lowering import dense
from tests.export.run import assert_same, graph_of, ops_of

NCHW = (0, 3, 1, 2)


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(0, 1, (2, 3, 4)).astype(np.float32)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.exp(x) + jnp.tanh(x) * 2.0 - x / 3.0,
        lambda x: jax.nn.sigmoid(x) + jnp.sqrt(jnp.abs(x)) + lax.rsqrt(jnp.square(x) + 1.0),
        lambda x: jnp.clip(x, -0.5, 0.5) + jnp.minimum(x, 0.25) + jax.nn.relu(-x),
        lambda x: jnp.where((x > 0.1) & (x <= 1.0) | (x != x), x, -(x**3)),
        lambda x: x + jnp.asarray([1.0, 2.0, 3.0, 4.0])[None, None, :],
        lambda x: jnp.transpose(x, (0, 2, 1)) * 2.0 + jnp.arange(3.0)[None, None, :],
        lambda x: jnp.concatenate([x, x * 2.0, jnp.ones((x.shape[0], 3, 1))], axis=-1),
        lambda x: jnp.stack([x, -x], axis=2).reshape(x.shape[0], -1),
        lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 0)), constant_values=-3.0),
        lambda x: jnp.pad(x > 0, ((0, 0), (1, 0), (0, 1))),
        lambda x: lax.slice(x, (0, 1, 0), (x.shape[0], 3, 4), (1, 1, 2)),
        lambda x: jnp.sum(x, axis=1) + jnp.max(x, axis=1) - jnp.min(x, axis=1),
        lambda x: jnp.mean(x, axis=(1, 2), keepdims=True) + x,
        lambda x: jax.nn.softmax(x, axis=-1),
        lambda x: jnp.cumsum(x, axis=1),
        lambda x: lax.broadcasted_iota(jnp.float32, (x.shape[0], 3, 4), 0) + x,
        lambda x: (
            (x > 0).astype(jnp.int32) + lax.broadcasted_iota(jnp.int32, (x.shape[0], 3, 4), 2)
        ),
        lambda x: x.reshape(x.shape[0] * 3, 4) @ jnp.ones((4, 5)) + jnp.arange(5.0)[None, :],
        lambda x: (
            jnp.broadcast_to(jnp.asarray([1.0, 2.0]), (x.shape[0], 2))
            + lax.slice_in_dim(jnp.sum(x, axis=1), 0, 2, axis=1)
        ),
        lambda x: jax.vmap(lambda row: row - row.sum(axis=0, keepdims=True))(x),
    ],
)
def test_the_graph_computes_what_jax_does(function, x):
    assert_same(function, x)


def test_a_free_batch_takes_any_number_of_images(x):
    def function(x):
        return x.reshape(x.shape[0] * 3, 4) * lax.broadcasted_iota(jnp.float32, (4,), 0)[None, :]

    for count in (1, 2, 5):
        assert_same(function, np.concatenate([x] * 5)[:count])


def test_what_depends_on_no_input_leaves_no_node(x):
    table = np.arange(12.0, dtype=np.float32)

    def function(x):
        scale = lax.rsqrt(jnp.asarray(table).reshape(3, 4) + 1.0) * jnp.exp(jnp.float32(0.5))
        return x * jnp.flip(scale, 0)[None]

    assert ops_of(assert_same(function, x)) == ["Mul"]


def test_what_changes_nothing_leaves_no_node(x):
    assert ops_of(assert_same(lambda x: ((x - 0.0) / 1.0) * 1.0 + 0.0, x)) == []


def test_the_same_said_twice_is_one_node(x):
    assert ops_of(assert_same(lambda x: jnp.exp(x) * jnp.exp(x), x)) == ["Exp", "Mul"]


def test_the_input_is_stored_as_asked_and_transposes_are_labels():
    images = np.random.default_rng(1).normal(0, 1, (2, 4, 6, 3)).astype(np.float32)
    kernel = np.random.default_rng(2).normal(0, 1, (3, 3, 3, 5)).astype(np.float32)

    def function(x):
        y = lax.conv_general_dilated(
            x, kernel, (2, 2), ((0, 1), (0, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jnp.transpose(jax.nn.relu(y), (0, 3, 1, 2))

    graph = assert_same(function, images, perm=NCHW, atol=1e-5)
    assert ops_of(graph) == ["Conv", "Relu"]
    assert graph.tensors["x"].stored[1:] == (3, 4, 6)


@pytest.mark.parametrize(("k", "passes"), [(5, 1), (8, 2), (20, 3)])
def test_top_k_beyond_the_limit_is_taken_in_exact_passes(monkeypatch, k, passes):
    monkeypatch.setattr(dense, "TOPK_LIMIT", 7)
    # equal numbers: the lower index comes first, across passes too
    x = np.random.default_rng(3).integers(0, 6, (3, 30)).astype(np.float32)
    graph = assert_same(lambda x: dict(zip("vi", lax.top_k(x, k), strict=True)), x)
    assert ops_of(graph).count("TopK") == passes


def test_an_unknown_primitive_is_named_with_its_layer(x):
    def function(x):
        with jax.named_scope("neck"), jax.named_scope("odd_layer"):
            return jnp.sort(x, axis=-1)

    with pytest.raises(ExportError, match=r"layer neck/odd_layer: cannot export .* sort\["):
        graph_of(function, (None, 3, 4))


def test_a_number_that_depends_on_the_free_batch_is_refused(x):
    with pytest.raises(ExportError, match="dim_as_value"):
        graph_of(lambda x: jnp.mean(x, axis=0), (None, 3, 4))


def test_a_loop_is_refused(x):
    def function(x):
        return lax.fori_loop(0, 3, lambda _, y: y * x, x)

    with pytest.raises(ExportError, match="there is no ONNX lowering"):
        graph_of(function, (2, 3, 4))


def test_a_kernel_that_is_computed_is_refused():
    def function(x):
        kernel = jnp.sum(x) * jnp.ones((1, 1, 3, 2))
        return lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    with pytest.raises(ExportError, match="a convolution with a computed kernel"):
        graph_of(function, (2, 4, 4, 3))


def test_a_dilated_image_is_refused():
    kernel = np.ones((2, 2, 3, 2), np.float32)

    def function(x):
        return lax.conv_general_dilated(
            x,
            kernel,
            (1, 1),
            ((0, 0), (0, 0)),
            lhs_dilation=(2, 2),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    with pytest.raises(ExportError, match="a convolution with lhs_dilation"):
        graph_of(function, (2, 4, 4, 3))


def test_names_of_tensors_are_paths_of_layers(x):
    def function(x):
        with jax.named_scope("trunk"):
            return jnp.exp(x)

    graph = graph_of(function, (None, 3, 4))
    assert [node.outputs for node in graph.nodes][0] == ["trunk/Exp"]
    assert re.fullmatch(
        r"batch",
        str(graph.to_model("m", {}).graph.input[0].type.tensor_type.shape.dim[0].dim_param),
    )


def test_a_loop_over_constants_is_run_as_a_loop(x):
    def function(x):
        _, table = lax.scan(lambda total, row: (total + row, total * 2.0), 0.0, jnp.arange(4.0))
        return x * table[None, None, :]

    assert ops_of(assert_same(function, x)) == ["Mul"]
