"""`convention` of a Mask R-CNN spec reaches everything that weights take for granted."""

from pathlib import Path

import pytest

from rcnn_jax.data.sources.categories import Categories
from rcnn_jax.errors import SpecError
from rcnn_jax.ops.anchors import level_anchors
from rcnn_jax.settings.network import TAO_MRCNN, TORCHVISION
from rcnn_jax.spec.load import load_spec, parse_spec
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.tasks.mask_rcnn.task import MaskRcnnTask

CONFIGS = Path(__file__).parents[3] / "configs" / "mask_rcnn"


def task_of(name):
    config = load_spec(CONFIGS / name).config
    categories = Categories(tuple(range(1, 91)), tuple(f"class {i}" for i in range(1, 91)))
    task = build_experiment(config, "mask_rcnn", categories=categories).task
    assert isinstance(task, MaskRcnnTask)
    return task


def test_specs_of_the_original_keep_its_convention():
    task = task_of("coco_resnet50.txt")
    assert task.model.convention == TAO_MRCNN
    assert len(set(task.pixels.std)) == 1
    assert task.settings.roi_aligned
    assert task.settings.roi_levels == (2, 3, 4, 5, 6)


def test_torchvision_pools_without_the_coarsest_level_and_divides_every_channel_by_its_own():
    task = task_of("torchvision_resnet50.txt")
    assert task.model.convention == TORCHVISION
    assert task.pixels.std == pytest.approx((0.229 * 255, 0.224 * 255, 0.225 * 255), rel=1e-9)
    assert not task.settings.roi_aligned
    assert task.settings.roi_levels == (2, 3, 4, 5)


def test_torchvision_rounds_anchors_around_the_corners_of_cells():
    settings = task_of("torchvision_resnet50.txt").settings
    sizes = dict(settings.cell_sizes)[2]
    # 32 pixels: sides 22.6 and 45.3, halves 11.3 and 22.6; the second cell begins at 4.
    anchors = level_anchors((1, 2), 4, sizes, settings.anchor_convention)
    expected = [[-11, -23, 11, 23], [-16, -16, 16, 16], [-23, -11, 23, 11]]
    assert anchors[:3].tolist() == expected
    assert anchors[3].tolist() == [-11, -19, 11, 27]


def test_an_unknown_convention_is_an_error_that_lists_the_known_ones():
    text = (
        (CONFIGS / "torchvision_resnet50.txt").read_text().replace('"torchvision"', '"detectron"')
    )
    with pytest.raises(SpecError, match=r"convention.*'tao', 'torchvision'"):
        parse_spec(text, "spec.txt", "mask_rcnn")
