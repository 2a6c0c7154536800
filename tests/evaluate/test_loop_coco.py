"""Evaluation loop: detections from the canvas to COCO metrics, without a network."""

import json
from pathlib import Path

import numpy as np
import pytest

from rcnn_jax.data.loader import images, mask_crops
from rcnn_jax.errors import DataError
from rcnn_jax.evaluate import loop, results
from rcnn_jax.spec.load import parse_spec
from rcnn_jax.structures import Detections
from rcnn_jax.tasks.build import build_experiment
from tests.e2e.tiny_mask import write_tiny

SIDE = 128  # of the masks: fine enough to give every pixel back
LIMIT = 16
CHANGES = (
    ("(64, 64)", "(192, 128)"),  # the canvas is larger than the images and of another shape
    ("eval_samples: 4", "eval_samples: 100"),
)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    spec = write_tiny(tmp_path_factory.mktemp("truth"), *CHANGES)
    config = parse_spec(spec.read_text(), "spec.txt", "mask_rcnn").config
    return build_experiment(config, "mask_rcnn")


class Oracle:
    """A predictor that gives back the annotations of a source, image by image."""

    def __init__(self, experiment, source):
        self.experiment, self.source, self.next = experiment, source, 0

    def __call__(self, batch):
        outputs = [self._detect(i) for i in range(self.next, self.next + len(batch))]
        self.next += len(batch)
        stacked = {name: np.stack([one[name] for one in outputs]) for name in outputs[0]}
        return Detections(**stacked), None

    def _detect(self, index):
        out = {
            "boxes": np.zeros((LIMIT, 4), np.float32),
            "scores": np.zeros(LIMIT, np.float32),
            "classes": np.zeros(LIMIT, np.int32),
            "valid": np.zeros(LIMIT, bool),
            "masks": np.zeros((LIMIT, SIDE, SIDE), np.float32),
        }
        if index >= len(self.source):
            return out
        truth = self.source.annotation(index)
        placed = images.fit(self.source.size(index), self.experiment.geometry)
        count = len(truth.classes)
        boxes = images.apply_boxes(truth.boxes, placed.matrix)
        out["boxes"][:count], out["classes"][:count] = boxes, truth.classes
        out["scores"][:count], out["valid"][:count] = np.linspace(0.9, 0.5, count), True
        for slot, mask in enumerate(truth.masks):
            out["masks"][slot] = mask_crops.crop_mask(mask, placed.matrix, boxes[slot], SIDE)
        return out


def evaluate(experiment, source):
    oracle = Oracle(experiment, source)
    return loop.evaluate_detector(experiment, oracle, source, lambda items, *_: items)


def test_ground_truth_fed_back_scores_one_for_boxes_and_for_masks(experiment):
    report = evaluate(experiment, experiment.eval_source())
    assert report.images == 3
    for name in ("AP", "AP50", "AP75", "ARmax100", "mask_AP", "mask_AP50", "mask_AP75"):
        assert report.metrics[name] == 1.0, name
    precisions = [
        ap for ap in report.class_ap["mask_AP"].values() if ap != -1
    ]  # -1: no such object
    assert len(precisions) >= 2 and precisions == pytest.approx([1.0] * len(precisions))


def test_a_report_becomes_text_json_and_percentages(experiment, tmp_path):
    report = evaluate(experiment, experiment.eval_source())
    assert "mask_AP: 1.000000000" in results.text(report)
    results.write_report(report, experiment.metrics, tmp_path / "eval", "name")
    written = json.loads((tmp_path / "eval" / "name.json").read_text())
    assert written["metrics"]["mask_AP"] == 1.0
    assert results.kpi(report)["mask_AP"] == 100.0
    assert results.numbers(report)["mask_AP"] == 1.0


class Renamed:
    """A source whose images go by other names or ids."""

    def __init__(self, source, file_name, source_id):
        self._source, self._file_name, self._source_id = source, file_name, source_id

    def __getattr__(self, name):
        return getattr(self._source, name)

    def __len__(self):
        return len(self._source)

    def file_name(self, index):
        return self._file_name(index)

    def source_id(self, index):
        return self._source_id(index)


def test_images_are_matched_by_name_first_then_by_id(experiment):
    source = experiment.eval_source()
    by_name = Renamed(source, lambda i: "elsewhere/" + source.file_name(i), lambda i: 12345)
    assert evaluate(experiment, by_name).metrics["mask_AP"] == 1.0
    by_id = Renamed(source, lambda i: "", source.source_id)
    assert evaluate(experiment, by_id).metrics["mask_AP"] == 1.0


def test_images_that_the_annotations_do_not_know_are_an_error(experiment):
    source = experiment.eval_source()
    unknown = Renamed(source, lambda i: "other.png", lambda i: 777)
    with pytest.raises(DataError) as caught:
        evaluate(experiment, unknown)
    json_file = Path(experiment.metrics.annotations)
    assert str(caught.value) == (
        f"{source.name(0)}: image 777 ('other.png') is not in {json_file}: val_json_file must be "
        "the annotations of the validation images"
    )
