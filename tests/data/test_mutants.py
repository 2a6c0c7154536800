"""Damaged annotations, records and images give one message each, or are read as what they are."""

from tests.data.coco_mutants import COCO
from tests.data.image_mutants import IMAGES
from tests.data.record_mutants import RECORDS
from tests.fuzz.outcome import failures, outcome_of


def test_damaged_annotation_files_give_one_message_each(tmp_path):
    assert failures(COCO, 1, 150, tmp_path) == []


def test_damaged_records_give_one_message_each(tmp_path):
    assert failures(RECORDS, 2, 400, tmp_path) == []


def test_damaged_images_are_decoded_or_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("RCNN_JAX_MAX_PIXELS", str(1 << 22))  # quick, and the limit is met
    assert failures(IMAGES, 1, 1500, tmp_path) == []
    outcomes = [outcome_of(IMAGES, IMAGES.case(1, number), tmp_path).kind for number in range(300)]
    assert 30 < outcomes.count("read") < 270
