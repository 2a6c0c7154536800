"""RoiAlign in standard operators beside ONNX Runtime's RoiAlign."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from rcnn_jax.export.lowering import portable_roi_align
from rcnn_jax.export.lowering.portable_nodes import Nodes
from rcnn_jax.export.lowering.portable_roi_align import Crops, align, choose, passes
from rcnn_jax.runtime.onnx_runtime import open_session


def crops_of(shape=(5, 9, 13), size=3, samples=2, scale=0.25, per_image=20):
    return Crops(
        feature="x",
        rois="rois",
        image="image",
        shape=shape,
        per_image=per_image,
        size=size,
        samples=samples,
        scale=scale,
    )


def session_of(nodes, output, crops):
    describe = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes.nodes,
        "g",
        [
            describe("x", TensorProto.FLOAT, ["batch", *crops.shape]),
            describe("rois", TensorProto.FLOAT, ["rois", 4]),
            describe("image", TensorProto.INT64, ["rois"]),
        ],
        [describe(output, TensorProto.FLOAT, [None] * 4)],
        nodes.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return open_session(model.SerializeToString(), "test")


def both(form, crops, feed, sums=False):
    nodes = Nodes("op")
    wanted = nodes.add(
        "RoiAlign",
        "x",
        "rois",
        "image",
        coordinate_transformation_mode="half_pixel",
        mode="avg",
        output_height=crops.size,
        output_width=crops.size,
        sampling_ratio=crops.samples,
        spatial_scale=crops.scale,
    )
    wanted = session_of(nodes, wanted, crops).run(None, feed)[0]
    nodes = Nodes("crops")
    actual = session_of(nodes, align(nodes, crops, form, sums=sums), crops).run(None, feed)[0]
    assert actual.shape == wanted.shape and actual.dtype == wanted.dtype
    return wanted, actual


def feed_of(crops, images=2, seed=0, outside=False):
    rng = np.random.default_rng(seed)
    _, height, width = crops.shape
    far = np.float32([width, height] * 2) / crops.scale
    corners = rng.uniform(0, 1, (images * crops.per_image, 2, 2))
    rois = np.concatenate([corners.min(1), corners.max(1)], 1).astype(np.float32) * far
    rois[0], rois[1], rois[2] = [0, 0, *far[2:]], rois[1, [0, 1, 0, 1]], [*far[2:], *far[2:]]
    rois[3] = np.floor(rois[3])  # samples on the borders of cells
    if outside:
        rois = (rois * 3 - far).astype(np.float32)
    return {
        "x": rng.normal(0, 1, (images, *crops.shape)).astype(np.float32),
        "rois": rois,
        "image": np.repeat(np.arange(images), crops.per_image),
    }


@pytest.mark.parametrize("form", ["gather", "grid"])
@pytest.mark.parametrize("samples", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_crops_are_those_of_the_operator(form, size, samples):
    crops = crops_of(size=size, samples=samples)
    wanted, actual = both(form, crops, feed_of(crops))
    np.testing.assert_allclose(actual, wanted, atol=1e-5)


@pytest.mark.parametrize("form", ["gather", "grid"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 1, 7), (3, 40, 2)])
def test_maps_of_one_cell_or_one_row_have_crops_too(form, shape):
    crops = crops_of(shape=shape)
    wanted, actual = both(form, crops, feed_of(crops))
    np.testing.assert_allclose(actual, wanted, atol=1e-5)


def test_gather_gives_nothing_beyond_the_map_as_the_operator_does():
    crops = crops_of()
    wanted, actual = both("gather", crops, feed_of(crops, outside=True))
    assert (np.abs(wanted).reshape(len(wanted), -1).max(1) == 0).any()
    np.testing.assert_allclose(actual, wanted, atol=1e-5)


def test_gather_is_the_same_without_a_matrix_product():
    crops = crops_of(size=7)
    wanted, actual = both("gather", crops, feed_of(crops), sums=True)
    np.testing.assert_allclose(actual, wanted, atol=1e-5)


def test_the_form_follows_the_size():
    assert choose(crops_of(shape=(8, 9, 13), per_image=8)) == "grid"
    assert choose(crops_of(shape=(256, 24, 78), size=7, per_image=300)) == "gather"


def test_large_crops_are_gathered_in_several_passes(monkeypatch):
    crops = crops_of()
    assert passes(crops) == 1
    whole = both("gather", crops, feed_of(crops))[1]
    monkeypatch.setattr(portable_roi_align, "READS_LIMIT", 1000)
    assert passes(crops) == 4
    wanted, actual = both("gather", crops, feed_of(crops))
    np.testing.assert_allclose(actual, wanted, atol=1e-5)
    np.testing.assert_allclose(actual, whole, atol=1e-6)
    # 1000 crops of a pyramid, 256 channels: 803 MB of taps at once
    monkeypatch.undo()
    assert passes(crops_of(shape=(256, 100, 100), size=7, per_image=300)) == 1
    assert passes(crops_of(shape=(256, 100, 100), size=7, per_image=1000)) == 4
