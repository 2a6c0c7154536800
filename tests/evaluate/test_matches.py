"""Matches: the AP that follows from them is that of the metric, and resampling is sound."""

import json

import numpy as np
import pytest

from rcnn_jax.errors import DataError
from rcnn_jax.evaluate.matches import (
    Matches,
    average_precision,
    differences,
    intervals,
    match,
    metrics,
    resamplings,
    span,
)
from tests.evaluate import example

pytest.importorskip("hotcoco", reason="the extra `report` is not installed")


@pytest.mark.parametrize("method", ["voc07", "voc12"])
def test_the_average_precision_of_pascal_follows_from_its_matches(method):
    evaluation = example.voc(method=method, thresholds=(0.5, 0.75))
    values = metrics(match(evaluation))
    assert values["AP"] == pytest.approx(evaluation.report.mean_ap)
    assert values["AP50"] == pytest.approx(evaluation.report.maps[0])
    for one in evaluation.report.classes[0]:
        row = next(c for c in match(evaluation).classes if c.name == one.name)
        assert average_precision(row, method)[0] == pytest.approx(one.ap)


@pytest.mark.parametrize(("kind", "prefix"), [("bbox", ""), ("segm", "mask_")])
def test_the_average_precision_of_coco_follows_from_its_matches(kind, prefix):
    evaluation = example.coco()
    values = metrics(match(evaluation, kind))
    assert values["AP"] == pytest.approx(evaluation.report.metrics[f"{prefix}AP"])
    assert values["AP50"] == pytest.approx(evaluation.report.metrics[f"{prefix}AP50"])
    for name, ap in evaluation.report.class_ap[f"{prefix}AP"].items():
        assert values[f"class {name}"] == pytest.approx(ap)


def test_an_image_that_counts_twice_is_as_good_as_two_images():
    evaluation = example.voc(method="voc12")
    matches = match(evaluation)
    weights = np.ones(matches.images, np.int64)
    weights[3], weights[5] = 2, 0
    order = [number for number in range(matches.images) for _ in range(weights[number])]
    images = [evaluation.images[number] for number in order]
    from rcnn_jax.evaluate.voc import evaluate_voc

    again = evaluate_voc(images, example.NAMES, (0.5,), 0.0, "voc12")
    assert metrics(matches, weights)["AP"] == pytest.approx(again.mean_ap)


def test_an_interval_holds_its_value_and_narrows_with_more_images():
    few = intervals(match(example.voc(seed=3)))["AP"]
    assert few.low < few.value < few.high
    matches = match(example.voc(seed=3))
    doubled = Matches(
        method=matches.method,
        thresholds=matches.thresholds,
        images=4 * matches.images,
        classes=tuple(
            type(one)(
                name=one.name,
                scores=np.repeat(one.scores, 4),
                image=(one.image[:, None] * 4 + np.arange(4)).ravel(),
                hits=np.repeat(one.hits, 4, axis=1),
                ignored=np.repeat(one.ignored, 4, axis=1),
                objects=np.repeat(one.objects, 4),
            )
            for one in matches.classes
        ),
    )
    more = intervals(doubled)["AP"]
    assert more.high - more.low < 0.75 * (few.high - few.low)


def test_a_model_does_not_differ_from_itself():
    matches = match(example.voc())
    assert all(s.low == s.value == s.high == 0.0 for s in differences(matches, matches).values())


def test_a_better_model_differs_beyond_the_noise():
    worse, better = (match(example.voc(noise=noise)) for noise in (8.0, 1.0))
    difference = differences(worse, better)["AP"]
    assert 0 < difference.low < difference.value


def test_every_resampled_set_has_as_many_images_as_the_set():
    drawn = resamplings(30, seed=1, replicates=50)
    assert drawn.shape == (50, 30) and (drawn.sum(axis=1) == 30).all()
    assert (resamplings(30, seed=1, replicates=50) == drawn).all()


def test_an_interval_of_nothing_is_the_value():
    assert span([float("nan")], 0.5) == (0.5, 0.5, 0.5)


def test_matches_survive_a_file():
    matches = match(example.coco())
    again = Matches.from_json(json.loads(json.dumps(matches.to_json())), "a.json")
    assert metrics(again) == pytest.approx(metrics(matches))
    for one, other in zip(matches.classes, again.classes, strict=True):
        np.testing.assert_array_equal(one.hits, other.hits)
        np.testing.assert_array_equal(one.ignored, other.ignored)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("classes"),
        lambda d: d.update(method="other"),
        lambda d: d["classes"][0]["image"].append(99),
        lambda d: d["classes"][0].update(scores=["x"]),
        lambda d: d["classes"][0].update(image=[10**6] * len(d["classes"][0]["image"])),
        lambda d: d["classes"][0].update(hits=[1]),
        lambda d: d.update(images=10**30),
    ],
)
def test_what_is_no_record_is_refused(change):
    fields = json.loads(json.dumps(match(example.voc()).to_json()))
    change(fields)
    with pytest.raises(DataError, match="a.json: holds no matches of an evaluation"):
        Matches.from_json(fields, "a.json")
