"""Errors of form: every one of them, with its position and its cause."""

import pytest

from rcnn_jax.printable import excerpt
from rcnn_jax.spec import parse_spec
from tests.spec.samples import FASTER, scanned, values_of


def sentences(text: str) -> list[str]:
    return [f"{p.position[0]}:{p.position[1]}: {p.sentence}" for p in scanned(text).problems]


def warnings(text: str) -> list[str]:
    scan = scanned(text)
    assert not scan.problems
    return [f"{p.position[0]}:{p.position[1]}: {p.sentence}" for p in scan.warnings]


def test_what_a_message_repeats_is_short_and_harmless() -> None:
    assert excerpt("a\x1b[31m\u202e\u200b\n") == r"a\x1b[31m\u202e\u200b\n"
    assert excerpt("x" * 1600) == f"{'x' * 40}... (1600 characters)"


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
        ("num_epochs: 3", "'num_epochs' at the top level; it belongs into training_config"),
        (
            "training_config { rpn_nms_overlap_threshold: 0.5 momentum: 0.9 }",
            "'momentum' in training_config; it belongs into training_config.optimizer.sgd",
        ),
        (
            "training_config { enc_key: 'k' }",
            "'enc_key' in training_config; it belongs to the top level",
        ),
        (
            "rpn_nms_max_boxes: 5",
            "'rpn_nms_max_boxes' at the top level; it belongs into training_config or "
            "inference_config or evaluation_config",
        ),
        (
            "num_epoch: 3",
            "'num_epoch' at the top level; did you mean 'num_epochs', which belongs into "
            "training_config?",
        ),
        (
            "data_config { }",
            "'data_config' at the top level; specs of mask_rcnn have it; did you mean "
            "'dataset_config'?",
        ),
        ("nlayers: 18", "'nlayers' at the top level; specs of mask_rcnn have it"),
        ("Verbose: true", "'Verbose' at the top level; did you mean 'verbose'?"),
        ("random-seed: 1", "'random-seed' at the top level; did you mean 'random_seed'?"),
        (
            "random\u200b_seed: 1",
            r"'random\u200b_seed' at the top level; did you mean 'random_seed'?",
        ),
        ("v\x1b[31m: 1", r"expected a field, found v\x1b"),
    ],
)
def test_the_error_for_a_field_in_a_wrong_block_names_the_right_one(
    text: str, sentence: str
) -> None:
    assert sentences(text)[0].endswith(sentence)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("verbose: 'yes'", "1:10: verbose = 'yes' is not true or false: write true"),
        ("verbose: TRUE", "1:10: verbose = TRUE is not true or false: write true"),
        ("verbose: maybe", "1:10: verbose = maybe is not true or false"),
        ("random_seed: -1", "1:14: random_seed = -1 is not a whole number from 0 on"),
        ("random_seed: -0x10", "1:14: random_seed = -0x10 is not a whole number from 0 on"),
        ("random_seed: 1.5", "1:14: random_seed = 1.5 is not a whole number from 0 on"),
        ("random_seed: 1e3", "1:14: random_seed = 1e3 is not a whole number from 0 on: write 1000"),
        (
            "random_seed: 12_000",
            "1:14: random_seed = 12_000 is not a whole number from 0 on: write 12000",
        ),
        (
            "random_seed: 12,000",
            "1:14: random_seed = 12,000 is not a whole number from 0 on: write 12000",
        ),
        ("random_seed: '7'", "1:14: random_seed = '7' is not a whole number from 0 on: write 7"),
        ("random_seed: 4294967296", "1:14: random_seed = 4294967296 is larger than 4294967295"),
        (
            f"random_seed: 0x{'f' * 60}",
            f"1:14: random_seed = {'0x' + 'f' * 38}... (62 characters) is larger than 4294967295",
        ),
        ("random_seed: 07", "1:14: random_seed = 07 has leading zeros: write 7"),
        ("random_seed:", "1:1: random_seed has no value: it needs a whole number from 0 on"),
        (
            "random_seed: 3 epochs",
            "1:14: random_seed = 3 epochs is not a whole number from 0 on: it is more than one word",
        ),
        ("random_seed: [3]", "1:14: random_seed needs a whole number from 0 on, found a list"),
        (
            "training_config { std_scaling: nan }",
            "1:32: training_config.std_scaling = nan is not a finite number",
        ),
        (
            "training_config { std_scaling: inff }",
            "1:32: training_config.std_scaling = inff is not a finite number",
        ),
        (
            "training_config { std_scaling: 1e999 }",
            "1:32: training_config.std_scaling = 1e999 is not a finite number",
        ),
        (
            "training_config { std_scaling: 1e–4 }",
            "1:32: training_config.std_scaling = 1e–4 is not a number: write 1e-4",
        ),
        (
            "training_config { std_scaling: ０．５ }",
            "1:32: training_config.std_scaling = ０．５ is not a number: write 0.5",
        ),
        (
            "training_config { std_scaling: 0,5 }",
            "1:32: training_config.std_scaling = 0,5 is not a number: write 0.5",
        ),
        (
            "training_config { std_scaling: 50% }",
            "1:32: training_config.std_scaling = 50% is not a number",
        ),
        (
            f"training_config {{ std_scaling: {'1' * 1600}x }}",
            f"1:32: training_config.std_scaling = {'1' * 40}... (1601 characters) is not a number",
        ),
        (
            f"training_config {{ std_scaling: {'1' * 1600} }}",
            f"1:32: training_config.std_scaling = {'1' * 40}... (1600 characters) "
            "is longer than 100 characters",
        ),
        (
            "model_config { freeze_blocks: 0.5 }",
            "1:31: model_config.freeze_blocks[0] = 0.5 is not a whole number from 0 on",
        ),
        (
            "model_config { freeze_blocks: [0, 1,] }",
            "1:36: ',' behind the last value of model_config.freeze_blocks: remove it",
        ),
        (
            'model_config { freeze_blocks: "[0,1]" }',
            '1:31: model_config.freeze_blocks[0] = "[0,1]" is not a whole number from 0 on: '
            "write [0, 1], without quotes",
        ),
        (
            "model_config { freeze_blocks: (0, 1) }",
            "1:31: model_config.freeze_blocks[0] = (0, 1) is no list: write [0, 1]",
        ),
        (
            "model_config { freeze_blocks: 0 1 }",
            "1:31: model_config.freeze_blocks[0] = 0 1 is no list: write [0, 1]",
        ),
        (
            "model_config { freeze_blocks: [0, 1\n use_bias: true }",
            "1:31: the list of model_config.freeze_blocks in line 1 is not closed: a ']' is missing",
        ),
        (
            "training_config { regularizer { type: L3 } }",
            "1:39: training_config.regularizer.type = L3 is not one of NO_REG, L1, L2",
        ),
        (
            "training_config { regularizer { type: l2 } }",
            "1:39: training_config.regularizer.type = l2 is not one of NO_REG, L1, L2; "
            "did you mean 'L2'?",
        ),
        (
            "training_config { regularizer { type: 'L2' } }",
            "1:39: training_config.regularizer.type = 'L2' is not one of NO_REG, L1, L2: "
            "write L2, without quotes",
        ),
        (
            "model_config { arch: resnet:18 }",
            '1:22: model_config.arch = resnet:18 is not text in quotes: write "resnet:18"',
        ),
        (
            "training_config { output_model: /my data/x.tlt\n num_epochs: 3 }",
            "1:33: training_config.output_model = /my data/x.tlt is not text in quotes: "
            'write "/my data/x.tlt"',
        ),
        (
            "model_config { arch: “resnet:18” }",
            '1:22: model_config.arch = “resnet:18” has typographic quotes: write "resnet:18"',
        ),
        (
            'model_config { arch: "resnet:18”\n }',
            '1:22: model_config.arch = "resnet:18” is not closed: a " is missing in this line; '
            "the typographic ” closes nothing",
        ),
        (
            "model_config { arch: 'resnet:18 }",
            "1:22: model_config.arch = 'resnet:18 is not closed: a ' is missing in this line",
        ),
        (
            f'model_config {{ arch: "{"x" * 20_000}" }}',
            f'1:22: model_config.arch = "{"x" * 39}... (20002 characters) '
            "is longer than 10000 characters",
        ),
        ("training_config: 5", "1:1: training_config needs a block { ... }, found 5"),
        ("verbose: { }", "1:10: verbose needs true or false, found a block"),
        ("verbose:: true", "1:9: this ':' is one too many"),
        (
            "verbose：true",
            "1:1: expected a field, found verbose：true; write verbose:true",
        ),
        ("verbose true", "1:9: expected ':' behind verbose, found true"),
        ("verbose = true", "1:9: expected ':' behind verbose, found '='"),
        ("'verbose': true", "1:1: the name of a field is written without quotes: verbose"),
        ("verbose: true // as before", "1:15: comments begin with #, not with //"),
        ("verbose: true /* as\nbefore */", "1:15: comments begin with #, not with /*"),
        ("verbose: true }", "1:15: '}' closes nothing: remove it, or open what it closes"),
        (
            "training_config {",
            "1:1: the block training_config, opened in line 1, is not closed: a '}' is missing",
        ),
        (
            "training_config\n num_epochs: 3 }",
            "1:1: expected '{' behind training_config, found num_epochs",
        ),
    ],
)
def test_a_mistake_is_named_where_it_stands(text: str, sentence: str) -> None:
    assert sentences(text) == [sentence]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "sgd { momentum: 0.9 } }",
            "sgd { momentum: 0.9 }",
            "21:3: the block training_config.optimizer, opened in line 21, is not closed before "
            "learning_rate in line 22: a '}' is missing",
        ),
        (
            "output_image_height: 256 }\n}",
            "output_image_height: 256 }\n",
            "15:1: the block augmentation_config, opened in line 15, is not closed before "
            "training_config in line 18: a '}' is missing",
        ),
        (
            "output_image_height: 256 }",
            "output_image_height: 256",
            "16:3: the block augmentation_config.preprocessing, opened in line 16, is not closed "
            "before the '}' in line 17: a '}' is missing",
        ),
        (
            'value: "car" }',
            'value: "car"',
            "12:3: the block dataset_config.target_class_mapping, opened in line 12, is not closed "
            "before validation_fold in line 13: a '}' is missing",
        ),
        (
            "{ height: 256 width: 320 }\n  }",
            "{\n height: 256 width: 320\n  }",
            "3:5: the block model_config.input_image_config.size_height_width, opened in line 3, is "
            "not closed before the '}' in line 5: a '}' is missing",
        ),
        (
            "sgd { momentum: 0.9 } }",
            "sgd { momentum: 0.9 } } }",
            "21:39: this '}' is one too many: learning_rate behind it belongs to the block "
            "training_config",
        ),
    ],
)
def test_a_surplus_or_missing_brace_is_located(old: str, new: str, sentence: str) -> None:
    assert old in FASTER
    text = FASTER.replace(old, new, 1)
    complaints = sentences(text)
    assert sentence in complaints
    assert len(complaints) == 1 or complaints[1:] == [sentence]


def test_errors_behind_a_broken_entry_are_reported_too() -> None:
    text = "verbos: true\nrandom_seed 42\nmodel_config {\n  arch: resnet\n  use_bia: 1\n"
    assert [sentence.split(":")[0] for sentence in sentences(text)] == ["1", "2", "3", "4", "5"]


def test_items_are_counted_as_they_stand() -> None:
    assert sentences('training_config { model_parallelism: "2" model_parallelism: "1" }') == [
        '1:38: training_config.model_parallelism[0] = "2" is not a number: write 2',
        '1:61: training_config.model_parallelism[1] = "1" is not a number: write 1',
    ]


def test_there_is_an_end_to_errors() -> None:
    complaints = sentences("zzz: 1\n" * 5000)
    assert len(complaints) == 101
    assert complaints[-1] == "100:2: only the first 100 errors are shown"


def test_a_value_may_stand_in_the_next_line() -> None:
    assert values_of("random_seed:\n  3\nenc_key:\n 'a'\n 'b'") == {
        "random_seed": 3,
        "enc_key": "ab",
    }


def test_a_map_entry_without_value_is_an_error() -> None:
    text = "dataset_config { target_class_mapping { key: 'car' } }"
    sentence = "dataset_config.target_class_mapping has an entry without key or value"
    assert sentences(text) == [f"1:41: {sentence}"]


def test_of_scalars_the_last_one_counts() -> None:
    text = "verbose: true\nverbose: false"
    assert values_of(text) == {"verbose": False}
    assert warnings(text) == [
        "2:1: verbose is given twice, in lines 1 and 2: of its values the last counts"
    ]


def test_blocks_merge() -> None:
    text = "model_config { use_bias: true arch: 'a' }\nmodel_config { arch: 'b' }"
    assert values_of(text) == {"model_config": {"use_bias": True, "arch": "b"}}
    assert warnings(text) == [
        "2:1: model_config is given twice, in lines 1 and 2: both are read, of each field the last "
        "counts"
    ]


@pytest.mark.parametrize("value", ["car", "auto"])
def test_of_the_entries_of_a_key_the_last_one_counts(value: str) -> None:
    entry = "  target_class_mapping {{ key: 'car' value: '{}' }}\n"
    text = f"dataset_config {{\n{entry.format('car')}{entry.format(value)}}}"
    assert values_of(text) == {"dataset_config": {"target_class_mapping": {"car": value}}}
    assert warnings(text) == [
        "3:31: the key 'car' of dataset_config.target_class_mapping is given twice, in lines 2 and "
        "3: the last counts"
    ]


def test_of_fields_that_exclude_each_other_the_last_one_counts() -> None:
    text = "training_config { optimizer {\n sgd { }\n adam { } } }"
    assert values_of(text) == {"training_config": {"optimizer": {"adam": {}}}}
    path = "training_config.optimizer"
    assert warnings(text) == [
        f"3:2: {path}.sgd and {path}.adam exclude each other, in lines 2 and 3: the last counts"
    ]


def test_an_alias_and_its_field_are_the_same_field() -> None:
    text = "evaluation_config { use_voc_11_point_metric: true use_voc07_11point_metric: false }"
    assert values_of(text) == {"evaluation_config": {"use_voc07_11point_metric": False}}
    assert "use_voc07_11point_metric is given twice, in line 1" in warnings(text)[0]


def test_warnings_come_with_the_file_in_the_order_of_its_lines() -> None:
    text = FASTER.replace("arch:", "use_bias: true use_bias: false arch:") + "model_config { }"
    positions = [warning.split(" ")[0] for warning in parse_spec(text, "a.txt").warnings]
    assert positions == ["a.txt:5:18:", "a.txt:24:1:"]


def test_positions_are_those_of_the_names() -> None:
    text = (
        "model_config {\n  anchor_box_config {\n    scale: 1\n    scale: [2, 3]\n  }\n"
        "  input_image_config { image_channel_mean { key: 'r' value: 1 } }\n}\n"
    )
    positions = scanned(text).positions
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
        "anchor_box_config { scale: 8 }, anchor_box_config { scale: 16 }",
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
        values = values_of(f"training_config {{ regularizer {{ type: {written} }} }}")
        assert values == {"training_config": {"regularizer": {"type": "L2"}}}
