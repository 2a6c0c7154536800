"""Specs of TLT 2.0: detected, read with their lines, written as today."""

from pathlib import Path

import pytest

from rcnn_jax.errors import SpecError
from rcnn_jax.spec import load_spec, parse_spec, redact, render
from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.schema import Message, walk
from rcnn_jax.spec.upgrade import MOVES, OLD_EXPERIMENT

OLD = Path(__file__).with_name("tlt_2_0_faster_rcnn.txt")
TEXT = OLD.read_text()


def old(text: str = TEXT):
    return parse_spec(text, "old.txt", upgrades=True)


@pytest.mark.parametrize("kind", [None, "faster_rcnn"])
def test_the_error_for_an_old_spec_names_the_command_that_upgrades(kind) -> None:
    with pytest.raises(SpecError) as error:
        load_spec(OLD, kind)
    assert str(error.value) == (
        f"{OLD}: this is a TLT 2.0 spec: `rcnn-jax spec translate {OLD} -o NEW.txt` writes it in "
        "today's form"
    )


@pytest.mark.parametrize(
    "mark",
    ["network_config", "kitti_data_config", "data_augmentation", "reg_config", "lr_scheduler"],
)
def test_one_old_block_tells_an_old_spec(mark: str) -> None:
    text = f"{mark} {{ }}" if mark == "network_config" else f"training_config {{ {mark} {{ }} }}"
    with pytest.raises(SpecError, match="this is a TLT 2.0 spec"):
        parse_spec(text, kind="faster_rcnn")


def test_every_field_goes_where_it_is_today() -> None:
    spec = old()
    config = spec.config
    assert config.random_seed == 7
    assert config.model_config.arch == "resnet:34"
    assert config.model_config.use_bias is False
    assert config.model_config.anchor_box_config.ratio == (1.0, 0.4)
    assert config.model_config.input_image_config.size_height_width.width == 512
    assert config.dataset_config.data_sources[0].tfrecords_path == "/floor/records/train*"
    assert dict(config.dataset_config.target_class_mapping) == {"forklift": "lift", "cart": "cart"}
    assert config.dataset_config.validation_fold == 1
    assert config.augmentation_config.spatial_augmentation.zoom_max == 1.1
    assert config.training_config.num_epochs == 20
    assert config.training_config.regularizer.to_dict() == {"type": "L1", "weight": 2e-5}
    assert config.training_config.optimizer.adam.enabled
    assert config.training_config.learning_rate.step.enabled
    assert config.training_config.learning_rate.step.gamma == 0.8
    assert config.inference_config.bbox_visualize_threshold == 0.55
    assert config.inference_config.trt_inference.trt_engine == "/floor/lifts.engine"
    assert config.evaluation_config.object_confidence_thres == 2e-4
    assert spec.dropped == []
    assert any("evaluation_config.labels_dump_dir" in note for note in spec.notes)


def test_the_upgraded_text_is_a_sound_spec_of_today() -> None:
    config = redact(old().config)
    again = parse_spec(render(config, "faster_rcnn"), "new.txt")
    assert redact(again.config).to_dict() | {"enc_key": "<redacted>"} == config.to_dict()
    assert again.warnings == []


def test_the_positions_are_those_of_the_old_text() -> None:
    spec = old()
    line = TEXT[: TEXT.index("weight_decay")].count("\n") + 1
    assert spec.at("training_config.regularizer.weight").startswith(f"old.txt:{line}:5: ")
    line = TEXT[: TEXT.index("/floor/records")].count("\n") + 1
    path = "dataset_config.data_sources[0].tfrecords_path"
    assert spec.at(path) == f"old.txt:{line}:7: {path}"


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("feature_extractor:", "feature_extracter:", "did you mean 'feature_extractor'?"),
        (
            "gamma: 0.8",
            "gamma: 8",
            "training_config.learning_rate.step.gamma = 8.0 is not in [0, 1]",
        ),
        (
            "reg_type: 'L1'",
            "reg_type: 'L3'",
            "training_config.regularizer.type = 'L3' is not one of",
        ),
        ("num_epochs: 20", "num_epochs: x", "training_config.num_epochs = x is not a whole number"),
    ],
)
def test_errors_in_an_old_spec_are_reported(before: str, after: str, sentence: str) -> None:
    assert before in TEXT
    with pytest.raises(SpecError) as error:
        old(TEXT.replace(before, after))
    line = TEXT[: TEXT.index(before)].count("\n") + 1
    assert str(error.value).startswith(f"old.txt:{line}:")
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("reg_type", "kind"), [("L2", "L2"), ("l2", "L2"), ("None", "NO_REG"), ("NO_REG", "NO_REG")]
)
def test_the_kind_of_regularizer_was_a_text(reg_type: str, kind: str) -> None:
    config = old(TEXT.replace("reg_type: 'L1'", f"reg_type: '{reg_type}'")).config
    assert config.training_config.regularizer.type == kind


def test_shared_bias_was_the_opposite_of_use_bias_and_false_when_absent() -> None:
    assert old(TEXT.replace("share_bias: True", "share_bias: False")).config.model_config.use_bias
    spec = old(TEXT.replace("conv_bn_share_bias: True", ""))
    assert spec.config.model_config.use_bias
    assert spec.dropped == [
        "network_config.conv_bn_share_bias is not given, which was false: model_config.use_bias is true"
    ]


def test_of_an_old_field_and_its_new_one_one_is_taken_and_the_other_named() -> None:
    both = 'feature_extractor: "resnet:34" arch: "resnet:18"'
    spec = old(TEXT.replace('feature_extractor: "resnet:34"', both))
    assert spec.config.model_config.arch == "resnet:34"
    assert spec.dropped == ["network_config.arch is left out: model_config.arch is given too"]
    spec = old(TEXT.replace("rpn_mini_batch: 200", "rpn_mini_batch: 200 rpn_train_bs: 100"))
    assert spec.config.training_config.rpn_mini_batch == 200
    assert spec.dropped == [
        "training_config.rpn_train_bs is left out: training_config.rpn_mini_batch is given too"
    ]


def test_every_move_begins_at_an_old_field_and_ends_at_a_new_one() -> None:
    assert {move.old for move in MOVES} <= paths(OLD_EXPERIMENT)
    assert {move.new for move in MOVES} <= paths(TABLES["faster_rcnn"])


def paths(table: Message) -> set[str]:
    return {path for path, _ in walk(table)}


def test_a_spec_of_today_is_no_old_one() -> None:
    spec = parse_spec(render(old().config, "faster_rcnn"), "new.txt", upgrades=True)
    assert spec.dropped == []
