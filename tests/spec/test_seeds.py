"""The sample specs of the two documents this project answers to load unchanged."""

from pathlib import Path

import pytest

from rcnn_jax.spec import parse_spec, render

SEEDS = Path(__file__).parents[2].parent / "shared" / "seeds"


def sample(number: str, first: str, behind: str) -> str:
    """The sample spec of a document, between its first words and what follows it."""
    files = sorted(SEEDS.glob(f"{number}_*.txt"))
    if not files:
        pytest.skip("the documents are read from shared/seeds next to the clone, which is absent")
    text = files[0].read_text(encoding="utf-8")
    start = text.index(first)
    return text[start : text.index(behind, start)]


def test_the_faster_rcnn_sample_loads() -> None:
    spec = parse_spec(sample("001", "random_seed: 42", "Parameter |"))
    config = spec.config
    assert spec.kind == "faster_rcnn"
    assert config.enc_key == "nvidia_tlt"
    assert config.model_config.freeze_blocks == (0, 1)
    assert config.model_config.input_image_config.size_height_width.width == 1248
    assert config.training_config.output_model.endswith("frcnn_kitti_resnet18_retrain.tlt")
    assert config.training_config.regularizer.to_dict() == {"type": "L2", "weight": 1e-4}
    assert config.dataset_config.target_class_mapping["person_sitting"] == "person"
    assert config.dataset_config.validation_fold == 0
    assert spec.notes == []
    assert parse_spec(render(config, spec.kind)).config == config


def test_the_mask_rcnn_sample_loads() -> None:
    spec = parse_spec(sample("000", "seed: 123", "| Field"))
    config = spec.config
    assert spec.kind == "mask_rcnn"
    assert config.data_config.image_size == (832, 1344)
    assert config.maskrcnn_config.freeze_blocks == (0, 1)
    assert config.learning_rate_decay_levels == (0.1, 0.02, 0.002)
    assert config.pruned_model_path is None
    assert spec.notes == []
    assert parse_spec(render(config, spec.kind)).config == config


def test_the_defaults_of_mask_rcnn_are_those_of_the_sample() -> None:
    given = parse_spec(sample("000", "seed: 123", "| Field")).config.maskrcnn_config
    silent = parse_spec("total_steps: 1 data_config { num_classes: 2 }", kind="mask_rcnn").config
    differing = {name for name in given if given[name] != silent.maskrcnn_config[name]}
    # The table recommends False for freeze_bn, and nothing is frozen unless it is asked for.
    assert differing == {"freeze_bn", "freeze_blocks"}
