import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.errors import SpecError
from rcnn_jax.models import MaskRcnn, narrowed, parameter_order
from tests.models.tiny import initial_leaves, random_variables

SEED = Path(__file__).parents[2].parent / "shared" / "seeds" / "000_267fe60aa45940be.txt"
# Some rows of the TRAINABLE VARIABLES table of ResNet-50 with 91 classes, counted from 1.
ROWS = {
    1: ("conv1/kernel", (7, 7, 3, 64)),
    3: ("bn_conv1/beta", (64,)),
    10: ("block_1a_conv_3/kernel", (1, 1, 64, 256)),
    110: ("block_3d_bn_3/gamma", (1024,)),
    144: ("block_4b_bn_1/beta", (512,)),
    174: ("post_hoc_d5/kernel", (3, 3, 256, 256)),
    178: ("rpn-class/kernel", (1, 1, 256, 3)),
    180: ("rpn-box/kernel", (1, 1, 256, 12)),
    182: ("fc6/kernel", (12544, 1024)),
    186: ("class-predict/kernel", (1024, 91)),
    188: ("box-predict/kernel", (1024, 364)),
    190: ("mask-conv-l0/kernel", (3, 3, 256, 256)),
    198: ("conv5-mask/kernel", (2, 2, 256, 256)),
    201: ("mask_fcn_logits/bias", (91,)),
}


@pytest.fixture(scope="module")
def model():
    return narrowed(MaskRcnn(num_classes=4, anchors_per_cell=3, arch="resnet:10"), 1 / 32)


@pytest.fixture(scope="module")
def variables(model):
    return random_variables(model)


@pytest.fixture(scope="module")
def features(model, variables):
    images = jax.random.normal(jax.random.key(1), (2, 64, 128, 3))
    extract = jax.jit(lambda v, x: model.apply(v, x, False, method=model.extract))
    return extract(variables, images)


def test_trainable_variables_are_those_of_the_document_in_its_order():
    order = parameter_order(MaskRcnn(num_classes=90, anchors_per_cell=3))
    assert len(order) == 201
    assert {row: order[row - 1] for row in ROWS} == ROWS


def test_every_row_of_the_document_is_reproduced():
    if not SEED.exists():
        pytest.skip("the document lies in shared/ beside the clone, which is absent")
    rows = re.findall(r"\[#(\d{4})\] (\S+):0 +=> \(([\d, ]+)\)", SEED.read_text())
    assert len(rows) > 40
    order = parameter_order(MaskRcnn(num_classes=90, anchors_per_cell=3))
    for number, name, shape in rows:
        sizes = tuple(int(size) for size in shape.split(",") if size.strip())
        assert order[int(number) - 1] == (name, sizes)


def test_layers_lie_flat_under_the_names_of_the_original(variables):
    assert {"conv1", "l2", "post_hoc_d5", "rpn", "rpn-class", "fc6", "conv5-mask"} <= set(
        variables["params"]
    )


def test_every_stage_has_the_documented_shapes(model, variables, features):
    sides = {level: (64 // 2**level, 128 // 2**level) for level in model.levels}
    assert {level: x.shape for level, x in features.items()} == {
        level: (2, *side, 8) for level, side in sides.items()
    }
    rpn = model.apply(variables, features, method=model.rpn)
    for level, side in sides.items():
        assert rpn.objectness[level].shape == (2, *side, 3)
        assert rpn.deltas[level].shape == (2, *side, 3, 4)
    boxes = model.apply(variables, jnp.ones((2, 5, 7, 7, 8)), False, method=model.classify)
    assert boxes.logits.shape == (2, 5, 5) and boxes.deltas.shape == (2, 5, 4, 4)
    masks = model.apply(variables, jnp.ones((2, 3, 14, 14, 8)), method=model.segment)
    assert masks.shape == (2, 3, 28, 28, 4) and masks.dtype == jnp.float32


def test_last_slot_of_boxes_and_masks_is_the_unused_background(model, variables):
    params = dict(variables["params"])
    for name, count in (("box-predict", 20), ("mask_fcn_logits", 5)):
        params[name] = {
            "kernel": jnp.zeros_like(params[name]["kernel"]),
            "bias": jnp.arange(float(count)),
        }
    bound = model.bind({**variables, "params": params})
    boxes = bound.classify(jnp.ones((1, 1, 7, 7, 8)), False)
    np.testing.assert_array_equal(boxes.deltas[0, 0], np.arange(16).reshape(4, 4))
    masks = bound.segment(jnp.ones((1, 1, 2, 2, 8)))
    np.testing.assert_array_equal(masks[0, 0, 0, 0], np.arange(4))


def test_crops_are_flattened_row_column_channel(model, variables):
    # fc6 passes on the number of the cell (1, 2, channel 3), which a marked crop then holds.
    position = (1 * 7 + 2) * 8 + 3
    width = variables["params"]["fc6"]["kernel"].shape[1]
    kernel = jnp.zeros((7 * 7 * 8, width)).at[position].set(1.0)
    params = {**variables["params"], "fc6": {"kernel": kernel, "bias": jnp.zeros(width)}}
    params["fc7"] = {"kernel": jnp.eye(width), "bias": jnp.zeros(width)}
    bound = model.bind({**variables, "params": params})
    crop = jnp.zeros((1, 7, 7, 8)).at[0, 1, 2, 3].set(5.0)
    np.testing.assert_array_equal(bound.box_head(crop, False), np.full((1, width), 5.0))


def test_sixth_level_is_every_second_cell_of_the_fifth(features):
    np.testing.assert_array_equal(features[6], features[5][:, ::2, ::2])


def test_levels_above_six_are_convolutions_of_stride_two():
    model = MaskRcnn(num_classes=4, anchors_per_cell=3, arch="resnet:10", min_level=3, max_level=7)
    order = dict(parameter_order(model))
    assert order["p6/kernel"] == order["p7/kernel"] == (3, 3, 256, 256)
    assert "l2/kernel" not in order and "p8/kernel" not in order
    assert model.levels == (3, 4, 5, 6, 7)


def test_pyramid_may_end_at_the_backbone():
    model = MaskRcnn(num_classes=4, anchors_per_cell=3, arch="resnet:10", max_level=5)
    assert not any(name.startswith("p6") for name, _ in parameter_order(model))


def test_without_masks_there_is_no_mask_head():
    model = MaskRcnn(num_classes=4, anchors_per_cell=3, arch="resnet:10", include_mask=False)
    names = [name for name, _ in parameter_order(model)]
    assert names[-1] == "box-predict/bias"


def test_coarse_context_reaches_the_finest_level(model, variables):
    bound = model.bind(variables)
    backbone = {2 + i: jnp.zeros((1, 16 >> i, 16 >> i, w)) for i, w in enumerate((2, 4, 8, 16))}
    still = bound.fpn(backbone, False)
    moved = bound.fpn({**backbone, 5: backbone[5].at[0, 0, 0].set(1.0)}, False)
    change = np.abs(moved[2] - still[2])[0].max(-1)
    assert change[:8, :8].min() > 0 and change[9:].max() == change[:, 9:].max() == 0


def test_image_that_does_not_fit_the_pyramid_is_refused(model, variables):
    with pytest.raises(ValueError, match="images of 96 x 64 pixels .* multiples of 64"):
        model.apply(variables, jnp.zeros((1, 96, 64, 3)), False, method=model.extract)


def test_impossible_levels_and_archs_are_refused():
    with pytest.raises(SpecError, match="min_level = 1, max_level = 6 is no pyramid"):
        parameter_order(MaskRcnn(num_classes=4, anchors_per_cell=3, min_level=1))
    with pytest.raises(SpecError, match="Mask R-CNN has no arch 'vgg:16': expected one of resnet"):
        parameter_order(MaskRcnn(num_classes=4, anchors_per_cell=3, arch="vgg:16"))


def test_heads_start_small_as_in_the_original():
    model = narrowed(MaskRcnn(num_classes=40, anchors_per_cell=3, arch="resnet:10"), 1 / 8)
    names = ("rpn", "class-predict", "box-predict", "mask-conv-l0")
    rpn, classes, boxes, mask = initial_leaves(model, *(f"{name}/kernel" for name in names))
    for kernel, deviation in ((rpn, 0.01), (classes, 0.01), (boxes, 0.001)):
        assert abs(float(kernel.std()) / deviation - 1) < 0.1
    assert abs(float(mask.std()) / (2 / (9 * mask.shape[3])) ** 0.5 - 1) < 0.1
