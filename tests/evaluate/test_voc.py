import contextlib
import io
import time

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rcnn_jax.evaluate.voc import ImageResult, evaluate_voc
from tests.reference import voc_ap

NAMES = ("bird", "cat", "dog")


def image(detected=(), truth=(), proposals=None):
    """detected: (box, score, class); truth: (box, class, difficult)."""
    return ImageResult(
        boxes=np.array([f[0] for f in detected], np.float32).reshape(-1, 4),
        scores=np.array([f[1] for f in detected], np.float32),
        classes=np.array([f[2] for f in detected], np.int32),
        gt_boxes=np.array([t[0] for t in truth], np.float32).reshape(-1, 4),
        gt_classes=np.array([t[1] for t in truth], np.int32),
        gt_crowd=np.array([t[2] for t in truth], bool),
        proposals=proposals,
    )


def random_images(rng, count, classes=3):
    """Crowded scenes with whole coordinates and few score values, so that ties are common."""
    images = []
    for _ in range(count):
        truth = []
        for _ in range(rng.integers(0, 7)):
            y, x = rng.integers(0, 30, 2).tolist()
            h, w = rng.integers(4, 20, 2).tolist()
            box = (y, x, y + h, x + w)
            truth.append((box, int(rng.integers(classes)), bool(rng.random() < 0.2)))
        detected = []
        for box, of, _ in truth:
            for _ in range(rng.integers(0, 3)):
                y1, x1, y2, x2 = (np.array(box) + rng.integers(-2, 3, 4)).tolist()
                guess = of if rng.random() < 0.8 else int(rng.integers(classes))
                detected.append(((y1, x1, max(y2, y1 + 1), max(x2, x1 + 1)), score(rng), guess))
        for _ in range(rng.integers(0, 4)):
            y, x = rng.integers(0, 30, 2).tolist()
            detected.append(((y, x, y + 9, x + 9), score(rng), int(rng.integers(classes))))
        images.append((detected, truth))
    return images


def score(rng):
    return float(np.float32(rng.integers(1, 20) / 20))


def only(report):
    ((result,),) = report.classes
    return result


BOX = (0.0, 0.0, 10.0, 10.0)
HALF = (0.0, 0.0, 10.0, 5.0)
FAR = (50.0, 50.0, 60.0, 60.0)


def test_ground_truth_fed_back_has_average_precision_one():
    images = [image([(BOX, 1.0, 0), (FAR, 1.0, 1)], [(BOX, 0, False), (FAR, 1, False)])] * 3
    for metric in ("voc07", "voc12"):
        report = evaluate_voc(images, NAMES, [0.5, 0.95], 0.1, metric)
        assert report.maps == (1.0, 1.0)
        assert report.mean_ap == 1.0


def test_average_precision_of_three_detections_by_hand():
    # Best first: hit, miss, hit of 3 objects: precision 1, 1/2, 2/3; recall 1/3, 1/3, 2/3.
    images = [
        image(
            [(BOX, 0.9, 0), (FAR, 0.8, 0), ((20, 20, 30, 30), 0.7, 0)],
            [(BOX, 0, False), ((20, 20, 30, 30), 0, False), ((80, 80, 90, 90), 0, False)],
        )
    ]
    result = only(evaluate_voc(images, NAMES, [0.5], 0.1, "voc12"))
    assert result.ap == pytest.approx(1 / 3 + 2 / 3 * 1 / 3)
    assert (result.precision, result.recall) == pytest.approx((2 / 3, 2 / 3))
    np.testing.assert_allclose(result.curve_precision, [1, 1 / 2, 2 / 3])
    np.testing.assert_allclose(result.curve_recall, [1 / 3, 1 / 3, 2 / 3])
    # Recalls 0, .1, .2, .3 see precision 1; .4, .5, .6 see 2/3; .7 to 1 see nothing.
    result = only(evaluate_voc(images, NAMES, [0.5], 0.1, "voc07"))
    assert result.ap == pytest.approx((4 + 3 * 2 / 3) / 11)


def test_a_recall_of_three_tenths_reaches_the_point_three_tenths():
    boxes = [(20.0 * i, 0.0, 20.0 * i + 10, 10.0) for i in range(10)]
    images = [image([(b, 0.9, 0) for b in boxes[:3]], [(b, 0, False) for b in boxes])]
    assert only(evaluate_voc(images, NAMES, [0.5], 0.1)).ap == pytest.approx(4 / 11)


def test_the_second_detection_of_an_object_is_a_false_positive():
    images = [image([(BOX, 0.9, 0), (BOX, 0.8, 0)], [(BOX, 0, False)])]
    result = only(evaluate_voc(images, NAMES, [0.5], 0.1, "voc12"))
    assert (result.ap, result.precision, result.n_det) == (1.0, 0.5, 2)


def test_an_overlap_equal_to_the_threshold_is_a_match():
    images = [image([(HALF, 0.9, 0)], [(BOX, 0, False)])]
    assert only(evaluate_voc(images, NAMES, [0.5], 0.1)).recall == 1.0
    assert only(evaluate_voc(images, NAMES, [0.51], 0.1)).recall == 0.0


def test_thresholds_of_arange_mean_their_decimal_value():
    # IoU is exactly 0.6; numpy's arange yields 0.6000000000000001.
    images = [image([((0, 0, 10, 6), 0.9, 0)], [(BOX, 0, False)])]
    report = evaluate_voc(images, NAMES, np.arange(0.5, 1.0, 0.05), 0.1)
    assert report.iou_thresholds[2] == 0.6
    assert [row[0].recall for row in report.classes] == [1.0] * 3 + [0.0] * 7


def test_detections_of_difficult_objects_do_not_count():
    images = [image([(BOX, 0.9, 0), (FAR, 0.8, 0)], [(BOX, 0, True), (FAR, 0, False)])]
    result = only(evaluate_voc(images, NAMES, [0.5], 0.1))
    assert (result.ap, result.n_gt, result.n_det) == (1.0, 1, 1)


def test_unmatched_difficult_objects_are_not_misses():
    images = [image([(FAR, 0.8, 0)], [(BOX, 0, True), (FAR, 0, False)])]
    assert only(evaluate_voc(images, NAMES, [0.5], 0.1)).recall == 1.0


def test_a_class_with_objects_and_no_detection_has_average_precision_zero():
    images = [image([(FAR, 0.8, 0)], [(BOX, 1, False), (FAR, 0, False)])]
    report = evaluate_voc(images, NAMES, [0.5], 0.1)
    assert [(c.name, c.ap) for c in report.classes[0]] == [("bird", 1.0), ("cat", 0.0)]
    assert report.mean_ap == 0.5


def test_classes_with_neither_objects_nor_detections_are_left_out():
    report = evaluate_voc([image(), image()], NAMES, [0.5], 0.1)
    assert report.classes == ((),)
    assert report.mean_ap == 0.0


def test_no_images_at_all_give_an_empty_report():
    assert evaluate_voc([], NAMES, [0.5, 0.75], 0.1).maps == (0.0, 0.0)


def test_detections_below_the_score_threshold_are_ignored_and_equal_ones_kept():
    images = [image([(BOX, 0.3, 0), (FAR, 0.2999, 0)], [(BOX, 0, False)])]
    result = only(evaluate_voc(images, NAMES, [0.5], 0.3))
    assert (result.n_det, result.precision) == (1, 1.0)


def test_rpn_recall_is_the_fraction_of_objects_with_a_proposal():
    images = [
        image([], [(BOX, 0, False), (FAR, 0, False)], proposals=np.array([HALF, (0, 0, 1, 1)])),
        image([], [(BOX, 0, True), (FAR, 1, False)], proposals=np.array([FAR])),
        image([], [(BOX, 0, False)], proposals=np.zeros((0, 4))),
    ]
    report = evaluate_voc(images, NAMES, [0.5, 0.9], 0.1)
    for row in report.classes:
        assert [c.rpn_recall for c in row] == [pytest.approx(1 / 3), 1.0]
    assert report.has_rpn_recall


def test_without_proposals_there_is_no_rpn_recall():
    report = evaluate_voc([image([], [(BOX, 0, False)])], NAMES, [0.5], 0.1)
    assert not report.has_rpn_recall
    assert only(report).rpn_recall is None


def test_proposals_in_some_images_only_are_an_error():
    images = [image(proposals=np.zeros((0, 4))), image()]
    with pytest.raises(ValueError, match="some images have proposals and some have none"):
        evaluate_voc(images, NAMES, [0.5], 0.1)


def test_arrays_of_unequal_length_are_an_error_that_names_the_image():
    bad = ImageResult(
        boxes=np.zeros((2, 4)),
        scores=np.zeros(1),
        classes=np.zeros(2, int),
        gt_boxes=np.zeros((0, 4)),
        gt_classes=np.zeros(0, int),
        gt_crowd=np.zeros(0, bool),
    )
    with pytest.raises(ValueError, match=r"image 1: .* have lengths \(2, 1, 2\)"):
        evaluate_voc([image(), bad], NAMES, [0.5], 0.1)


def test_an_unknown_metric_is_an_error_that_lists_the_known():
    with pytest.raises(ValueError, match="metric is 'coco', expected 'voc07' or 'voc12'"):
        evaluate_voc([], NAMES, [0.5], 0.1, "coco")


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("metric", ["voc07", "voc12"])
def test_random_scenes_score_as_the_numpy_reference(seed, metric):
    scenes = random_images(np.random.default_rng(seed), 6)
    thresholds = (0.3, 0.5, 0.75)
    report = evaluate_voc([image(*s) for s in scenes], NAMES, thresholds, 0.15, metric)
    for threshold, row in zip(thresholds, report.classes, strict=True):
        for result in row:
            # float32 holds the threshold a little above 0.15: both sides compare in float32.
            hits, objects = voc_ap.curve(
                scenes, NAMES.index(result.name), threshold, float(np.float32(0.15))
            )
            assert (result.n_gt, result.n_det) == (objects, len(hits))
            assert result.ap == pytest.approx(
                voc_ap.average_precision(hits, objects, metric), abs=1e-12
            )
            assert result.recall == pytest.approx(hits[-1] / objects if hits and objects else 0.0)


def test_order_of_images_does_not_matter_when_scores_differ():
    rng = np.random.default_rng(3)
    scenes = random_images(rng, 8)
    distinct = iter(rng.permutation(10_000) / 10_000)
    scenes = [
        ([(b, next(distinct), c) for b, _, c in detected], truth) for detected, truth in scenes
    ]
    there = evaluate_voc([image(*s) for s in scenes], NAMES, [0.5], 0.0, "voc12")
    back = evaluate_voc([image(*s) for s in scenes[::-1]], NAMES, [0.5], 0.0, "voc12")
    assert there.maps == back.maps


def test_precision_at_101_recalls_equals_pycocotools():
    """On objects apart from each other both rules pick the same match at IoU >= 0.5."""
    rng = np.random.default_rng(7)
    images, annotations, results = [], [], []
    for number in range(20):
        corner = 40.0 * np.stack(np.divmod(np.arange(9), 3), axis=1) + rng.integers(0, 8, (9, 2))
        truth = np.concatenate([corner, corner + rng.integers(10, 30, (9, 2))], axis=1)
        of = rng.integers(0, 3, 9)
        detected = np.repeat(truth, 2, axis=0) + rng.integers(-3, 4, (18, 4))
        detected[:, 2:] = np.maximum(detected[:, 2:], detected[:, :2] + 1)
        guess = np.where(rng.random(18) < 0.85, np.repeat(of, 2), rng.integers(0, 3, 18))
        scores = rng.permutation(1000)[:18] / 1000
        detected_list = [(tuple(b), s, c) for b, s, c in zip(detected, scores, guess, strict=True)]
        images.append(
            image(detected_list, [(tuple(b), c, False) for b, c in zip(truth, of, strict=True)])
        )
        for box, c in zip(truth, of, strict=True):
            annotations.append(entry(number, box, c) | {"id": len(annotations) + 1})
        for box, c, s in zip(detected, guess, images[-1].scores, strict=True):
            results.append(entry(number, box, c) | {"id": len(results) + 1, "score": float(s)})
    thresholds = np.linspace(0.5, 0.95, 10)
    report = evaluate_voc(images, NAMES, thresholds, 0.0)
    expected = pycocotools_precision(annotations, results, 20)
    for t, row in enumerate(report.classes):
        for k, result in enumerate(row):
            envelope = np.maximum.accumulate(result.curve_precision[::-1])[::-1]
            at = np.searchsorted(result.curve_recall, np.linspace(0, 1, 101), side="left")
            mine = np.append(envelope, 0.0)[np.minimum(at, len(envelope))]
            np.testing.assert_allclose(mine, expected[t, :, k], atol=1e-12)


def entry(number, box, of):
    y1, x1, y2, x2 = (float(v) for v in box)
    width, height = x2 - x1, y2 - y1
    return {
        "image_id": number,
        "category_id": int(of),
        "bbox": [x1, y1, width, height],
        "area": width * height,
        "iscrowd": 0,
    }


def pycocotools_precision(annotations, results, images):
    base = {
        "info": {},
        "images": [{"id": i} for i in range(images)],
        "categories": [{"id": i, "name": n} for i, n in enumerate(NAMES)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth, detected = COCO(), COCO()
        truth.dataset, detected.dataset = (
            base | {"annotations": annotations},
            base | {"annotations": results},
        )
        truth.createIndex()
        detected.createIndex()
        evaluation = COCOeval(truth, detected, "bbox")
        evaluation.params.maxDets = [1, 10, 1000]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][:, :, :, 0, -1]


def test_a_thousand_images_with_ten_thresholds_take_a_moment():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 500, (100, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 100, (100, 2))], axis=1)
    one = ImageResult(
        boxes=boxes,
        scores=rng.random(100),
        classes=rng.integers(0, 20, 100),
        gt_boxes=boxes[:10] + 3,
        gt_classes=rng.integers(0, 20, 10),
        gt_crowd=np.zeros(10, bool),
        proposals=None,
    )
    start = time.perf_counter()
    evaluate_voc([one] * 1000, [f"c{i:02d}" for i in range(20)], np.linspace(0.5, 0.95, 10), 0.0)
    # Half a second on two cores; ten leaves room for a loaded machine.
    assert time.perf_counter() - start < 10.0
