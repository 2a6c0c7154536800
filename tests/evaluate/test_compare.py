"""Comparison of two evaluations: noise is called noise, and a difference a difference."""

import json

import numpy as np
import pytest

from rcnn_jax.errors import DataError
from rcnn_jax.evaluate import pages
from rcnn_jax.evaluate.compare import NOISE, compare, page, read_result, result_of

pytest.importorskip("hotcoco", reason="the extra `report` is not installed")
from rcnn_jax.evaluate.analysis import analyse  # noqa: E402
from tests.evaluate import example  # noqa: E402


def record(evaluation, model="a.tlt", names=None):
    names = names or [f"data/{number}.png" for number in range(len(evaluation.images))]
    fields = pages.record(analyse(evaluation), model=model, spec="spec.txt", names=names)
    return json.loads(json.dumps(fields))


def test_a_clear_gain_is_called_one_and_a_small_one_noise():
    worse = result_of(record(example.voc(noise=9.0)), "a.json")
    better = result_of(record(example.voc(noise=1.0), "b.tlt"), "b.json")
    comparison = compare(worse, better)
    assert comparison.rows[0].name == "AP" and comparison.rows[0].outcome == "second better"
    assert "the second is better" in comparison.sentence()
    assert compare(better, worse).rows[0].outcome == "first better"
    alike = compare(better, result_of(record(example.voc(noise=1.1)), "c.json"))
    assert alike.rows[0].outcome == NOISE and "difference within noise" in alike.sentence()
    assert {row.name for row in comparison.rows} >= {"AP50", "class cat"}
    assert set(comparison.errors) == {
        "class",
        "location",
        "both",
        "duplicate",
        "background",
        "missed",
    }


def test_masks_are_compared_beside_boxes():
    one = result_of(record(example.coco()), "a.json")
    comparison = compare(one, one)
    assert [row.name for row in comparison.rows][:4] == [
        "AP",
        "AP50",
        "AP of masks",
        "AP50 of masks",
    ]
    assert all(row.outcome == NOISE for row in comparison.rows)


def test_images_may_come_in_another_order_and_from_another_folder():
    evaluation = example.voc()
    fields = record(evaluation)
    reordered = record(evaluation, names=[f"elsewhere/{n}.png" for n in range(24)])
    order = np.random.default_rng(0).permutation(24)
    reordered["images"] = [reordered["images"][number] for number in order]
    position = np.argsort(order)
    for one in reordered["parts"]["boxes"]["classes"]:
        one["image"] = [int(position[number]) for number in one["image"]]
        one["objects"] = [one["objects"][number] for number in order]
    comparison = compare(result_of(fields, "a.json"), result_of(reordered, "b.json"))
    assert all(row.difference == (0.0, 0.0, 0.0) for row in comparison.rows)


def test_other_images_are_refused():
    one = result_of(record(example.voc()), "a.json")
    other = result_of(record(example.voc(), "b.tlt", [f"x{n}.png" for n in range(24)]), "b.json")
    with pytest.raises(
        DataError, match=r"a.tlt and b.tlt were evaluated on other images \(24 and 24"
    ):
        compare(one, other)


def test_another_metric_is_refused():
    one = result_of(record(example.voc()), "a.json")
    other = result_of(record(example.voc(method="voc12"), "b.tlt"), "b.json")
    with pytest.raises(
        DataError, match="was judged by voc07 at IoU 0.5, b.tlt by voc12 at IoU 0.5"
    ):
        compare(one, other)


def test_a_plain_report_has_no_intervals_and_says_so(tmp_path):
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"metric": "voc07", "mAP": 0.5, "per_iou": []}))
    comparison = compare(read_result(path), read_result(path))
    assert comparison.rows[0].difference is None and comparison.rows[0].outcome == ""
    assert "is not known" in comparison.sentence() and "evaluate --report" in comparison.sentence()


@pytest.mark.parametrize("text", ["[]", "{", '{"metrics": {}}', '{"what": "rcnn_jax evaluation"}'])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError, match="a.json"):
        read_result(path)


def test_the_page_names_both_and_the_outcome():
    one = result_of(record(example.voc(), "first<1>.tlt"), "a.json")
    text = page(compare(one, one))
    assert "first&lt;1&gt;.tlt" in text and "difference within noise" in text
    assert "<script" not in text
