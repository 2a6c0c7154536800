"""Remarks about valid specs, and the absence of those that help nobody."""

from pathlib import Path

import pytest

from rcnn_jax.spec import parse_spec
from rcnn_jax.spec.explain import all_fields
from rcnn_jax.spec.notes import is_true_though_absent
from tests.spec.samples import CONVERT, FASTER, MASK

SAID = 'image_size: "(256, 320)" augment_input_data: true skip_crowd_during_training: true'
QUIET_MASK = MASK.replace('image_size: "(256, 320)"', SAID).replace(
    "nlayers: 18", "nlayers: 18 include_mask: true"
)


def notes(text: str) -> list[str]:
    return parse_spec(text).notes


def test_a_plain_spec_has_no_notes() -> None:
    assert notes(FASTER) == notes(QUIET_MASK) == notes(CONVERT) == []


@pytest.mark.parametrize(
    ("text", "addition"),
    [
        (FASTER, "verbose: true"),
        (CONVERT, 'image_directory_path: "/x" target_class_mapping { key: "a" value: "b" }'),
        (QUIET_MASK, "report_frequency: 10 save_checkpoints_steps: 100 use_xla: true"),
    ],
)
def test_fields_that_the_original_ignores_too_are_not_mentioned(text: str, addition: str) -> None:
    assert notes(text + addition) == []


def test_the_rate_of_an_optimizer_is_not_mentioned() -> None:
    assert notes(FASTER.replace("momentum: 0.9", "momentum: 0.9 lr: 0.1")) == []


def test_a_value_that_asks_for_what_happens_anyway_is_not_mentioned() -> None:
    quiet = "sampling_mode: USER_DEFINED dataloader_mode: MULTISOURCE"
    assert notes(FASTER.replace("validation_fold: 0", f"validation_fold: 0 {quiet}")) == []
    off = "visualizer { wandb_config { enabled: false project: 'p' } }"
    assert notes(FASTER.replace("training_config {", f"training_config {{ {off}")) == []


def test_notes_come_in_the_order_of_the_lines() -> None:
    first = "evaluation_config { labels_dump_dir: 'x' }\nenc_key: ''\n"
    last = "inference_config { nms_score_bits: 3 }\n"
    positions = [note.partition(" ")[0] for note in notes(first + FASTER + last)]
    assert positions == [
        "evaluation_config.labels_dump_dir",
        "enc_key",
        "inference_config.nms_score_bits",
    ]


def test_an_empty_key_is_mentioned() -> None:
    assert notes(f"enc_key: ''\n{FASTER}") == [
        "enc_key is empty: files are written unencrypted unless -k or RCNN_JAX_KEY gives a key"
    ]


def test_absent_booleans_that_are_true_are_reported_where_they_matter() -> None:
    assert notes(MASK) == [
        "maskrcnn_config.include_mask is not given: true, as the documentation recommends",
        "data_config.augment_input_data is not given: true, as the documentation recommends",
        "data_config.skip_crowd_during_training is not given: true, as the documentation recommends",
    ]
    assert parse_spec(MASK, task="evaluate").notes == []


def test_absent_booleans_are_false_or_have_a_row_in_the_differences() -> None:
    """The original read every absent boolean as false."""
    page = (Path(__file__).parents[2] / "docs" / "tao_differences.md").read_text(encoding="utf-8")
    exceptions = [path for _, path, field in all_fields() if is_true_though_absent(field)]
    assert len(exceptions) == 3
    for path in exceptions:
        assert f"`{path.rpartition('.')[2]}`" in page
