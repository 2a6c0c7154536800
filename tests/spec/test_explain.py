"""Descriptions of fields: found by the end of a path, told in words."""

from rcnn_jax.kinds import SpecKind
from rcnn_jax.spec.explain import all_fields, default_text, describe, effect_text, find_fields


def test_a_field_is_found_by_the_end_of_its_path() -> None:
    assert [path for _, path, _ in find_fields("training_config.num_epochs")] == [
        "training_config.num_epochs"
    ]
    assert [kind for kind, _, _ in find_fields("num_epochs")] == ["faster_rcnn", "mask_rcnn"]
    assert [path for _, path, _ in find_fields("test_rpn_nms_threshold")] == [
        "maskrcnn_config.test_rpn_nms_thresh"
    ]
    assert find_fields("config.num_epochs") == []


def test_a_field_is_described_in_words() -> None:
    (row,) = find_fields("training_config.rpn_max_overlap", "faster_rcnn")
    assert describe(row) == (
        "training_config.rpn_max_overlap  (faster_rcnn)\n"
        "  From this IoU on an anchor is positive.\n"
        "  type     double\n"
        "  default  0.7\n"
        "  range    (0, 1]\n"
        "  effect   yes\n"
    )


def test_defaults_are_shown_as_a_spec_writes_them() -> None:
    shown = {path: default_text(field) for _, path, field in all_fields("mask_rcnn")}
    assert shown["data_config.image_size"] == '"(832, 1344)"'
    assert shown["use_amp"] == "false"
    assert shown["data_config.num_classes"] == "none; must be given"
    assert shown["maskrcnn_config.channel_plan"] == "empty"


def effects(kind: SpecKind) -> dict[str, str]:
    return {path: effect_text(field) for _, path, field in all_fields(kind)}


def test_a_block_lists_its_fields_and_what_is_absent_by_default() -> None:
    rows = {path: (kind, path, field) for kind, path, field in all_fields("faster_rcnn")}
    text = describe(rows["training_config.optimizer"])
    assert "  fields   " in text and "sgd" in text
    assert default_text(rows["training_config.optimizer.sgd"][2]) == "absent"
    assert default_text(rows["training_config"][2]) == "its fields' defaults"


def test_effects_name_extensions_and_other_spellings() -> None:
    shown = effects("mask_rcnn")
    assert shown["maskrcnn_config.test_rpn_nms_thresh"].endswith(
        "also read as test_rpn_nms_threshold"
    )
    extensions = {path for path, text in shown.items() if "extension of this project" in text}
    assert {path for _, path, field in all_fields("mask_rcnn") if field.extension} == extensions


def test_a_field_without_effect_says_why_and_does_not_claim_one() -> None:
    vain = [row for row in all_fields() if row[2].no_effect]
    assert vain
    for row in vain:
        assert "  effect   no effect: " in describe(row)
        assert "; yes" not in describe(row)


def test_every_row_of_every_table_can_be_described() -> None:
    for row in all_fields():
        first, *rest = describe(row).splitlines()
        assert first == f"{row[1]}  ({row[0]})" and all(line.startswith("  ") for line in rest)
        assert row in find_fields(row[1], row[0])
