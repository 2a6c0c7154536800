"""Average precision before and after an export, on a part of the validation images."""

from types import SimpleNamespace

import numpy as np
import pytest

from rcnn_jax.data.sources.masks import CocoFolder
from rcnn_jax.errors import DataError
from rcnn_jax.export.verification.accuracy import Accuracy, Subset, validation_images
from tests.data.sources.test_first_images import source  # noqa: F401


def test_only_gated_metrics_that_measure_something_lose():
    accuracy = Accuracy(
        images=9,
        model={"AP": 0.5, "AP50": -1.0, "mAP": float("nan"), "APs": 0.4, "mask_AP": 0.2},
        graph={"AP": 0.4, "AP50": 0.0, "mAP": 0.3, "APs": 0.0, "mask_AP": 0.3},
    )
    assert accuracy.losses() == pytest.approx({"AP": 0.1, "mask_AP": -0.1})
    assert accuracy.to_json()["model"]["mAP"] is None, "JSON has no NaN"
    assert accuracy.to_json()["images"] == 9


def test_a_subset_is_a_source_of_the_records_it_names(source):  # noqa: F811
    assert isinstance(source, CocoFolder)
    subset = Subset(source, np.array([2, 0]))
    assert len(subset) == 2 and subset.class_names == source.class_names
    for i, record in enumerate((2, 0)):
        assert subset.name(i) == source.name(record) and subset.size(i) == source.size(record)
        assert subset.source_id(i) == 10 + record and subset.file_name(i) == f"{record}.png"
        assert subset.digest(i) == source.digest(record)
        np.testing.assert_array_equal(subset.image(i, "bgr"), source.image(record, "bgr"))
        np.testing.assert_array_equal(subset.annotation(i).boxes, source.annotation(record).boxes)


class Notes:
    """A reporter that keeps its notes."""

    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


@pytest.mark.parametrize(("count", "records"), [(1, [0]), (2, [0, 2]), (3, [0, 1, 2])])
def test_images_are_spread_over_all_of_them(source, count, records):  # noqa: F811
    experiment, notes = SimpleNamespace(eval_source=lambda: source), Notes()
    subset = validation_images(experiment, count, notes)
    assert [subset.source_id(i) - 10 for i in range(len(subset))] == records
    assert notes.lines == []


def test_more_images_than_there_are_is_noted(source):  # noqa: F811
    experiment, notes = SimpleNamespace(eval_source=lambda: source), Notes()
    assert len(validation_images(experiment, 7, notes)) == 3
    assert notes.lines == ["--eval-images 7: there are 3 validation images, all are used"]


def test_without_validation_data_the_field_is_named():
    experiment = SimpleNamespace(eval_source=None, kind="mask_rcnn")
    with pytest.raises(DataError, match="--eval-images 4: the spec names no validation data: set"):
        validation_images(experiment, 4, Notes())
