"""The heads alone: shapes, slots of the background, and the order of what they flatten."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.models.builder import Builder
from rcnn_jax.models.heads import (
    PREDICTORS,
    BoxHead,
    BoxPredictor,
    MaskHead,
    RpnHead,
    RpnNames,
    merge_rois,
    split_rois,
)

NAMES = RpnNames(conv="rpn", objectness="rpn-class", deltas="rpn-box")


@pytest.fixture
def build():
    return Builder()


def shapes(module, *arguments):
    """{layer/leaf: shape}, and the shapes of the outputs; nothing is computed."""
    outputs, variables = jax.eval_shape(
        lambda: module.init_with_output(jax.random.key(0), *arguments)
    )
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
    named = {"/".join(part.key for part in path): leaf.shape for path, leaf in leaves}
    return named, outputs


def test_all_levels_share_the_layers_of_the_rpn(build):
    head = RpnHead(build, NAMES, 16, 3)
    features = {2: jnp.zeros((2, 8, 6, 4)), 3: jnp.zeros((2, 4, 3, 4))}
    named, outputs = shapes(head, features)
    assert named == {
        "rpn/kernel": (3, 3, 4, 16),
        "rpn/bias": (16,),
        "rpn-class/kernel": (1, 1, 16, 3),
        "rpn-class/bias": (3,),
        "rpn-box/kernel": (1, 1, 16, 12),
        "rpn-box/bias": (12,),
    }
    assert {level: o.shape for level, o in outputs.objectness.items()} == {
        2: (2, 8, 6, 3),
        3: (2, 4, 3, 3),
    }
    assert outputs.deltas[3].shape == (2, 4, 3, 3, 4)


@pytest.mark.parametrize("slots", [3, 4])
def test_deltas_of_the_background_are_in_the_file_and_not_in_the_result(build, slots):
    predictor = BoxPredictor(build, "class-predict", "box-predict", 3, slots)
    named, outputs = shapes(predictor, jnp.zeros((10, 8)), 5)
    assert named["class-predict/kernel"] == (8, 4)
    assert named["box-predict/kernel"] == (8, 4 * slots)
    assert outputs.logits.shape == (2, 5, 4) and outputs.deltas.shape == (2, 5, 3, 4)


def test_the_last_slot_is_the_one_that_is_left_out(build):
    predictor = BoxPredictor(build, "class-predict", "box-predict", 2, 3)
    variables = predictor.init(jax.random.key(0), jnp.zeros((1, 1)), 1)
    params = {
        "class-predict": {"kernel": jnp.zeros((1, 3)), "bias": jnp.arange(3.0)},
        "box-predict": {"kernel": jnp.zeros((1, 12)), "bias": jnp.arange(12.0)},
    }
    assert jax.tree.structure(variables["params"]) == jax.tree.structure(params)
    outputs = predictor.apply({"params": params}, jnp.zeros((1, 1)), 1)
    np.testing.assert_array_equal(outputs.deltas[0, 0], np.arange(8.0).reshape(2, 4))
    np.testing.assert_array_equal(outputs.logits[0, 0], [0, 1, 2])


def test_rois_of_all_images_are_one_axis_and_come_back():
    crops = jnp.arange(2 * 3 * 4.0).reshape(2, 3, 4)
    rows = merge_rois(crops)
    assert rows.shape == (6, 4)
    np.testing.assert_array_equal(split_rois(rows, 3), crops)


def test_a_box_head_flattens_row_column_channel_into_two_dense_layers(build):
    named, outputs = shapes(BoxHead(build, 16), jnp.zeros((5, 7, 7, 8)), False)
    assert named["fc6/kernel"] == (392, 16) and named["fc7/kernel"] == (16, 16)
    assert outputs.shape == (5, 16)


def test_a_mask_head_doubles_the_side_and_leaves_out_the_background(build):
    named, outputs = shapes(MaskHead(build, 3, features=8), jnp.zeros((5, 14, 14, 4)), False)
    assert outputs.shape == (5, 28, 28, 3) and outputs.dtype == jnp.float32
    assert named["mask_fcn_logits/kernel"] == (1, 1, 8, 4)
    assert [f"mask-conv-l{i}/kernel" in named for i in range(5)] == [True] * 4 + [False]
    assert named["conv5-mask/kernel"] == (2, 2, 8, 8)


def test_predictors_are_the_layers_whose_width_is_a_number_of_classes_or_anchors(build):
    mask, _ = shapes(MaskHead(build, 3, features=8), jnp.zeros((1, 4, 4, 4)), False)
    rpn, _ = shapes(RpnHead(build, NAMES, 16, 3), {2: jnp.zeros((1, 4, 4, 4))})
    layers = {name.split("/")[0] for name in (*mask, *rpn)}
    assert layers & PREDICTORS == {"mask_fcn_logits", "rpn-class", "rpn-box"}


def test_convolutions_of_a_box_head_stand_in_the_place_of_its_second_layer(build):
    named, outputs = shapes(BoxHead(build, 16, convs=4), jnp.zeros((5, 7, 7, 8)), False)
    kernels = {name.split("/")[0] for name in named if name.endswith("/kernel")}
    assert kernels == {"fc6", *(f"box-conv-l{i}" for i in range(4))}
    assert outputs.shape == (5, 16)


def test_further_convolutions_of_the_rpn_are_numbered_from_one(build):
    names = RpnNames(conv="rpn", objectness="rpn-class", deltas="rpn-box", further="rpn-{}")
    named, _ = shapes(RpnHead(build, names, 16, 3, depth=3), {2: jnp.zeros((1, 4, 4, 4))})
    assert named["rpn/kernel"] == (3, 3, 4, 16)
    assert named["rpn-1/kernel"] == named["rpn-2/kernel"] == (3, 3, 16, 16)
