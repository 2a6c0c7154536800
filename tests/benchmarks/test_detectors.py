"""What a flag of a benchmark changes in the specs that it measures."""

from pathlib import Path

from benchmarks.detectors import TRAINED, detectors, prepare
from benchmarks.options import Options

SPECS = Path(__file__).parents[2] / "benchmarks" / "specs"


def model_of(options):
    (detector,) = detectors(options, TRAINED)
    return prepare(detector, options).experiment.task.model


def test_frozen_batch_norm_is_that_of_both_detectors():
    for spec in ("mask_tiny.txt", "resnet50_320.txt"):
        for frozen in (False, True):
            options = Options(spec=str(SPECS / spec), frozen=frozen)
            assert model_of(options).options.freeze_bn is frozen, spec


def test_a_spec_without_masks_is_measured_without(tmp_path):
    text = (SPECS / "mask_tiny.txt").read_text()
    assert "include_mask: true" in text
    path = tmp_path / "boxes.txt"
    path.write_text(text.replace("include_mask: true", "include_mask: false"))
    assert not model_of(Options(spec=str(path))).include_mask
    assert model_of(Options(spec=str(SPECS / "mask_tiny.txt"))).include_mask
