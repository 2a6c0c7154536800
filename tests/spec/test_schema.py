"""Field tables: consistent, documented, and the source of the reference page."""

from pathlib import Path

import pytest

from rcnn_jax.spec.explain import all_fields
from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.schema import (
    Choice,
    Interval,
    Message,
    boolean,
    count,
    messages,
    string,
    walk,
)
from rcnn_jax.spec.text.literals import numbers
from tools.spec_reference import OUTPUT, reference

ROWS = [(f"{kind}.{path}", field) for kind, path, field in all_fields()]


def test_intervals_know_their_ends() -> None:
    half_open = Interval(0, 1, open_low=True)
    assert str(half_open) == "(0, 1]"
    assert 0 not in half_open
    assert 1 in half_open
    assert str(Interval(low=1)) == "[1, inf)"
    assert str(Interval(0, 1, open_high=True)) == "[0, 1)"
    assert 1 not in Interval(0, 1, open_high=True)


def test_nan_is_in_no_interval() -> None:
    assert float("nan") not in Interval(0, 1)


def test_a_choice_names_its_values() -> None:
    assert Choice(("a", "b")).complaint == "is not one of 'a', 'b'"
    assert Choice((16,)).complaint == "is not 16"


def test_a_table_refuses_a_name_twice() -> None:
    with pytest.raises(ValueError, match="uses a name or number twice"):
        Message("M", "", (boolean("a", 1, False, ""), string("b", 2, None, "", aliases=("a",))))
    with pytest.raises(ValueError, match="uses a name or number twice"):
        Message("M", "", (boolean("a", 1, False, ""), count("b", 1, 0, "")))


@pytest.mark.parametrize(("path", "field"), ROWS, ids=[path for path, _ in ROWS])
def test_every_row_is_documented_and_its_default_is_allowed(path: str, field) -> None:
    assert field.doc.endswith(".")
    if field.allowed is None or field.default is None:
        return
    if field.kind == "map":
        values = list(field.default.values())
    elif field.shape is not None:
        values = numbers(field.default, field.shape)
    else:
        values = field.default if field.repeated else [field.default]
    assert all(value in field.allowed for value in values)


def test_extensions_change_nothing_unnoticed_by_default() -> None:
    """An extension that is absent leaves the original's behaviour: off, empty, none, neutral.

    What docs/tao_differences.md lists is excepted: `sync_bn`, `outside_anchors`, and `clip_norm` of
    Mask R-CNN.
    """
    neutral = {
        "clip_norm": (0.0, 10.0),
        "sync_bn": True,
        "lr_scaling": ("devices", "none"),
        "keep_checkpoints": 2,
        "min_pretrained_coverage": 0.5,
        "n_workers": 2,
        "prefetch_buffer_size": 4,
        "learning_rate_schedule": "piecewise",
        "kitti_image_dir_name": "image_2",
        "kitti_label_dir_name": "label_2",
        "mosaic_off": 0.15,  # without mosaic_probability nothing
        "tile_overlap": 0.2,  # without tile_size nothing
        "scale_jitter_min": 1.0,
        "scale_jitter_max": 1.0,
        "convention": "tao",
        "outside_anchors": "train",
        "qat_calibration": "percentile",
        "accumulate_steps": 1,
        "teacher_weight": 1.0,
        "amp_dtype": "bfloat16",
        "sharding": "none",
        "rpn_conv_depth": 1,
        "box_head": "2fc",
        "fpn_norm": "none",
        "head_norm": "none",
        "pixel_order": "convention",
        "bottleneck_stride": "convention",
        "canonical_box_size": 224.0,
        "backbone_lr_factor": 1.0,
        "layer_decay": 1.0,
        "box_loss": "smooth_l1",
        "rpn_box_loss": "smooth_l1",
        "dynamic_overlap_rank": 75,
        "dynamic_error_rank": 10,
        "dynamic_interval": 100,
        "multi_scale_min": 1.0,
        # Of a block that is absent by default.
        "beta_1": 0.9,
        "beta_2": 0.999,
        "epsilon": 1e-8,
        "weight_decay": 0.05,
        "tfds_train_split": "train",
        "tfds_val_split": "validation",
    }
    for _, path, field in all_fields():
        if field.extension and field.kind != "message":
            expected = neutral.get(field.name)
            fits = (
                field.default in expected
                if isinstance(expected, tuple)
                else (field.default == expected if field.name in neutral else not field.default)
            )
            assert fits, path


def test_messages_of_one_kind_have_different_names() -> None:
    for table in TABLES.values():
        by_name = messages(table)
        for _, field in walk(table):
            if field.message is not None:
                assert by_name[field.message.name] is field.message


def test_the_reference_page_is_what_the_tables_give() -> None:
    assert Path(OUTPUT).read_text(encoding="utf-8") == reference(), (
        "docs/spec_reference.md is old: run  python -m tools.spec_reference"
    )
