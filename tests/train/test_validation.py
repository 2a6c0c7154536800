"""Validation of a run: the numbers of the evaluate command, its report, and pictures."""

import io
import json

import jax
import numpy as np
import pytest
from rich.console import Console

from rcnn_jax.evaluate import loop, results
from rcnn_jax.reporter import SILENT
from rcnn_jax.runtime import bundle
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.train.validation import Validation
from tests.e2e.tiny import write_tiny
from tests.models.tiny import random_variables


class Screen:
    """A reporter whose console is a text."""

    def __init__(self):
        self.text = io.StringIO()
        self.console = Console(file=self.text, width=200)

    def track(self, items, total, label):
        return items


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    spec = write_tiny(tmp_path_factory.mktemp("data"), images=4)
    return build_experiment(load_spec(spec).config, "faster_rcnn")


@pytest.fixture(scope="module")
def variables(experiment):
    return jax.tree.map(np.asarray, random_variables(experiment.task.model, seed=1))


@pytest.fixture(scope="module")
def outcome(experiment, variables, tmp_path_factory):
    """(metrics, printed text, folder, validation) of step 3."""
    folder, screen = tmp_path_factory.mktemp("run"), Screen()
    validation = Validation(experiment, experiment.eval_source(), folder, screen)
    return validation(variables, 3), screen.text.getvalue(), folder, validation


def test_the_numbers_are_those_of_the_evaluation(experiment, variables, outcome):
    predictor = bundle.jax_predictor(experiment, experiment.evaluation)
    expected = results.numbers(
        loop.evaluate_detector(
            experiment,
            predictor(variables),
            experiment.eval_source(),
            SILENT.track,
        )
    )
    metrics = outcome[0]
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(np.nan_to_num(value), abs=1e-12), name


def test_the_metrics_can_be_compared_and_written_as_json(outcome):
    assert all(np.isfinite(value) for value in outcome[0].values())
    json.dumps(outcome[0])


def test_the_table_is_printed_and_the_report_named_after_the_step(outcome):
    _, text, folder, _ = outcome
    assert "disc" in text and "mAP" in text
    report = json.loads((folder / "eval" / "step-3.json").read_text())
    assert report


def test_pictures_are_the_first_images_with_what_is_above_the_threshold(
    experiment, variables, outcome
):
    validation, drawn = outcome[3], []

    def draw(image, detections, class_names, *, captions, masks):
        drawn.append((image, detections, class_names))
        return image

    assert len([*validation.pictures(variables, 2, draw)]) == 2
    source = experiment.eval_source()
    for index, (image, detections, names) in enumerate(drawn):
        np.testing.assert_array_equal(image, source.image(index, "rgb"))
        assert names == experiment.task.class_names
        assert (detections.scores >= experiment.visualize_threshold).all()
