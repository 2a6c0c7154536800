"""Calibration: the range of every quantised tensor, over any number of images."""

import numpy as np
import pytest

from rcnn_jax.export.precision.calibration import observe, scales_of, with_fused
from rcnn_jax.export.precision.model_view import ModelView
from rcnn_jax.export.precision.placement import place
from rcnn_jax.export.precision.quantize import insert_qdq
from rcnn_jax.runtime.onnx_runtime import open_session
from tests.export.small import kernels, residual_block


def run(model, x):
    return open_session(model.SerializeToString(), "test").run(None, {"x": x})


def calibrated(model, x):
    return scales_of(observe(model, [x]), "max")


def test_calibration_sees_the_tensors_that_are_rounded():
    model = residual_block()
    x = np.random.default_rng(5).normal(0, 1, (3, 8, 8, 8)).astype(np.float32)
    scales = calibrated(model, x)
    assert scales["x"] == np.float32(np.abs(x).max() / 127)
    hidden = np.maximum(np.einsum("oi,bihw->bohw", kernels("ka")["ka"][:, :, 0, 0], x), 0)
    assert scales["ra"] == pytest.approx(hidden.max() / 127, rel=1e-5)
    assert set(scales) == set(place(ModelView(model)).readers)
    error = np.abs(run(insert_qdq(model, scales), x)[0] - run(model, x)[0])
    assert 0 < error.max() < 0.05 * np.abs(run(model, x)[0]).max()


def test_the_cache_also_names_what_lies_before_an_activation():
    model = residual_block()
    scales = with_fused(model, {"x": 1.0, "ra": 2.0, "rs": 3.0, "s": 4.0})
    assert scales == {"x": 1.0, "ra": 2.0, "rs": 3.0, "s": 4.0, "sum": 3.0, "a": 2.0, "b": 3.0}


def test_a_fixed_batch_is_filled_up():
    model = residual_block()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    x = np.random.default_rng(5).normal(0, 1, (3, 8, 8, 8)).astype(np.float32)
    assert calibrated(model, x) == pytest.approx(calibrated(residual_block(), x), rel=1e-5)
