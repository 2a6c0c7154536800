"""Runs a function both ways: in JAX, and as an exported graph in ONNX Runtime."""

import jax
import numpy as np
import onnx

from rcnn_jax.export.lowering.jaxpr_onnx import trace
from rcnn_jax.runtime.onnx_runtime import open_session


def graph_of(function, shape, perm=None):
    """The graph of array -> array or dict, for an input of the shape; None is a free batch."""

    def named(x):
        result = function(x)
        return result if isinstance(result, dict) else {"y": result}

    return trace(named, "x", shape, perm or tuple(range(len(shape))))


def ops_of(graph):
    return [node.op for node in graph.nodes if node.op != "Identity"]


def assert_same(function, x, *, perm=None, free_batch=True, atol=1e-6, rtol=1e-5, scale=0.0):
    """Checks the graph and compares it with JAX on f32 `x`; returns the graph.

    `scale` of the largest number may be wrong everywhere: deep networks amplify the last bit.
    """
    shape = (None, *x.shape[1:]) if free_batch else x.shape
    graph = graph_of(function, shape, perm)
    model = graph.to_model("test", {})
    onnx.checker.check_model(model, full_check=True)
    session = open_session(model.SerializeToString(), "test")
    stored = x if perm is None else np.ascontiguousarray(x.transpose(perm))
    results = session.run(None, {"x": stored})
    wanted = jax.jit(function)(x)
    wanted = wanted if isinstance(wanted, dict) else {"y": wanted}
    for name, theirs in zip(graph.outputs, results, strict=True):
        ours = wanted[name]
        assert theirs.dtype == np.asarray(ours).dtype
        ours = np.asarray(ours)
        allowed = atol + scale * float(np.abs(ours).max())
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=allowed)
    return graph
