"""From files to configs: defaults, presence, errors together, notes, overrides."""

from pathlib import Path

import pytest
from ml_collections import ConfigDict

from rcnn_jax.errors import SpecError
from rcnn_jax.spec import load_spec, parse_spec, validate
from tests.spec.samples import CONVERT, FASTER, MASK, SAMPLES


def complaints(text: str, kind: str | None = None) -> list[str]:
    with pytest.raises(SpecError) as error:
        parse_spec(text, "spec.txt", kind)  # type: ignore[arg-type]
    return str(error.value).split("\n")


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_kind_is_detected_from_the_fields(kind: str) -> None:
    assert parse_spec(SAMPLES[kind]).kind == kind


def test_the_error_for_a_spec_of_no_kind_names_the_flag() -> None:
    (line,) = complaints("foo: 1")
    assert line == (
        "spec.txt: cannot tell what this spec describes from its top-level fields (foo): "
        "say --kind faster_rcnn|mask_rcnn|dataset_convert"
    )


def test_absent_scalars_have_the_documented_default() -> None:
    config = parse_spec(FASTER).config
    assert config.training_config.num_epochs == 12
    assert config.training_config.optimizer.sgd.nesterov is False
    assert config.model_config.anchor_box_config.scale == (64.0, 128.0, 256.0)
    assert config.inference_config.object_confidence_thres == 1e-4


def test_absent_scalars_without_default_are_typed_placeholders() -> None:
    config = parse_spec(FASTER).config
    assert config.enc_key is None
    with pytest.raises(TypeError):
        config.enc_key = 5
    config.enc_key = "key"
    assert config.enc_key == "key"


def test_presence_of_a_block_is_its_entry_enabled() -> None:
    training = parse_spec(FASTER).config.training_config
    assert training.optimizer.sgd.enabled
    assert not training.optimizer.adam.enabled
    assert not training.early_stopping.enabled
    empty = FASTER.replace("sgd { momentum: 0.9 }", "adam { }")
    assert parse_spec(empty).config.training_config.optimizer.adam.enabled


def test_explicit_zero_is_not_absence() -> None:
    text = FASTER.replace("momentum: 0.9", "momentum: 0").replace(
        "validation_fold: 0", "validation_fold: 0 image_extension: 'jpg'"
    )
    config = parse_spec(text).config
    assert config.training_config.optimizer.sgd.momentum == 0.0
    assert config.dataset_config.validation_fold == 0
    without = parse_spec(FASTER.replace("validation_fold: 0", "")).config
    assert without.dataset_config.validation_fold is None


def test_numbers_stay_exactly_what_was_written() -> None:
    assert parse_spec(FASTER).config.training_config.rpn_max_overlap == 0.7


def test_repeated_messages_are_lists_of_locked_configs() -> None:
    sources = parse_spec(FASTER).config.dataset_config.data_sources
    assert isinstance(sources, list)
    assert isinstance(sources[0], ConfigDict)
    with pytest.raises(AttributeError, match="locked"):
        sources[0].tfrecord_path = "x"


def test_the_config_is_locked_throughout() -> None:
    config = parse_spec(FASTER).config
    for part in (config, config.training_config, config.training_config.optimizer.sgd):
        assert part.is_locked


def test_literals_are_stored_parsed() -> None:
    config = parse_spec(MASK).config
    assert config.data_config.image_size == (256, 320)
    assert config.maskrcnn_config.aspect_ratios == ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))
    assert config.learning_rate_steps == (60000, 80000, 100000)


def test_an_alias_is_stored_under_the_first_name() -> None:
    text = MASK.replace("nlayers: 18", "nlayers: 18 test_rpn_nms_threshold: 0.6")
    assert parse_spec(text).config.maskrcnn_config.test_rpn_nms_thresh == 0.6


def test_a_range_is_cited_with_file_line_and_column() -> None:
    assert complaints(FASTER.replace("rpn_max_overlap: 0.7", "rpn_max_overlap: 1.7")) == [
        "spec.txt:20:3: training_config.rpn_max_overlap = 1.7 is not in (0, 1]"
    ]


def test_all_errors_come_together_in_the_order_of_the_text() -> None:
    text = (
        FASTER.replace("height: 256 width", "height: 100 width")
        .replace('"resnet:18"', '"resnet:19"')
        .replace("momentum: 0.9", "momentum: 1.5")
        .replace("rpn_min_overlap: 0.3", "rpn_min_overlap: 0.8")
    )
    lines = complaints(text)
    assert [line.split(" ")[0] for line in lines] == [
        f"spec.txt:{position}:" for position in ("3:25", "5:3", "16:43", "19:3", "21:21")
    ]
    assert "= 100 is below 128 pixels (allow_small: true accepts less)" in lines[0]
    assert lines[1].endswith("; did you mean 'resnet:18'?")
    assert lines[2].endswith("output_image_height = 256 is not the model's height 100")
    assert lines[3].endswith("= 0.8 is not below rpn_max_overlap = 0.7")
    assert lines[4].endswith("momentum = 1.5 is not in [0, 1)")


def test_ranges_are_checked_even_when_the_form_has_errors() -> None:
    text = FASTER.replace("momentum: 0.9", "momentun: 0.9").replace("0.02", "-0.02")
    lines = complaints(text)
    assert lines[0].endswith("did you mean 'momentum'?")
    assert lines[1].endswith("learning_rate.soft_start.base_lr = -0.02 is not in (0, inf)")
    assert len(lines) == 2


def test_a_literal_error_does_not_hide_the_others() -> None:
    text = MASK.replace('"(256, 320)"', '"(256, x)"').replace("nlayers: 18", "nlayers: 19")
    assert complaints(text) == [
        'spec.txt:3:3: data_config.image_size = "(256, x)" is not a tuple of 2 x whole number: '
        "no number at character 7",
        "spec.txt:7:3: maskrcnn_config.nlayers = 19 is not one of 10, 18, 34, 50, 101",
    ]


def test_what_is_absent_is_cited_with_its_block() -> None:
    text = FASTER.replace("optimizer { sgd { momentum: 0.9 } }", "optimizer { }")
    assert complaints(text) == [
        "spec.txt:21:3: training_config.optimizer needs one of sgd, adam, rmsprop, adamw"
    ]


def test_fields_without_effect_are_noted_once() -> None:
    text = FASTER + "inference_config { nms_score_bits: 5 }\n"
    assert parse_spec(text).notes == [
        "inference_config.nms_score_bits has no effect: "
        "exported graphs hold no plugin; scores keep all their bits",
    ]


def test_a_spec_without_such_fields_has_no_notes() -> None:
    assert parse_spec(FASTER).notes == []


def test_positions_serve_later_messages() -> None:
    spec = parse_spec(FASTER, "a.txt")
    path = "dataset_config.data_sources[0].tfrecords_path"
    assert spec.at(path) == f"a.txt:9:5: {path}"
    assert spec.at("training_config.num_epochs") == "a.txt:18:1: training_config.num_epochs"
    assert spec.at("verbose") == "a.txt: verbose"


def test_a_missing_file_is_a_spec_error(tmp_path: Path) -> None:
    path = tmp_path / "none.txt"
    with pytest.raises(SpecError) as error:
        load_spec(path)
    assert str(error.value) == f"{path}: there is no such spec file"


def test_a_file_that_is_no_text_is_a_spec_error(tmp_path: Path) -> None:
    path = tmp_path / "model.tlt"
    path.write_bytes(b"abc\xff\xfe")
    with pytest.raises(SpecError, match=r"is not UTF-8 text \(byte 3 is 0xff\)"):
        load_spec(path)
    with pytest.raises(SpecError, match="expected a spec file, found a folder"):
        load_spec(tmp_path)


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "spec.txt"
    path.write_text(MASK, encoding="utf-8-sig")
    assert load_spec(path).config == parse_spec(MASK).config


def test_an_override_is_checked_again_and_cited_as_config() -> None:
    config = parse_spec(FASTER).config
    validate(config, "faster_rcnn")
    config.training_config.rpn_max_overlap = 0.2
    config.training_config.num_epochs = 0
    with pytest.raises(SpecError) as error:
        validate(config, "faster_rcnn")
    assert str(error.value).split("\n") == [
        "config.training_config.num_epochs = 0 is not in [1, inf)",
        "config.training_config.rpn_min_overlap = 0.3 is not below rpn_max_overlap = 0.2",
    ]


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("training_config.num_epochs", None, "has no value"),
        ("training_config.num_epochs", True, "= True is not a whole number from 0 on"),
        ("training_config.num_epochs", -1, "= -1 is not in [0, 4294967295]"),
        ("training_config.std_scaling", float("nan"), "= nan is not a finite number"),
        ("training_config.optimizer.adam.enabled", True, "exclude each other"),
        ("training_config.regularizer.type", "L3", "= 'L3' is not one of NO_REG, L1, L2"),
        ("model_config.anchor_box_config.scale", (), "must be given"),
        ("model_config.anchor_box_config.scale", ("a",), "scale[0] = 'a' is not a number"),
        ("model_config.input_image_config.image_channel_mean.r", 300.0, "is not in (0, 255)"),
    ],
)
def test_every_override_is_checked(path: str, value: object, sentence: str) -> None:
    config = parse_spec(FASTER).config
    parent, _, name = path.rpartition(".")
    config[parent][name] = value
    with pytest.raises(SpecError) as error:
        validate(config, "faster_rcnn")
    assert str(error.value).startswith(f"config.{parent.removesuffix('.adam')}")
    assert sentence in str(error.value)


def test_an_overridden_literal_is_checked() -> None:
    config = parse_spec(MASK).config
    config.data_config.image_size = (256,)
    with pytest.raises(SpecError) as error:
        validate(config, "mask_rcnn")
    assert str(error.value) == (
        "config.data_config.image_size = (256,) is not a tuple of 2 x whole number"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the spec is empty"),
        ("\n \t\n", "the spec is empty"),
        ("# one\n# two\n", "the spec holds nothing but comments"),
        (
            '{"total_steps": 3}',
            "this is JSON; a spec is protobuf text: `name: value`, blocks in { }",
        ),
        ("---\ntotal_steps: 3\n", "this is YAML"),
        ("data_config:\n  num_classes: 3\n", "this is YAML"),
        ("[data_config]\nnum_classes = 3\n", "this is TOML"),
        ("import os\ntotal_steps = 3\n", "this is Python"),
        (
            (Path(__file__).parents[2] / "configs/faster_rcnn/tiny.py").read_text(),
            "this is Python, which `python -m rcnn_jax.main --config=FILE` runs; a spec is",
        ),
        ("\n<!DOCTYPE html>\n<html>", "this is a web page"),
        (f"```\n{MASK}```", "this is Markdown"),
        (f"{MASK}<<<<<<< HEAD\n", "this is a text with an unfinished merge"),
        (
            MASK.replace("\n", "\n\0"),
            ":2: the file holds zero bytes: it is no text, or it is UTF-16",
        ),
        ("x" * 300_000, "the spec is longer than 262144 characters: is it one?"),
        (
            "dataset_config { } cost_function_config { } postprocessing_config { }",
            "this is a spec of detectnet_v2",
        ),
        ("yolov4_config { }", "this is a spec of yolo_v4"),
    ],
)
def test_what_is_no_spec_is_called_what_it_is(text: str, sentence: str) -> None:
    (line,) = complaints(text)
    assert sentence in line


@pytest.mark.parametrize("ending", ["\r", "\r\n"])
def test_lines_may_end_as_anywhere(ending: str) -> None:
    text = f"# one\n{FASTER}".replace("\n", ending)
    assert parse_spec(text).at("training_config") == "spec:19:1: training_config"


def test_a_spec_of_another_kind_is_named_in_one_line() -> None:
    assert complaints(MASK, "faster_rcnn") == [
        "spec.txt: this is a mask_rcnn spec (data_config, maskrcnn_config, total_steps), and a "
        "faster_rcnn spec is needed here"
    ]
    assert "this is a dataset_convert spec (kitti_config)" in complaints(CONVERT, "mask_rcnn")[0]


def test_a_canvas_has_a_size_that_can_be() -> None:
    text = FASTER.replace("256", "4294967295")
    assert "height = 4294967295 is above 16384 pixels" in complaints(text)[0]
    text = MASK.replace('"(256, 320)"', '"(-64, 65536)" allow_small: true')
    assert [line.rpartition(": ")[2] for line in complaints(text)] == [
        "-64 is not above 0",
        "65536 is above 16384 pixels",
    ]


def test_the_error_for_a_path_of_windows_shows_its_spelling() -> None:
    (first, second) = complaints(
        FASTER.replace("records/*", r"C:\new").replace('"images"', r'"C:\data"')
    )
    assert first.endswith(
        r"= 'C:\new' holds the control character \n: a backslash is written \\, or as /"
    )
    assert second.endswith(
        r'= "C:\data" has a backslash that begins no escape; write two for one, or /'
    )


def test_labels_are_shown_without_their_escapes() -> None:
    text = FASTER.replace('key: "Car"', r'key: "\033[31mCar"').replace(
        'value: "car"', r'value: "\007"'
    )
    (line,) = complaints(text)
    assert r"target_class_mapping.\x1b[31mCar = '\x07' holds the control character" in line


def test_a_name_with_escapes_is_shown_without_them(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[31m\nb"
    with pytest.raises(SpecError) as error:
        parse_spec("foo: 1", str(path))
    assert str(error.value).startswith(rf"{tmp_path}/a\x1b[31m\nb: cannot tell")


def test_no_rule_shows_raw_escapes() -> None:
    mean = r'image_channel_mean { key: "\033[31mg" value: 1 }'
    (line,) = complaints(FASTER.replace("size_height_width", f"{mean} size_height_width"))
    assert r"image_channel_mean has the keys \x1b[31mg; image_type RGB needs" in line
    config = parse_spec(FASTER).config
    with config.unlocked():
        config.dataset_config.target_class_mapping["\x1b[31m"] = 3
    with pytest.raises(SpecError) as error:
        validate(config, "faster_rcnn")
    assert str(error.value).startswith(r"config.dataset_config.target_class_mapping.\x1b[31m = 3")
