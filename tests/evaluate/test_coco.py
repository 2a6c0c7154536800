import contextlib
import importlib.util
import io
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rcnn_jax.errors import DataError, MissingDependencyError
from rcnn_jax.evaluate.coco import evaluate_coco
from rcnn_jax.evaluate.masks import paste_masks

SIZE = (240, 260)


def scene(seed=0, images=6):
    """Annotations with objects of all three COCO sizes, a crowd, and an empty category."""
    rng = np.random.default_rng(seed)
    annotations = []
    for number in range(images):
        for side in (12, 20, 50, 70, 110):
            y, x = rng.integers(0, 120, 2).tolist()
            (rle,) = paste_masks(
                rng.random((1, 6, 6)) + 0.35, np.array([[y, x, y + side, x + 1.1 * side]]), SIZE
            )
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": 100 + number,
                    "category_id": int(rng.choice([1, 3])),
                    "bbox": [x, y, 1.1 * side, side],
                    "area": float(coco_mask.area(rle)),
                    "iscrowd": int(rng.random() < 0.1),
                    "segmentation": rle,
                }
            )
    return {
        "images": [
            {"id": 100 + i, "height": SIZE[0], "width": SIZE[1], "file_name": f"{i}.jpg"}
            for i in range(images)
        ],
        "categories": [{"id": i, "name": n} for i, n in ((1, "cat"), (3, "dog"), (9, "yak"))],
        "annotations": annotations,
    }


def as_results(gt, score=0.9):
    return [
        {key: a[key] for key in ("image_id", "category_id", "bbox", "segmentation")}
        | {"score": score}
        for a in gt["annotations"]
        if not a["iscrowd"]
    ]


def shaken(gt, seed=1):
    rng = np.random.default_rng(seed)
    results = []
    for a in gt["annotations"]:
        for _ in range(rng.integers(0, 4)):
            x, y, w, h = (np.array(a["bbox"]) + rng.normal(0, 4, 4)).tolist()
            w, h = max(w, 2.0), max(h, 2.0)
            (rle,) = paste_masks(
                rng.random((1, 6, 6)) + 0.3, np.array([[y, x, y + h, x + w]]), SIZE
            )
            results.append(
                {
                    "image_id": a["image_id"],
                    "category_id": int(rng.choice([a["category_id"], 1, 3, 9])),
                    "bbox": [x, y, w, h],
                    "score": float(rng.integers(1, 12)) / 12,
                    "segmentation": rle,
                }
            )
    return results


def pycocotools_summary(gt, results, iou_type):
    content = json.loads(json.dumps(gt))
    for number, annotation in enumerate(content["annotations"]):
        annotation["id"] = number + 1
    content["info"] = {}
    bare = [{k: v for k, v in r.items() if iou_type == "bbox" or k != "bbox"} for r in results]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = content
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(json.loads(json.dumps(bare))), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()


NAMES = [
    "AP",
    "AP50",
    "AP75",
    "APs",
    "APm",
    "APl",
    "ARmax1",
    "ARmax10",
    "ARmax100",
    "ARs",
    "ARm",
    "ARl",
]


def test_ground_truth_fed_back_has_average_precision_one():
    gt = scene()
    report = evaluate_coco(gt, as_results(gt), ("bbox", "segm"))
    assert set(report.metrics) == {*NAMES, *(f"mask_{name}" for name in NAMES)}
    ones = {name: v for name, v in report.metrics.items() if "ARmax1" not in name or "100" in name}
    assert min(ones.values()) == pytest.approx(1.0)
    assert report.class_ap["AP"] == {"cat": 1.0, "dog": 1.0, "yak": -1.0}
    assert report.class_ap["mask_AP"]["dog"] == pytest.approx(1.0)


def test_two_categories_of_one_name_keep_a_row_each():
    gt = scene()
    gt["categories"][1]["name"] = "cat"
    report = evaluate_coco(gt, as_results(gt))
    assert report.class_ap["AP"] == {"cat (id 1)": 1.0, "cat (id 3)": 1.0, "yak": -1.0}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_metrics_equal_the_summary_of_pycocotools(seed, iou_type):
    gt = scene(seed)
    results = shaken(gt, seed + 10)
    prefix = {"bbox": "", "segm": "mask_"}[iou_type]
    report = evaluate_coco(gt, results, (iou_type,))
    actual = [report.metrics[prefix + name] for name in NAMES]
    assert actual == pycocotools_summary(gt, results, iou_type)


def test_more_than_a_hundred_detections_per_image_are_counted_when_the_model_yields_them():
    gt = scene(images=1)
    misses = [
        {"image_id": 100, "category_id": 1, "bbox": [200.0, 200.0, 5.0, 5.0], "score": 0.95}
    ] * 110
    results = misses + as_results(gt)
    at_100 = evaluate_coco(gt, results, detections_per_image=100)
    at_150 = evaluate_coco(gt, results, detections_per_image=150)
    assert at_100.class_ap["AP"]["cat"] == 0.0
    assert at_150.class_ap["AP"]["cat"] > 0.0
    assert (at_100.max_detections, at_150.max_detections) == (100, 150)
    assert "ARmax150" in at_150.metrics
    assert "ARmax100" not in at_150.metrics


def test_without_results_every_metric_is_zero():
    report = evaluate_coco(scene(), [], ("bbox", "segm"))
    assert set(report.metrics.values()) == {0.0}


def test_sizes_without_objects_are_minus_one():
    gt = scene()
    gt["annotations"] = [a for a in gt["annotations"] if a["area"] < 32**2]
    report = evaluate_coco(gt, as_results(gt))
    assert (report.metrics["APl"], report.metrics["ARm"]) == (-1.0, -1.0)


def test_an_annotation_with_id_zero_can_be_matched():
    gt = scene(images=1)
    gt["annotations"] = gt["annotations"][:1]
    gt["annotations"][0]["iscrowd"] = 0
    assert gt["annotations"][0]["id"] == 0
    assert evaluate_coco(gt, as_results(gt)).metrics["AP"] == pytest.approx(1.0)


def test_only_the_chosen_images_count():
    gt = scene()
    results = [r for r in as_results(gt) if r["image_id"] < 102]
    assert evaluate_coco(gt, results).metrics["AP"] < 0.9
    report = evaluate_coco(gt, results, image_ids=[100, 101])
    assert report.metrics["AP"] == pytest.approx(1.0)
    assert report.images == 2


def test_area_and_crowd_flag_may_be_absent():
    gt = scene()
    for annotation in gt["annotations"]:
        annotation["iscrowd"] = 0
    results = as_results(gt)
    for annotation in gt["annotations"]:
        del annotation["iscrowd"], annotation["area"]
    assert evaluate_coco(gt, results).metrics["AP"] == pytest.approx(1.0)


def test_inputs_are_left_unchanged_and_nothing_is_printed(capsys):
    gt = scene()
    results = shaken(gt)
    before = json.dumps([gt, results])
    evaluate_coco(gt, results, ("bbox", "segm"))
    assert json.dumps([gt, results]) == before
    assert capsys.readouterr().out == ""


def test_the_annotation_file_and_its_content_have_the_same_metrics(tmp_path):
    gt = scene()
    path = tmp_path / "val.json"
    path.write_text(json.dumps(gt))
    assert evaluate_coco(path, shaken(gt)) == evaluate_coco(gt, shaken(gt))


def test_kpis_are_percentages_with_four_decimals():
    gt = scene()
    report = evaluate_coco(gt, shaken(gt))
    assert report.kpi()["AP50"] == round(100 * report.metrics["AP50"], 4)


def test_an_absent_annotation_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"none.json: there is no such annotation file"):
        evaluate_coco(tmp_path / "none.json", [])


def test_a_damaged_annotation_file_is_an_error(tmp_path):
    path = tmp_path / "val.json"
    path.write_text('{"images": [')
    with pytest.raises(DataError, match=r"val.json:1:13: is not JSON: Expecting value"):
        evaluate_coco(path, [])


def test_annotations_without_categories_are_an_error():
    message = "ground truth: no categories; expected a COCO annotation file"
    with pytest.raises(DataError, match=message):
        evaluate_coco({"images": [], "annotations": []}, [])


def test_results_of_unknown_images_are_an_error():
    gt = scene()
    results = as_results(gt)
    results[0]["image_id"] = 7
    message = "1 values of image_id are not in the annotation file, for example 7; it has 6"
    with pytest.raises(DataError, match=message):
        evaluate_coco(gt, results)


def test_results_of_unknown_categories_are_an_error():
    gt = scene()
    results = as_results(gt)
    results[0]["category_id"] = 2
    with pytest.raises(DataError, match="1 values of category_id are not in the annotation file"):
        evaluate_coco(gt, results)


def test_masks_cannot_be_evaluated_without_segmentations():
    gt = scene()
    results = as_results(gt)
    del results[3]["segmentation"]
    with pytest.raises(DataError, match="results without segmentation cannot be evaluated"):
        evaluate_coco(gt, results, ("segm",))
    gt["annotations"][2]["segmentation"] = []
    with pytest.raises(DataError, match="annotation 2 has no segmentation"):
        evaluate_coco(gt, [], ("segm",))


def test_an_unknown_engine_is_an_error():
    with pytest.raises(ValueError, match="engine is 'fast', expected 'pycocotools' or 'hotcoco'"):
        evaluate_coco(scene(), [], engine="fast")


needs_hotcoco = pytest.mark.skipif(
    importlib.util.find_spec("hotcoco") is None, reason="hotcoco (extra fast-eval) is not installed"
)


@needs_hotcoco
def test_hotcoco_has_the_metrics_of_pycocotools():
    gt = scene(images=10)
    results = shaken(gt)
    slow = evaluate_coco(gt, results, ("bbox", "segm"), image_ids=range(100, 108))
    fast = evaluate_coco(gt, results, ("bbox", "segm"), image_ids=range(100, 108), engine="hotcoco")
    assert fast.metrics == slow.metrics
    assert fast.class_ap == slow.class_ap


@pytest.mark.skipif(
    importlib.util.find_spec("hotcoco") is not None, reason="hotcoco is installed here"
)
def test_asking_for_hotcoco_without_it_names_the_extra():
    with pytest.raises(MissingDependencyError, match=r"rcnn-jax\[fast-eval\]"):
        evaluate_coco(scene(), [], engine="hotcoco")


def nuclei(shared, images):
    """The annotation file of real masks, the ids of its first images, and their masks as results."""
    path = shared / "data" / "nuclei_coco" / "instances_val.json"
    content = json.loads(path.read_text())
    chosen = [image["id"] for image in content["images"][:images]]
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    results = []
    for annotation in content["annotations"]:
        if annotation["image_id"] in chosen:
            shape = annotation["segmentation"]
            height, width = sizes[annotation["image_id"]]
            if isinstance(shape, list):
                shape = coco_mask.merge(coco_mask.frPyObjects(shape, height, width))
            elif isinstance(shape["counts"], list):
                shape = coco_mask.frPyObjects(shape, height, width)
            results.append(
                {key: annotation[key] for key in ("image_id", "category_id", "bbox")}
                | {"segmentation": shape, "score": 1.0}
            )
    return path, chosen, results


@pytest.mark.peers
@needs_hotcoco
def test_hotcoco_equals_pycocotools_bit_for_bit_on_real_masks(shared):
    path, chosen, results = nuclei(shared, images=40)
    rng = np.random.default_rng(0)
    moved = []
    for result in results:  # lost, doubled and moved; scores tie
        for _ in range(rng.integers(0, 3)):
            box = (np.array(result["bbox"]) + rng.normal(0, 2, 4)).clip(1).tolist()
            other = results[rng.integers(len(results))] if rng.random() < 0.1 else result
            moved.append(
                result
                | {
                    "bbox": box,
                    "score": float(rng.integers(1, 50)) / 50,
                    "segmentation": other["segmentation"],
                }
                | {"image_id": other["image_id"]}
            )
    slow, fast = (
        evaluate_coco(
            path,
            moved,
            ("bbox", "segm"),
            detections_per_image=200,
            image_ids=chosen,
            engine=engine,
        )
        for engine in ("pycocotools", "hotcoco")
    )
    assert 0.1 < slow.metrics["mask_AP"] < 0.9 and 0.05 < slow.metrics["AP"] < 0.9
    assert fast.metrics == slow.metrics and fast.class_ap == slow.class_ap


def test_real_masks_fed_back_have_average_precision_one(shared):
    path, chosen, results = nuclei(shared, images=8)
    report = evaluate_coco(
        path, results, ("bbox", "segm"), detections_per_image=400, image_ids=chosen
    )
    assert report.metrics["AP"] == pytest.approx(1.0)
    assert report.metrics["mask_AP"] == pytest.approx(1.0)
