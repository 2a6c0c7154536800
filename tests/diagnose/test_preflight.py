"""Checks of the preflight: each planted mistake is a no-go that names it."""

from dataclasses import replace

import numpy as np
import pytest

from rcnn_jax.diagnose import preflight
from rcnn_jax.diagnose.edges import Placement
from rcnn_jax.diagnose.preflight import Check, Preflight
from rcnn_jax.evaluate.hypotheses import Diagnosis, Trial
from rcnn_jax.settings.network import PixelSettings
from rcnn_jax.spec.load import parse_spec
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.train import overfit
from tests.e2e.tiny import write_tiny

CAFFE = PixelSettings(channel_order="bgr", mean=(103.939, 116.779, 123.68), std=(1.0,) * 3)


@pytest.mark.parametrize(
    ("scale", "outcome"), [(24.0, "go"), (300.0, "no-go"), (2.0, "no-go"), (40.0, "no-go")]
)
def test_anchors_out_of_range_are_a_no_go(scale, outcome):
    sides = np.random.default_rng(0).uniform(20, 28, (200, 2))
    check = preflight.check_anchors(sides, {4: [(scale, scale)]}, "with scale: 24 it would be 0%")
    assert check.outcome == outcome
    if outcome == "no-go":
        assert check.sentence.startswith("out of range: anchors fit 0% of the objects by size")
        assert check.advice == "with scale: 24 it would be 0%"


def test_small_objects_between_cells_are_a_caution():
    sides = np.full((50, 2), 14.0)
    assert preflight.check_anchors(sides, {16: [(14, 14)]}, "").outcome == "caution"


def test_no_object_is_a_no_go():
    check = preflight.check_anchors(np.zeros((0, 2)), {16: [(16, 16)]}, "")
    assert (check.outcome, check.sentence) == ("no-go", "there is no object to learn from")


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "the mean is on a scale of 0 to 1"),
        ((0.5,) * 3, (1.0,) * 3, "the mean is on a scale of 0 to 1"),
        ((300.0, 116.0, 123.0), (1.0,) * 3, "the mean lies outside of 0 to 255"),
        ((103.9, 116.8, 123.7), (1 / 255,) * 3, "inputs of the network reach 3.85e+04"),
        ((0.0,) * 3, (65025.0,) * 3, "inputs of the network reach 0.00392"),
    ],
)
def test_a_mean_in_the_wrong_scale_is_a_no_go(mean, std, words):
    check = preflight.check_pixels(PixelSettings(channel_order="rgb", mean=mean, std=std))
    assert check.outcome == "no-go" and check.sentence.startswith(words)


@pytest.mark.parametrize(
    ("mean", "std"),
    [((103.9, 116.8, 123.7), (1.0,) * 3), ((127.5,) * 3, (127.5,) * 3), ((0.0,) * 3, (255.0,) * 3)]
    + [((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)), ((0.0,) * 3, (1.0,) * 3)],
)
def test_usual_ways_of_preparing_pixels_are_fine(mean, std):
    pixels = PixelSettings(channel_order="rgb", mean=mean, std=std)
    assert preflight.check_pixels(pixels).outcome == "go"


def test_shifted_labels_are_a_no_go():
    placement = Placement(cause="moved by +5 pixels in x the boxes fit better", gain=0.3, boxes=90)
    check = preflight.check_labels(placement)
    assert check.outcome == "no-go" and "the labels look shifted: moved by +5" in check.sentence
    assert preflight.check_labels(None).outcome == "skipped"


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A tiny network whose batch norm has the statistics of coloured images, as the spec makes them."""
    root = tmp_path_factory.mktemp("tiny")
    text = write_tiny(root, images=4).read_text()
    config = parse_spec(text, "spec.txt", "faster_rcnn").config
    experiment = build_experiment(config, "faster_rcnn")
    experiment, state = overfit.prepare(experiment)
    batch = next(overfit.batches_of(experiment, experiment.train_source(), 2))
    rng = np.random.default_rng(0)
    tint = np.array([30, 120, 230]) + rng.integers(-20, 20, batch.images.shape)
    batch = batch.replace(images=tint.astype(np.uint8))
    return experiment, state, batch, overfit.statistics_function(experiment, state)


def test_statistics_of_a_batch_are_those_that_batch_norm_computes(network):
    """Solved from two updates: whatever they are stored as makes no difference."""
    experiment, state, batch, statistics_of = network
    seen = statistics_of(batch)
    stored = {
        name: {leaf: np.asarray(value) * 3 + 1 for leaf, value in leaves.items()}
        for name, leaves in state.collections["batch_stats"].items()
    }
    other = state.replace(collections={"batch_stats": stored})
    again = overfit.statistics_function(experiment, other)(batch)
    for name, leaves in seen.items():
        for leaf, value in leaves.items():
            np.testing.assert_allclose(value, again[name][leaf], rtol=1e-2, atol=1e-3)
    mean, variance = preflight.first_statistics(seen, ("conv1", "bn_conv1"))
    assert np.isfinite(mean).all() and (variance > 0).all()


def check_with(network, images):
    experiment, state, batch, statistics_of = network
    order = tuple(state.collections["batch_stats"])

    def measure(pixels):
        return preflight.first_statistics(statistics_of(batch.replace(images=pixels)), order)

    stored = measure(batch.images)
    return preflight.check_weights(experiment.task.pixels, images, stored, measure)


def test_a_wrong_channel_order_for_the_weights_is_a_no_go(network):
    batch = network[2]
    assert check_with(network, batch.images).outcome == "go"
    check = check_with(network, np.ascontiguousarray(batch.images[..., ::-1]))
    assert check.outcome == "no-go"
    assert "trained on other pixels: channels in the other order (rgb)" in check.sentence


def test_weights_without_statistics_are_skipped():
    check = preflight.check_weights(CAFFE, np.zeros((1, 2, 2, 3)), None, lambda images: None)
    assert check.outcome == "skipped"


def test_an_exploding_rate_is_a_no_go_with_a_rate_that_works():
    check = preflight.check_rate(5.0, True, 2.0, float("nan"), 7, 0.05)
    assert check.outcome == "no-go"
    assert check.sentence == "the loss explodes at 5: from 2 to not finite in 7 steps"
    assert check.advice.startswith("With 0.05 it falls")
    assert "hundredth" in preflight.check_rate(5.0, True, 2.0, 90.0, 30, None).advice
    assert preflight.check_rate(0.01, False, 2.0, 1.0, 30, None).outcome == "go"


@pytest.mark.parametrize(
    ("last", "steps", "ap50", "outcome"),
    [(0.2, 100, 0.8, "go"), (0.5, 100, 0.1, "caution"), (1.9, 9, 0.0, "caution")]
    + [(1.9, 100, 0.0, "no-go")],
)
def test_images_that_cannot_be_learnt_are_a_no_go(last, steps, ap50, outcome):
    assert preflight.check_overfit(2.0, last, steps, 4, ap50).outcome == outcome


def test_an_explanation_of_the_evaluation_is_a_no_go():
    trial = Trial(cause="x and y of the labels are swapped", advice="Correct it", ap50=0.9)
    diagnosis = Diagnosis(ap50=0.01, agnostic=0.0, images=4, trials=(trial,))
    check = preflight.check_evaluation(diagnosis)
    assert check is not None and check.outcome == "no-go"
    assert "x and y of the labels are swapped" in check.sentence
    assert preflight.check_evaluation(replace(diagnosis, trials=())) is None
    assert preflight.check_evaluation(None) is None


def test_memory_and_time_are_planned_from_a_smaller_step():
    check = preflight.check_memory(2**30, 4, 16, 2**35)
    assert check.sentence == "a step of 16 images takes at most about 4.0 GiB of 32.0 GiB"
    assert preflight.check_memory(2**35, 4, 4, 2**34).outcome == "no-go"
    assert preflight.check_memory(2**34, 4, 16, 2**35).outcome == "caution"
    assert preflight.check_memory(None, 4, 4, None).outcome == "skipped"
    hours = preflight.check_hours(0.5, 4, 8, 7200)
    assert hours.sentence == "7,200 steps of 1.00 seconds: about 2.0 hours on this machine"


def test_the_answer_is_the_first_no_go():
    good = Check(name="anchors", outcome="go", sentence="fine")
    bad = Check(name="pixels", outcome="no-go", sentence="wrong scale", advice="Multiply")
    assert Preflight(checks=(good,)).sentence() == "go"
    result = preflight.merged([good, None, bad])
    assert not result.go and result.sentence() == "no-go: pixels: wrong scale. Multiply"
    assert result.to_json()["go"] is False and len(result.to_json()["checks"]) == 2
    careful = replace(bad, outcome="caution")
    assert Preflight(checks=(careful,)).sentence().startswith("go, with caution: pixels")
