"""Bias correction: the mean error of rounding goes into the bias, that of clipping does not."""

import numpy as np
import pytest
from onnx import helper, numpy_helper

from rcnn_jax.export.precision.bias_correction import rounding_offsets
from rcnn_jax.export.precision.quantize import insert_qdq, quantise_weight
from rcnn_jax.export.precision.sensitivity import sensitivity
from rcnn_jax.runtime.onnx_runtime import open_session
from tests.export.small import model_of

CHANNELS, SIZE = 8, 8
SCALES = {"x": 0.05, "hidden": 0.05}


def layer(op, source, target, weights, **attributes):
    return helper.make_node(op, [source, *weights], [target], name=f"{target}/node", **attributes)


def network(*, bias, batch="n"):
    """x -> conv -> relu -> second -> head; the head stays float, the two before it are rounded."""
    rng = np.random.default_rng(0)
    constants = {
        "k": rng.normal(0, 0.5, (CHANNELS, 8, 1, 1)),
        "kb": rng.normal(0, 1, CHANNELS),
        "h": rng.normal(0, 0.5, (2, CHANNELS, 1, 1)),
        "k2": rng.normal(0, 0.5, (CHANNELS, CHANNELS, 1, 1)),
    }
    nodes = [
        layer("Conv", "x", "conv", ["k", "kb"] if bias else ["k"]),
        helper.make_node("Relu", ["conv"], ["hidden"], name="hidden"),
        layer("Conv", "hidden", "second", ["k2"]),
        layer("Conv", "second", "head", ["h"]),
    ]
    return model_of(nodes, constants, ["conv", "second", "head"], [batch, 8, SIZE, SIZE])


def run(model, x, name):
    return open_session(model.SerializeToString(), "test").run([name], {"x": x})[0]


def even_background(images=3):
    """A level of its own for every channel, the same everywhere: all of it is rounded to one side."""
    levels = np.tile(np.float32([1.02, 2.018, 0.519, 3.017]), 2).reshape(1, 8, 1, 1)
    noise = np.random.default_rng(1).uniform(-0.005, 0.005, (images, 8, SIZE, SIZE))
    return (levels + noise).astype(np.float32)


def means(model, x, name):
    return run(model, x, name).mean((0, 2, 3))


@pytest.mark.parametrize("bias", [True, False])
def test_over_an_even_background_every_channel_keeps_its_mean(bias):
    model, x = network(bias=bias), even_background()
    offsets = rounding_offsets(model, SCALES, [x])
    wanted = means(model, x, "conv")
    plain = means(insert_qdq(model, SCALES), x, "conv")
    corrected = means(insert_qdq(model, SCALES, offsets=offsets), x, "conv")
    assert np.abs(plain - wanted).max() > 0.01
    np.testing.assert_allclose(corrected, wanted, atol=3e-4)


def test_offsets_are_measured_one_layer_at_a_time():
    """The second layer's offset does not hold what the first one's rounding did to its input."""
    model, x = network(bias=True), even_background()
    offsets = rounding_offsets(model, SCALES, [x])
    hidden = np.maximum(run(model, x, "conv"), 0)
    rounded = np.rint(hidden / np.float32(0.05)) * np.float32(0.05)
    weight = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == "k2"))
    steps, scale = quantise_weight(weight, axis=0)
    lost = np.einsum("oi,bihw->o", weight[:, :, 0, 0], hidden) - np.einsum(
        "oi,bihw->o", steps[:, :, 0, 0] * scale[:, None], rounded
    )
    assert set(offsets) == {"conv", "second"}, "the head stays float"
    np.testing.assert_allclose(offsets["second"], lost / hidden[:, 0].size, atol=1e-4)


def test_what_int8_clips_moves_no_bias():
    """One place far outside the range: its error is large, and says nothing of the others."""
    model, x = network(bias=True), even_background()
    outlier = x.copy()
    outlier[0, :, 0, 0] = 1000 * np.float32(0.05)  # clipped to 127 steps, rounded exactly otherwise
    before = rounding_offsets(model, SCALES, [x])["conv"]
    after = rounding_offsets(model, SCALES, [outlier])["conv"]
    plain = means(insert_qdq(model, SCALES), outlier, "conv") - means(model, outlier, "conv")
    assert np.abs(plain).max() > 0.05, "clipping moved the mean"
    assert np.abs(after - before).max() < 0.01 * np.abs(plain).max() + 2e-3


def test_a_corrected_layer_is_less_sensitive():
    model, x = network(bias=True), even_background()
    offsets = rounding_offsets(model, SCALES, [x])
    plain, corrected = (sensitivity(model, SCALES, [x], given).layers for given in (None, offsets))
    assert corrected["conv"] > plain["conv"] + 6


def test_layers_in_float_keep_their_bias():
    model, x = network(bias=True), even_background()
    offsets = rounding_offsets(model, SCALES, [x])
    kept = insert_qdq(model, SCALES, frozenset({"conv"}), offsets)
    np.testing.assert_array_equal(run(kept, x, "conv"), run(model, x, "conv"))


def test_a_fixed_batch_is_filled_up():
    x = even_background()
    fixed, free = network(bias=True, batch=2), network(bias=True)
    even = np.concatenate([x[:2], x[:2]])
    offsets = rounding_offsets(fixed, SCALES, [x[:2]])
    for name, measured in rounding_offsets(free, SCALES, [even]).items():
        np.testing.assert_allclose(offsets[name], measured, atol=1e-5)


@pytest.mark.parametrize(
    ("op", "shape", "attributes", "source"),
    [
        ("ConvTranspose", (8, CHANNELS, 2, 2), {"strides": [2, 2]}, ["n", 8, SIZE, SIZE]),
        ("Gemm", (8, CHANNELS), {}, ["n", 8]),
        ("Gemm", (CHANNELS, 8), {"transB": 1}, ["n", 8]),
    ],
)
def test_every_layer_with_a_bias_is_corrected(op, shape, attributes, source):
    rng = np.random.default_rng(0)
    head = rng.normal(0, 0.5, (CHANNELS, 2) if len(source) == 2 else (2, CHANNELS, 1, 1))
    last = layer("MatMul" if len(source) == 2 else "Conv", "y", "head", ["h"])
    constants = {"k": rng.normal(0, 0.5, shape), "kb": rng.normal(0, 1, CHANNELS), "h": head}
    nodes = [layer(op, "x", "y", ["k", "kb"], **attributes), last]
    model = model_of(nodes, constants, ["y", "head"], source)
    x = even_background() if len(source) == 4 else even_background()[:, :, 0, 0]
    quantised = insert_qdq(model, SCALES, offsets=rounding_offsets(model, SCALES, [x]))
    actual, wanted = run(quantised, x, "y"), run(model, x, "y")
    axes = tuple(i for i in range(wanted.ndim) if i != 1)
    plain = run(insert_qdq(model, SCALES), x, "y").mean(axes)
    assert np.abs(plain - wanted.mean(axes)).max() > 0.01
    np.testing.assert_allclose(actual.mean(axes), wanted.mean(axes), atol=3e-4)
