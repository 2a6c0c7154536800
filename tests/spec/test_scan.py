"""Errors of form: every one of them, with its place and in words that help."""

import pytest

from rcnn_jax.errors import SpecError
from rcnn_jax.spec import parse_spec
from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.parse import parse_values
from rcnn_jax.spec.scan import accepted_text, scan, top_level_names
from rcnn_jax.spec.tokens import comments, tokenize, unquote

FASTER = TABLES["faster_rcnn"]


def sentences(text: str) -> list[str]:
    return [f"{p.position[0]}:{p.position[1]}: {p.sentence}" for p in scan(text, FASTER).problems]


def test_tokens_know_their_line_and_column() -> None:
    tokens = tokenize("a: 1 # one\n  b { c: 'x y' }\n")
    found = [(token.text, token.line, token.column) for token in tokens]
    assert found == [
        ("a", 1, 1),
        (":", 1, 2),
        ("1", 1, 4),
        ("b", 2, 3),
        ("{", 2, 5),
        ("c", 2, 7),
        (":", 2, 8),
        ("'x y'", 2, 10),
        ("}", 2, 16),
        ("", 3, 1),
    ]


def test_a_comment_mark_inside_a_string_is_no_comment() -> None:
    text = "enc_key: '#1' # two"
    assert [text[start:end] for start, end in comments(text)] == ["# two"]


def test_escapes_are_read() -> None:
    assert unquote(r"'a\n\'\\\x41\u00e9'") == "a\n'\\Aé"


@pytest.mark.parametrize("text", [r"'C:\data'", r"'\xff'"])
def test_a_wrong_escape_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"has (a backslash|escapes)"):
        unquote(text)


def test_unknown_fields_are_all_reported_with_the_nearest_name() -> None:
    text = "verbos: true\ntraining_config {\n  num_epoch: 3\n  zzz { a: 1 b { c: 2 } }\n}\n"
    assert sentences(text) == [
        "1:1: unknown field 'verbos' at the top level; did you mean 'verbose'?",
        "3:3: unknown field 'num_epoch' in training_config; did you mean 'num_epochs'?",
        "4:3: unknown field 'zzz' in training_config",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("verbose: 'yes'", "1:10: verbose = 'yes' is not true or false"),
        ("random_seed: -1", "1:14: random_seed = -1 is not a whole number from 0 on"),
        ("random_seed: 1.5", "1:14: random_seed = 1.5 is not a whole number from 0 on"),
        ("random_seed: 4294967296", "1:14: random_seed = 4294967296 is larger than 4294967295"),
        ("random_seed: 07", "1:14: random_seed = 07 has leading zeros"),
        ("enc_key: 5", "1:10: enc_key = 5 is not text in quotes"),
        (
            "training_config { std_scaling: nan }",
            "1:32: training_config.std_scaling = nan is not a finite number",
        ),
        (
            "training_config { std_scaling: 1e999 }",
            "1:32: training_config.std_scaling = 1e999 is not a finite number",
        ),
        (
            "model_config { freeze_blocks: 0.5 }",
            "1:31: model_config.freeze_blocks[0] = 0.5 is not a whole number from 0 on",
        ),
        (
            "training_config { regularizer { type: L3 } }",
            "1:39: training_config.regularizer.type = L3 is not one of NO_REG, L1, L2",
        ),
        (
            "training_config: 5",
            "1:1: training_config needs a block { ... }, found 5",
        ),
        ("verbose { }", "1:9: expected ':' behind verbose, found {"),
        ("verbose: { }", "1:10: verbose needs true or false, found a block"),
        ("verbose: true\nverbose: false", "2:1: verbose is given twice, first in line 1"),
    ],
)
def test_a_wrong_value_is_reported_where_it_stands(text: str, sentence: str) -> None:
    assert sentences(text) == [sentence]


def test_a_key_in_pieces_is_one_key() -> None:
    entry = "target_class_mapping {{ key: 'a' '{}' value: 'c' }}"
    text = f"dataset_config {{ {entry.format('b')} {entry.format('c')} }}"
    assert sentences(text) == []
    assert "dataset_config.target_class_mapping.ac" in scan(text, FASTER).positions


def test_a_near_enum_name_is_suggested() -> None:
    text = "model_config { input_image_config { image_type: GREY_SCALE } }"
    assert sentences(text)[0].endswith("RGB, GRAY_SCALE; did you mean 'GRAY_SCALE'?")


def test_a_map_key_given_twice_is_an_error() -> None:
    text = "dataset_config {\n" + "  target_class_mapping { key: 'car' value: 'car' }\n" * 2 + "}"
    path = "dataset_config.target_class_mapping"
    assert sentences(text) == [f"3:31: {path} has the key 'car' twice, first in line 2"]


def test_a_map_entry_without_value_is_an_error() -> None:
    text = "dataset_config { target_class_mapping { key: 'car' } }"
    sentence = "dataset_config.target_class_mapping has an entry without key or value"
    assert sentences(text) == [f"1:41: {sentence}"]


def test_two_members_of_a_choice_are_an_error() -> None:
    text = "training_config { optimizer { sgd { } adam { } } }"
    path = "training_config.optimizer"
    assert sentences(text) == [f"1:39: {path}.adam and {path}.sgd exclude each other"]


def test_broken_syntax_ends_the_pass_and_keeps_what_was_found() -> None:
    result = scan("verbos: true\nrandom_seed 42\nenc_kay: 'x'", FASTER)
    assert result.broken
    assert [problem.position for problem in result.problems] == [(1, 1), (2, 13)]
    assert result.problems[1].sentence == "expected ':' behind random_seed, found 42"


def test_a_block_without_end_is_an_error() -> None:
    assert sentences("training_config {\n  num_epochs: 3\n") == [
        "3:1: expected a field or '}', found the end of the file"
    ]


def test_positions_are_those_of_the_names() -> None:
    text = (
        "model_config {\n  anchor_box_config {\n    scale: 1\n    scale: [2, 3]\n  }\n"
        "  input_image_config { image_channel_mean { key: 'r' value: 1 } }\n}\n"
    )
    positions = scan(text, FASTER).positions
    assert positions["model_config"] == (1, 1)
    assert positions["model_config.anchor_box_config.scale[0]"] == (3, 5)
    assert positions["model_config.anchor_box_config.scale[2]"] == (4, 16)
    assert positions["model_config.input_image_config.image_channel_mean.r"] == (6, 50)


def test_every_way_to_write_the_same_thing_is_read_alike() -> None:
    head = "model_config { input_image_config { size_height_width { height: 256 width: 256 } }"
    forms = (
        "anchor_box_config { scale: 8 scale: 16.0 }",
        "anchor_box_config: { scale: [8, 16] }",
        "anchor_box_config < scale: 8, scale: 1.6e1f; >;",
        "anchor_box_config { # comment }\n scale: 8 scale:16. }",
    )
    tail = (
        "} dataset_config { target_class_mapping { key: 'a' 'b' value: \"c\" } }"
        "training_config { optimizer { sgd { nesterov: t } } learning_rate { step { } } }"
    )
    configs = [parse_spec(f"{head} {form} {tail}").config for form in forms]
    assert all(config == configs[0] for config in configs)
    assert configs[0].model_config.anchor_box_config.scale == (8.0, 16.0)
    assert dict(configs[0].dataset_config.target_class_mapping) == {"ab": "c"}
    assert configs[0].training_config.optimizer.sgd.nesterov is True


def test_an_enum_is_read_by_name_and_by_number() -> None:
    for written in ("2", "L2"):
        values = parse_values(
            f"training_config {{ regularizer {{ type: {written} }} }}", "faster_rcnn"
        )
        assert values["training_config"]["regularizer"] == {"type": "L2"}


def test_faulty_entries_are_left_out_of_the_accepted_text() -> None:
    text = "verbos: true random_seed: 1 training_config { num_epochs: 'x' std_scaling: 2 }"
    kept = accepted_text(text, scan(text, FASTER))
    assert " ".join(kept.split()) == "random_seed: 1 training_config { std_scaling: 2 }"


def test_top_level_names_are_found_without_a_table() -> None:
    assert top_level_names("a: b\nc { d: 1 }\ne: [f, g] h <i: 1>") == {"a", "c", "e", "h"}


def test_an_alias_and_its_field_are_the_same_field() -> None:
    text = "evaluation_config { use_voc_11_point_metric: true use_voc07_11point_metric: true }"
    with pytest.raises(SpecError, match="use_voc07_11point_metric is given twice"):
        parse_spec(text, "a.txt", "faster_rcnn")
