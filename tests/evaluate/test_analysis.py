"""Analysis of an evaluation: what costs AP, at which stage, with which threshold."""

import numpy as np
import pytest

from rcnn_jax.evaluate.scored import Evaluation
from rcnn_jax.evaluate.voc import ImageResult, evaluate_voc

pytest.importorskip("hotcoco", reason="the extra `report` is not installed")
from rcnn_jax.evaluate import pages  # noqa: E402
from rcnn_jax.evaluate.analysis import (  # noqa: E402
    Curve,
    analyse,
    choose,
    curves_of,
    recalls,
    sentences,
    worst,
)
from rcnn_jax.evaluate.hypotheses import Diagnosis  # noqa: E402
from rcnn_jax.evaluate.matches import match  # noqa: E402
from tests.evaluate import example  # noqa: E402


def one_image(labels, detections, proposals=None):
    """labels: (class, box); detections: (class, score, box)."""
    image = ImageResult(
        boxes=np.array([box for _, _, box in detections], np.float32).reshape(-1, 4),
        scores=np.array([score for _, score, _ in detections], np.float32),
        classes=np.array([label for label, _, _ in detections], np.int32),
        gt_boxes=np.array([box for _, box in labels], np.float32).reshape(-1, 4),
        gt_classes=np.array([label for label, _ in labels], np.int32),
        gt_crowd=np.zeros(len(labels), bool),
        proposals=None if proposals is None else np.array(proposals, np.float32).reshape(-1, 4),
    )
    return Evaluation(
        report=evaluate_voc([image], example.NAMES, (0.5,), 0.0, "voc12"),
        class_names=example.NAMES,
        images=(image,),
        records=(0,),
        sizes=((200, 200),),
    )


BOX, FAR = (10, 10, 40, 40), (100, 100, 150, 150)


@pytest.mark.parametrize(
    ("detections", "kind"),
    [
        ([(1, 0.9, BOX)], "Cls"),
        ([(0, 0.9, (10, 25, 40, 55))], "Loc"),
        ([(1, 0.9, (10, 25, 40, 55))], "Both"),
        ([(0, 0.9, BOX), (0, 0.8, BOX)], "Dupe"),
        ([(0, 0.9, FAR)], "Bkg"),
        ([], "Miss"),
    ],
)
def test_every_kind_of_error_is_counted_as_such(detections, kind):
    analysis = analyse(one_image([(0, BOX)], detections))
    counts = {name: count for name, (count, _) in analysis.parts[0].errors.items()}
    assert counts[kind] == 1


def test_the_two_stages_are_told_apart():
    labels = [(0, BOX), (0, FAR)]
    evaluation = one_image(labels, [(1, 0.9, BOX)], proposals=[BOX])
    every, cat, small, medium = recalls(evaluation, 0.5)
    assert (every.objects, every.proposed, every.located, every.classified) == (2, 0.5, 0.5, 0.0)
    assert cat.group == "cat" and small.group == "small" and medium.objects == 1
    assert recalls(one_image(labels, []), 0.5)[0].proposed is None


def test_an_object_that_is_found_as_another_class_stands_in_its_own_row():
    cat, dog, nothing = 0, 1, len(example.NAMES)
    # The right one has the lower score: the threshold of the best F1 takes both.
    detected = [(dog, 0.95, BOX), (cat, 0.9, (60, 60, 90, 90))]
    evaluation = one_image([(cat, BOX), (cat, (60, 60, 90, 90)), (dog, FAR)], detected)
    expected = np.zeros((nothing + 1, nothing + 1), int)
    expected[cat, dog] = expected[cat, cat] = expected[dog, nothing] = 1
    assert analyse(evaluation).confusion.tolist() == expected.tolist()


def test_a_threshold_is_the_lowest_that_reaches_the_precision():
    curve = Curve(
        name="cat",
        scores=np.array([0.9, 0.8, 0.7, 0.6, 0.5]),
        precision=np.array([1.0, 1 / 2, 2 / 3, 3 / 4, 3 / 5]),
        recall=np.array([0.25, 0.25, 0.5, 0.75, 0.75]),
    )
    chosen = choose(curve, 0.7)
    assert (chosen.threshold, chosen.recall, chosen.best) == (0.6, 0.75, 0.6)
    assert choose(curve, 0.99).threshold == 0.9
    none = choose(
        Curve(name="x", scores=np.array([0.3]), precision=np.zeros(1), recall=np.zeros(1)), 0.5
    )
    assert none.threshold is None


def test_the_worst_image_has_most_errors():
    evaluation = example.voc()
    matches = match(evaluation)
    ranked = worst(matches, 0.3)
    errors = [one.false + one.missed for one in ranked]
    assert errors == sorted(errors, reverse=True) and errors[-1] > 0
    total = sum(one.hits + one.missed for one in worst(matches, 0.0))
    assert 0 < total <= sum(int(c.objects.sum()) for c in matches.classes)


def test_curves_end_at_the_recall_of_the_metric():
    evaluation = example.voc()
    every, *classes = curves_of(match(evaluation))
    assert every.name == "all"
    by_name = {one.name: one for one in evaluation.report.classes[0]}
    for curve in classes:
        assert curve.recall[-1] == pytest.approx(by_name[curve.name].recall)
        assert curve.precision[-1] == pytest.approx(by_name[curve.name].precision)


def test_a_bin_of_the_calibration_has_the_scores_of_its_range_and_the_part_that_is_right():
    boxes = [(10, 50 * n + 10, 40, 50 * n + 40) for n in range(3)]
    detected = [
        (0, 0.82, boxes[0]),
        (0, 0.86, boxes[1]),
        (0, 0.31, FAR),
        (0, 0.88, (60, 60, 90, 90)),
    ]
    calibration = analyse(one_image([(0, box) for box in boxes], detected)).parts[0].calibration
    bins = {round(row["bin_lower"], 1): row for row in calibration["bins"] if row["count"]}
    assert {low: row["count"] for low, row in bins.items()} == {0.3: 1, 0.8: 3}
    assert bins[0.8]["avg_confidence"] == pytest.approx((0.82 + 0.86 + 0.88) / 3, abs=1e-6)
    assert bins[0.8]["avg_accuracy"] == pytest.approx(2 / 3)
    assert bins[0.3]["avg_accuracy"] == 0
    # Mean distance of score and accuracy, by the number of detections.
    assert calibration["ece"] == pytest.approx((3 * (2.56 / 3 - 2 / 3) + 0.31) / 4, abs=1e-6)


def test_no_detection_and_no_object_at_all_can_be_analysed():
    for evaluation in (
        one_image([], []),
        one_image([(0, BOX)], []),
        one_image([], [(0, 0.9, BOX)]),
    ):
        analysis = analyse(evaluation)
        text = pages.page(analysis, example.Pictures(evaluation), title="x", subtitle="")
        assert "Two stages" in text


def test_sentences_name_what_costs_most():
    findings = sentences(analyse(one_image([(0, BOX)], [(1, 0.9, BOX)], proposals=[BOX])))
    assert any(
        "errors of class: 1 detections on an object, of another class" in one for one in findings
    )
    assert any("the head finds 0.0%" in one for one in findings)
    blind = sentences(analyse(one_image([(0, BOX)], [], proposals=[FAR])))
    assert any("The RPN proposes 0.0% of the objects" in one for one in blind)


@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_the_page_has_every_section_and_is_small_and_whole(kind):
    evaluation = getattr(example, kind)()
    diagnosis = Diagnosis(ap50=0.0, agnostic=0.0, images=3, trials=())
    text = pages.page(
        analyse(evaluation),
        example.Pictures(evaluation),
        title="Evaluation of <model>",
        subtitle="24 images",
        diagnosis=diagnosis,
    )
    for title in (
        "Summary",
        "Errors",
        "Two stages",
        "Curves",
        "Thresholds by class",
        "Calibration",
        "Confusion",
        "Worst images",
        "Labels that may be wrong",
    ):
        assert f"{title}</h2>" in text
    assert "Evaluation of &lt;model&gt;" in text and "none of 0 explanations" in text
    assert len(text) < 5_000_000 and "<script" not in text and "http" not in text
    assert text.count("data:image/jpeg") > 10
    assert ("AP of masks" in text) == (kind == "coco")


def test_pictures_stop_where_a_mail_would_be_too_large(monkeypatch):
    monkeypatch.setattr(pages, "MOST_BYTES", 30_000)
    evaluation = example.voc()
    pictures = example.Pictures(evaluation)
    text = pages.page(analyse(evaluation), pictures, title="x", subtitle="")
    assert len(text) < 100_000 and text.count("data:image/jpeg") < 15
