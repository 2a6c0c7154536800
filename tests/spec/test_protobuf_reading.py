"""What protobuf's own parser accepts is read alike."""

from pathlib import Path

import pytest
from google.protobuf import text_format

from rcnn_jax.spec.kinds import kind_of
from rcnn_jax.spec.text.tokens import tokenize, top_level_names
from tests.spec.mutants import CONFIGS, SPECS
from tests.spec.protobuf_reading import protobuf_values
from tests.spec.samples import scanned, values_of

GENERATIONS = Path(__file__).parent / "generations"
FILES = [*sorted(CONFIGS.rglob("*.txt")), *sorted(GENERATIONS.glob("*.txt"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_spec_is_read_as_protobuf_reads_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    kind = kind_of(top_level_names(tokenize(text)))
    assert kind is not None
    assert values_of(text, kind) == protobuf_values(text, kind)


@pytest.mark.parametrize(
    "text",
    [
        "random_seed: 1 random_seed: 2",
        "model_config { use_bias: true } model_config { use_bias: false arch: 'x' }",
        "training_config { optimizer { sgd { lr: 1 } adam { } sgd { decay: 1 } } }",
        "training_config { optimizer { sgd { } } optimizer { adam { } } }",
        "training_config { optimizer { sgd { lr: 1 } } optimizer { sgd { decay: 1 } } }",
        "dataset_config { target_class_mapping { key: 'a' value: 'b' value: 'c' } }",
        "dataset_config { target_class_mapping [{ key: 'a' value: 'b' }, { key: 'a' value: 'd' }] }",
        "dataset_config { data_sources [{ }, { source_weight: 2 }] data_sources { } }",
        "model_config { freeze_blocks: [] freeze_blocks: [1, 2], freeze_blocks: 3; }",
        "training_config { std_scaling: .5f rpn_min_overlap: 1.e-1 rpn_max_overlap: -0 }",
        "random_seed: 0x1F verbose: t enc_key: 'a' \"b\" 'c'",
        "model_config < anchor_box_config: < scale: 1 > >",
        "enc_key: '\\x41\\101\\u00e9\\U0001f600\\'\\\"\\\\'",
        "evaluation_config { gt_matching_iou_threshold: 0.5 gt_matching_iou_threshold_range { } }",
    ],
)
def test_odd_ways_to_write_are_read_as_protobuf_reads_them(text: str) -> None:
    assert values_of(text) == protobuf_values(text, "faster_rcnn")


def test_mutants_that_both_accept_mean_the_same() -> None:
    """Protobuf accepts some texts that are refused here, such as octal numbers, and no others."""
    both = 0
    for number in range(400):
        text = SPECS.case(3, number).data.decode()
        kind = kind_of(top_level_names(tokenize(text)))
        if kind is None:
            continue
        try:
            expected = protobuf_values(text, kind)
        except (text_format.ParseError, ValueError):
            continue
        scan = scanned(text, kind)
        if not scan.problems:
            assert scan.values == expected, text
            both += 1
    assert both > 20
