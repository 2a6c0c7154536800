"""Sensitivity: signal to noise of every layer alone, the worst first."""

import numpy as np
import pytest
from onnx import helper, numpy_helper

from rcnn_jax.export.precision.calibration import observe, scales_of
from rcnn_jax.export.precision.sensitivity import sensitivity
from tests.export.small import kernels, residual_block


def calibrated(model, x):
    return scales_of(observe(model, [x]), "max")


def test_the_layer_whose_weights_differ_most_within_a_channel_is_the_worst():
    """One large weight among small ones: the small ones lose their digits."""
    model = residual_block()
    weight = kernels("kc")["kc"] * 0.01
    weight[:, 0] = 50.0
    for i, tensor in enumerate(model.graph.initializer):
        if tensor.name == "kc":
            model.graph.initializer[i].CopyFrom(
                numpy_helper.from_array(weight.astype(np.float32), "kc")
            )
    nodes = model.graph.node
    nodes.insert(6, helper.make_node("Mul", ["rs", "mask"], ["masked"], name="masked"))
    nodes[7].input[0] = "masked"
    mask = np.ones((1, 8, 1, 1), np.float32)
    mask[:, 0] = 0.0  # the channel of the large weight says nothing
    model.graph.initializer.append(numpy_helper.from_array(mask, "mask"))
    x = np.random.default_rng(5).normal(0, 1, (3, 8, 8, 8)).astype(np.float32)
    result = sensitivity(model, calibrated(model, x), [x])
    assert next(iter(result.layers)) == "c"
    values = list(result.layers.values())
    assert values == sorted(values) and values[0] < 10 < 25 < values[1]
    assert set(result.tensors) == {"x", "ra", "masked"}, "s is a layer's result"


def test_the_signal_to_noise_of_a_tensor_is_that_of_its_rounding():
    model = residual_block()
    x = np.random.default_rng(5).normal(0, 1, (2, 8, 8, 8)).astype(np.float32)
    scales = calibrated(model, x)
    rounded = np.clip(np.rint(x / np.float32(scales["x"])), -127, 127) * np.float32(scales["x"])
    wanted = 10 * np.log10((x**2).sum() / ((x - rounded) ** 2).sum())
    assert sensitivity(model, scales, [x]).tensors["x"] == pytest.approx(wanted, abs=0.01)


def test_float16_that_overflows_is_the_worst_there_is():
    model = residual_block()
    x = np.full((1, 8, 8, 8), 4e4, np.float32)
    result = sensitivity(model, None, [x])
    assert min(result.layers.values()) == -200.0 and result.tensors == {}
    assert set(result.layers) == {"a", "b", "s", "c", "head"}
