"""Back to text: the law, explicit zeros, secrets."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from rcnn_jax.kinds import SpecKind
from rcnn_jax.spec import parse_spec, redact, redact_text, render
from rcnn_jax.spec.build import build
from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.schema import Field, Message, walk
from tests.spec.samples import FASTER, MASK, SAMPLES, values_of

KINDS = list(TABLES)
ZEROS: dict[str, tuple[str, Any]] = {
    "bool": ("false", False),
    "uint32": ("0", 0),
    "whole": ("0", 0),
    "double": ("0", 0.0),
    "string": ('""', ""),
}


@pytest.mark.parametrize("kind", KINDS)
def test_loading_a_rendered_config_returns_it(kind: SpecKind) -> None:
    config = parse_spec(SAMPLES[kind]).config
    assert parse_spec(render(config, kind)).config == config


def zero_text(table: Message, member: int) -> str:
    """A spec that gives every field with the smallest value of its type, ranges notwithstanding.

    Args:
      table: the message.
      member: which member of every oneof is given.
    """
    rivals: dict[str, list[str]] = {}
    for field in table.fields:
        rivals.setdefault(field.oneof, []).append(field.name)
    lines = []
    for field in table.fields:
        group = rivals[field.oneof]
        if field.oneof and field.name != group[member % len(group)]:
            continue
        lines.append(zero_entry(field, member))
    return "\n".join(lines)


def zero_entry(field: Field, member: int) -> str:
    if field.kind == "message":
        return f"{field.name} {{ {zero_text(field.table, member)} }}"
    if field.kind == "map":
        return f'{field.name} {{ key: "" value: {ZEROS[field.entry][0]} }}'
    if field.shape is not None:
        items = ["(" + "0, " * field.shape.inner + ")" if field.shape.inner else "0"]
        return f'{field.name}: "({", ".join(items * (field.shape.length or 1))},)"'
    return f"{field.name}: {field.values[0] if field.kind == 'enum' else ZEROS[field.kind][0]}"


def zeros_of(config: ConfigDict, table: Message, path: str = "") -> list[str]:
    """Returns the paths of fields that are not zero; blocks that are absent are skipped."""
    wrong = []
    for field in table.fields:
        value, dotted = config[field.name], f"{path}{field.name}"
        if field.kind == "message":
            for block in value if field.repeated else [value]:
                if not field.optional or block.enabled:
                    wrong += zeros_of(block, field.table, f"{dotted}.")
        elif field.kind == "map":
            wrong += [] if dict(value) == {"": ZEROS[field.entry][1]} else [dotted]
        elif field.shape is not None:
            item = (0,) * field.shape.inner if field.shape.inner else 0
            wrong += [] if value == (item,) * (field.shape.length or 1) else [dotted]
        else:
            zero = field.values[0] if field.kind == "enum" else ZEROS[field.kind][1]
            same = value == ((zero,) if field.repeated else zero)
            exact = field.repeated or type(value) is type(zero)
            wrong += [] if same and exact else [dotted]
    return wrong


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("member", [0, 1, 2])
def test_every_explicit_zero_survives_reading_rendering_and_translation(
    kind: SpecKind, member: int
) -> None:
    table = TABLES[kind]
    config = build(values_of(zero_text(table, member), kind), table)
    # Scalars with a default that share a oneof with a block are absent when the block is given.
    absent = {path for path, field in walk(table) if field.oneof and field.kind != "message"}
    assert set(zeros_of(config, table)) <= absent
    again = build(values_of(render(redact(config), kind), kind), table)
    assert again == config
    document = json.loads(redact(config).to_json())
    assert document == json.loads(again.to_json())
    assert all(
        _is_rendered(document, path) for path, field in walk(table) if field.kind == "uint32"
    )


def _is_rendered(document: Any, path: str) -> bool:
    head, _, rest = path.partition(".")
    value = document[head]
    parts = value if isinstance(value, list) and rest else [value]
    return all(_is_rendered(part, rest) for part in parts) if rest else True


@settings(max_examples=50, deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20),
    number=st.floats(allow_nan=False, allow_infinity=False, min_value=1e-300, max_value=1e300),
)
def test_texts_and_numbers_survive_rendering_exactly(text: str, number: float) -> None:
    config = parse_spec(FASTER).config
    config.training_config.output_model = text
    config.training_config.std_scaling = number
    config.dataset_config.target_class_mapping.Car = f"{text}car"
    assert parse_spec(render(config, "faster_rcnn")).config == config


@settings(max_examples=50, deadline=None)
@given(
    ratios=st.lists(
        st.tuples(*[st.floats(min_value=1e-3, max_value=1e3)] * 2), min_size=1, max_size=4
    ).map(tuple),
    weights=st.tuples(*[st.floats(min_value=1e-3, max_value=1e3)] * 4),
)
def test_literals_survive_rendering_exactly(ratios: tuple, weights: tuple) -> None:
    config = parse_spec(MASK).config
    config.maskrcnn_config.aspect_ratios = ratios
    config.maskrcnn_config.bbox_reg_weights = weights
    assert parse_spec(render(config, "mask_rcnn")).config == config


def test_blocks_that_are_off_are_not_rendered() -> None:
    text = render(parse_spec(FASTER).config, "faster_rcnn")
    assert "sgd {" in text
    assert "adam {" not in text
    assert "early_stopping" not in text


def test_a_range_hides_the_single_threshold_that_it_excludes() -> None:
    text = FASTER + "evaluation_config { gt_matching_iou_threshold_range { } }"
    rendered = render(parse_spec(text).config, "faster_rcnn")
    assert "gt_matching_iou_threshold_range {" in rendered
    assert "gt_matching_iou_threshold:" not in rendered


SECRET = FASTER + "enc_key: 'hunter2' # not hunter2 again\n"


def test_redaction_hides_keys_and_leaves_the_original_alone() -> None:
    config = parse_spec(SECRET).config
    hidden = redact(config)
    assert hidden.enc_key == "<redacted>"
    assert config.enc_key == "hunter2"
    assert hidden.is_locked
    assert "hunter2" not in hidden.to_json()
    assert redact(parse_spec(FASTER).config).enc_key is None


def test_the_key_of_a_tracker_is_redacted_too() -> None:
    text = MASK + "wandb_config { key: 'hunter2' }"
    assert "hunter2" not in render(redact(parse_spec(text).config), "mask_rcnn")


def test_a_redacted_text_holds_the_key_nowhere() -> None:
    hidden = redact_text(SECRET)
    assert "hunter2" not in hidden
    assert "# not <redacted> again" in hidden
    assert hidden.startswith(FASTER)


def test_a_redacted_key_is_read_back_as_absent_and_reported() -> None:
    spec = parse_spec(redact_text(SECRET))
    assert spec.config.enc_key is None
    assert spec.notes == ["enc_key is redacted in this file: give it with -k or RCNN_JAX_KEY"]
