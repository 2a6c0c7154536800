from types import SimpleNamespace

import numpy as np

from rcnn_jax.ops.anchors import cell_sizes_from_octaves, cell_sizes_from_scales
from rcnn_jax.settings.detection import RpnTargetSettings
from rcnn_jax.settings.network import AnchorConvention
from rcnn_jax.tasks.anchor_advice import anchor_advice, outside_advice

PLATES = np.tile(np.float32([[26 / 3.6**0.5, 26 * 3.6**0.5]]), (50, 1))


def of_scales(sides, scales, ratios):
    fields = {"model_config": {"anchor_box_config": {"scale": scales, "ratio": ratios}}}
    settings = SimpleNamespace(cell_sizes=((4, cell_sizes_from_scales(scales, ratios)),))
    return anchor_advice(fields, "faster_rcnn", settings, sides)


def of_octaves(sides, scale, aspects):
    fields = {"maskrcnn_config": {"aspect_ratios": aspects, "num_scales": 1}}
    cells = tuple(
        (level, cell_sizes_from_octaves(scale, 2**level, 1, aspects)) for level in range(2, 7)
    )
    return anchor_advice(fields, "mask_rcnn", SimpleNamespace(cell_sizes=cells), sides)


def test_one_line_when_all_is_well():
    advice = of_scales(np.float32([[128, 128]] * 9), [64.0, 128.0], [1.0, 0.5])
    assert advice.text == "anchors reach 100% of the training objects (IoU 0.5)" and not advice.act
    assert not of_octaves(np.float32([[64, 64]] * 9), 8, [(1.0, 1.0)]).act


def test_ratios_read_the_wrong_way_round_are_found():
    advice = of_scales(PLATES, [16.0, 28.0, 56.0], [0.5, 0.3, 0.2])
    assert advice.act
    assert advice.text == (
        "no anchor reaches 100% of the training objects (IoU 0.5) at the size they have on the "
        "canvas; with anchor_box_config { scale: 26 ratio: 3.6 } (ratio is width / height) it would "
        "be 50%"
    )
    assert not of_scales(PLATES, [16.0, 28.0, 56.0], [3.6, 2.8]).act


def test_a_pyramid_is_given_a_base_side_and_aspects():
    advice = of_octaves(PLATES, 16, [(1.0, 1.0)])
    assert (
        advice.act
        and 'aspect_ratios: "[(1.9, 0.53)]" (width, height) it would be 0%' in advice.text
    )


def test_objects_that_no_anchors_of_a_stride_can_reach_are_said_without_advice():
    advice = of_scales(np.float32([[4, 4]] * 9), [32.0], [1.0])
    assert not advice.act and advice.text.endswith(
        "other anchors of this number would hardly reach more"
    )


def settings_of(outside):
    return SimpleNamespace(
        cell_sizes=((4, cell_sizes_from_scales((64, 256), (1.0, 0.5))),),
        anchor_convention=AnchorConvention(),
        rpn_targets=RpnTargetSettings(outside=outside, anchors_per_cell=4),
    )


def test_sizes_that_lie_inside_nowhere_or_seldom_are_named():
    assert outside_advice(settings_of("train"), (320, 320)) is None
    assert outside_advice(settings_of("ignore"), (1024, 1024)) is None
    ignored = outside_advice(settings_of("ignore"), (320, 320))
    assert ignored.act and ignored.text == (
        "anchors of 362 x 181 pixels (height x width) lie inside the canvas of 320 x 320 nowhere: they "
        "are never positive and propose nothing (outside_anchors: 'train' trains them); anchors that lie "
        "inside in few cells are trained in those alone: 256 x 256 (16 of 400 cells); outside_anchors: "
        "'train' trains them everywhere"
    )
    trained = outside_advice(settings_of("auto"), (320, 320))
    assert (
        not trained.act
        and "nowhere: they are trained although they leave the image" in trained.text
    )
