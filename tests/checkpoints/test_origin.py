"""The origin of a model against a spec: what must agree, and what is noted only."""

from dataclasses import replace

import pytest

from rcnn_jax.checkpoints.origin import Origin, check_same_model
from rcnn_jax.errors import CheckpointError
from rcnn_jax.settings.data import GeometrySettings
from tests.export.tiny import RGB, faster_rcnn, mask_rcnn

BOXES, MASKS = faster_rcnn(), mask_rcnn()
BOXES.depends = {"arch": "resnet:10", "anchors": (16, 32)}


def origin_of(experiment, **changes):
    fields = {
        "kind": experiment.kind,
        "class_names": experiment.task.class_names,
        "category_ids": experiment.category_ids,
        "depends": experiment.depends,
        "pixels": experiment.task.pixels,
        "geometry": experiment.geometry,
    }
    return Origin(**{**fields, **changes})


@pytest.mark.parametrize("experiment", [BOXES, MASKS], ids=lambda e: e.kind)
def test_a_model_agrees_with_its_own_spec_without_a_word(experiment):
    assert check_same_model(origin_of(experiment), experiment, "a.tlt") == []


@pytest.mark.parametrize(
    ("experiment", "changes", "text"),
    [
        (BOXES, {"kind": "mask_rcnn"}, "a.tlt: holds a mask_rcnn model, the spec is of faster_rcnn"),
        (
            BOXES,
            {"class_names": ("rod", "disc", "star")},
            "was trained for the classes rod, disc, star; the spec maps to disc, rod, star",
        ),
        (
            MASKS,
            {"category_ids": (3, 7, 8)},
            r"was trained for the category ids \[3, 7, 8\]; the annotations .* have \[3, 7, 9\]",
        ),
        (
            BOXES,
            {"depends": {"arch": "vgg:16", "anchors": (16, 32)}},
            "arch: trained with 'vgg:16', the spec says 'resnet:10'",
        ),
        (
            BOXES,
            {"depends": None, "pixels": RGB},
            "channel_order: trained with 'rgb', the spec says 'bgr'",
        ),
        (
            BOXES,
            {"geometry": GeometrySettings(mode="stretch", height=64, width=96), "fixed_canvas": True},
            r"exported with another input size \(height, width\): \(64, 96\)",
        ),
    ],
)  # fmt: skip
def test_another_model_is_refused_with_both_values(experiment, changes, text):
    with pytest.raises(CheckpointError, match=text):
        check_same_model(origin_of(experiment, **changes), experiment, "a.tlt")


def test_every_field_that_differs_is_named():
    changes = {"depends": {"arch": "vgg:16", "anchors": (1, 2)}}
    with pytest.raises(CheckpointError) as error:
        check_same_model(origin_of(BOXES, **changes), BOXES, "a.tlt")
    assert str(error.value).splitlines()[1:3] == [
        "  anchors: trained with (1, 2), the spec says (16, 32)",
        "  arch: trained with 'vgg:16', the spec says 'resnet:10'",
    ]


def test_fields_that_one_side_does_not_know_are_not_compared():
    changes = {"depends": {"arch": "resnet:10", "later_field": 3}}
    assert check_same_model(origin_of(BOXES, **changes), BOXES, "a.tlt") == []


def test_another_canvas_of_a_bundle_is_noted():
    stored = replace(BOXES.geometry, height=64)
    (note,) = check_same_model(origin_of(BOXES, geometry=stored), BOXES, "a.tlt")
    assert "height: trained with 64, the spec says 128" in note


@pytest.mark.parametrize(
    ("pixels", "compared"),
    [(BOXES.task.pixels, "classes, input size and preprocessing"), (None, "only classes were")],
)
def test_a_file_of_an_earlier_version_says_what_could_be_compared(pixels, compared):
    (note,) = check_same_model(origin_of(BOXES, depends=None, pixels=pixels), BOXES, "a.tlt")
    assert "an earlier version wrote it" in note and compared in note


def test_long_lists_of_classes_are_cut():
    names = tuple(f"class{i}" for i in range(20))
    with pytest.raises(CheckpointError, match="class11 and 8 more; the spec maps to disc"):
        check_same_model(origin_of(BOXES, class_names=names), BOXES, "a.tlt")


def test_categories_are_of_models_whose_results_name_ids():
    assert origin_of(BOXES).categories is None
    categories = origin_of(MASKS).categories
    assert (categories.ids, categories.names) == ((3, 7, 9), ("disc", "rod", "star"))
