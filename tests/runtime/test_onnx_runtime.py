"""ONNX Runtime: sessions, and batches of the size of a graph."""

import numpy as np
import pytest
from onnx import helper

from rcnn_jax.errors import CheckpointError
from rcnn_jax.runtime.onnx_runtime import open_session, runner, runs
from tests.export.small import model_of


def doubled(batch):
    """x + x for images f32[b 1 2 2]."""
    node = helper.make_node("Add", ["x", "x"], ["y"], name="y")
    return model_of([node], {}, ["y"], (batch, 1, 2, 2)).SerializeToString()


def pictures(count):
    return np.arange(count * 4, dtype=np.float32).reshape(count, 1, 2, 2)


def test_a_runner_returns_all_outputs_by_name():
    outputs = runner(open_session(doubled("n"), "a.onnx"))(pictures(3))
    assert list(outputs) == ["y"]
    np.testing.assert_array_equal(outputs["y"], 2 * pictures(3))


@pytest.mark.parametrize(("batch", "sizes"), [("n", [1, 1, 1, 1, 1]), (2, [2, 2, 2]), (4, [4, 4])])
def test_a_fixed_batch_is_filled_with_its_own_images(batch, sizes):
    session = open_session(doubled(batch), "a.onnx")
    steps = list(runs(session, ["y"], [pictures(3), pictures(2)][: 2 if batch != 4 else 2]))
    assert [len(images) for images, _ in steps] == sizes
    for images, (result,) in steps:
        np.testing.assert_array_equal(result, 2 * images)
        assert set(images.ravel()) <= set(pictures(3).ravel()), "nothing that is not in the data"


def test_a_graph_that_cannot_be_loaded_is_one_message():
    with pytest.raises(CheckpointError, match="a.onnx: ONNX Runtime cannot load it: ") as error:
        open_session(doubled("n")[:-20], "a.onnx")
    assert "\n" not in str(error.value)
