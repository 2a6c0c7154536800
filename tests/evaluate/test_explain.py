"""Explanation with the model at hand: it runs again, and what restores AP is named.

The model is a detector of red squares, exact in what it does: its channel order, normalisation and
threshold can be planted without training anything.
"""

from dataclasses import replace

import numpy as np
import pytest

from rcnn_jax.evaluate import hypotheses, loop
from rcnn_jax.evaluate.explain import KNOWN_PIXELS, as_if, explain
from rcnn_jax.runtime.bundle import open_bundle
from rcnn_jax.settings.network import PixelSettings
from rcnn_jax.spec.load import parse_spec
from rcnn_jax.tasks.build import build_experiment
from tests.evaluate.red_squares import RedSquares, red_experiment, write_red


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return red_experiment(write_red(tmp_path_factory.mktemp("red")))


def explained(experiment, model):
    source = experiment.eval_source()
    predictor = model.predictor(experiment, experiment.evaluation)
    evaluation = loop.evaluate_images(experiment, predictor, source, lambda items, *_: items)
    return evaluation, explain(experiment, model, source, evaluation, lambda items, *_: items)


def test_a_model_that_fits_its_spec_is_left_alone(experiment):
    pixels = experiment.task.pixels
    evaluation, diagnosis = explained(experiment, RedSquares(pixels, pixels))
    assert evaluation.report.mean_ap == pytest.approx(1.0) and diagnosis is None


def test_swapped_channels_are_named(experiment):
    pixels = experiment.task.pixels

    class Backwards(RedSquares):
        def predictor(self, experiment, test):
            run = RedSquares.predictor(self, experiment, test)
            return lambda images: run(np.asarray(images)[..., ::-1])

    _, diagnosis = explained(experiment, Backwards(pixels, pixels))
    assert diagnosis is not None and diagnosis.best is not None
    assert diagnosis.best.cause.startswith("red and blue are swapped: the model was trained on bgr")
    assert diagnosis.best.ap50 > 0.95


@pytest.mark.parametrize("name", [name for name in KNOWN_PIXELS if name.startswith("rgb")])
def test_another_normalisation_is_named(experiment, name):
    spec = experiment.task.pixels
    if KNOWN_PIXELS[name] == spec:
        pytest.skip("the spec's own")
    _, diagnosis = explained(experiment, RedSquares(KNOWN_PIXELS[name], spec))
    assert diagnosis is not None and diagnosis.best is not None
    assert (
        diagnosis.best.cause
        == f"pixels are normalised otherwise than in training, which was: {name}"
    )


def test_a_threshold_above_all_scores_is_named(experiment):
    pixels = experiment.task.pixels
    strict = replace(experiment.evaluation.detections, score_threshold=0.7)
    experiment = replace(experiment, evaluation=replace(experiment.evaluation, detections=strict))
    evaluation, diagnosis = explained(experiment, RedSquares(pixels, pixels, score=0.6))
    assert evaluation.report.mean_ap == 0.0
    assert diagnosis is not None and diagnosis.best is not None
    assert diagnosis.best.cause == "the threshold of 0.7 is above the scores of the model"


def test_labels_are_looked_at_before_the_model_runs_again(experiment):
    """Boxes of the labels come from the source: on the canvas they were clipped."""
    pixels = experiment.task.pixels
    source = experiment.eval_source()
    rotated = [
        replace(one, boxes=one.boxes[:, [1, 0, 3, 2]])
        for one in (source.annotation(number) for number in range(len(source)))
    ]

    class Swapped:
        def __getattr__(self, name):
            return getattr(source, name)

        def __len__(self):
            return len(source)

        def annotation(self, index):
            return rotated[index]

    _, diagnosis = explained(replace(experiment, eval_source=Swapped), RedSquares(pixels, pixels))
    assert diagnosis is not None and diagnosis.best is not None
    assert diagnosis.best.cause == "x and y of the labels are swapped"


def test_a_model_is_tried_with_the_spec_in_its_file_and_what_differs_is_named(boxes_files):
    text, canvas = boxes_files.spec.read_text(), "size_height_width { height: 96 width: 96 }"
    assert canvas in text
    other = text.replace(canvas, "size_height_width { height: 64 width: 128 }")
    model, causes = open_bundle(boxes_files.model, None), {}
    for name, content in (("own", text), ("other", other)):
        config = parse_spec(content, "spec.txt", "faster_rcnn").config
        _, diagnosis = explained(build_experiment(config, "faster_rcnn"), model)
        # Nobody trained it, so nothing restores its AP, and everything is tried.
        assert diagnosis is not None and diagnosis.best is None
        causes[name] = [trial.cause for trial in diagnosis.trials]
    differs = "the spec is not the one that the model was trained with: it differs in canvas"
    assert differs in causes["other"]
    assert not any(cause.startswith("the spec is not") for cause in causes["own"])


def test_images_become_what_the_other_normalisation_would_have_made_of_them():
    spec = PixelSettings(channel_order="rgb", mean=(127.5,) * 3, std=(127.5,) * 3)
    caffe = next(value for name, value in KNOWN_PIXELS.items() if "Caffe" in name)
    image = np.array([[[[10, 20, 30]]]], np.uint8)
    seen = (as_if(image, spec, caffe) - 127.5) / 127.5
    expected = np.array([30, 20, 10]) - np.array([103.939, 116.779, 123.68])
    np.testing.assert_allclose(seen[0, 0, 0], expected, rtol=1e-4)


def test_no_image_with_objects_means_no_diagnosis():
    assert hypotheses.diagnose([], [], ("a",)) is None
