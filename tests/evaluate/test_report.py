import json

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.image import imread

from rcnn_jax.evaluate.coco import CocoReport
from rcnn_jax.evaluate.report import (
    coco_table,
    coco_to_json,
    plot_pr_curve,
    pr_figure,
    scalars,
    table,
    to_json,
    write_whole,
)
from rcnn_jax.evaluate.voc import ImageResult, evaluate_voc

BOX = np.array([[0.0, 0.0, 10.0, 10.0]])
HALF = np.array([[0.0, 0.0, 10.0, 6.0]])


def report(thresholds=(0.5,), proposals=None, names=("cat", "dog")):
    """A cat detected with IoU 0.6 and a dog missed."""
    return evaluate_voc(
        [
            ImageResult(
                boxes=HALF,
                scores=np.array([0.9]),
                classes=np.array([0]),
                gt_boxes=np.concatenate([BOX, BOX]),
                gt_classes=np.array([0, 1]),
                gt_crowd=np.zeros(2, bool),
                proposals=proposals,
            )
        ],
        names,
        thresholds,
        0.1,
        "voc12",
    )


def padded(*cells):
    return "".join(cell.ljust(20) for cell in cells)


def test_the_table_of_one_threshold_has_the_layout_of_the_original():
    assert table(report(proposals=BOX)).split("\n") == [
        "=" * 90,
        padded("Class", "AP", "precision", "recall", "RPN_recall"),
        "-" * 90,
        padded("cat", "1.0000", "1.0000", "1.0000", "1.0000"),
        "-" * 90,
        padded("dog", "0.0000", "0.0000", "0.0000", "1.0000"),
        "-" * 90,
        "mAP@0.5 = 0.5000              ",
    ]


def test_the_column_of_rpn_recall_is_absent_without_proposals():
    lines = table(report()).split("\n")
    assert lines[1] == padded("Class", "AP", "precision", "recall")
    assert lines[3] == padded("cat", "1.0000", "1.0000", "1.0000")


def test_several_thresholds_have_a_table_each_and_their_mean_last():
    lines = table(report(np.arange(0.5, 1.0, 0.05))).split("\n")
    assert lines.count("=" * 90) == 10
    assert lines[-2].rstrip() == "mAP@0.95 = 0.0000"
    # The cat counts at 0.5, 0.55 and 0.6, the dog never: (3 * 0.5) / 10.
    assert lines[-1] == "mAP@[0.5:0.95] = 0.1500              "


def test_a_report_without_classes_still_has_a_table():
    empty = evaluate_voc([], ("cat",), [0.5], 0.1)
    assert table(empty).split("\n")[-1].rstrip() == "mAP@0.5 = 0.0000"


def test_json_holds_the_numbers_of_the_table():
    content = json.loads(json.dumps(to_json(report((0.5, 0.75), proposals=BOX))))
    assert content["metric"] == "voc12"
    assert content["mAP"] == 0.25
    assert content["iou_thresholds"] == [0.5, 0.75]
    assert content["per_iou"][0]["classes"]["cat"] == {
        "AP": 1.0,
        "precision": 1.0,
        "recall": 1.0,
        "RPN_recall": 1.0,
        "ground_truths": 1,
        "detections": 1,
    }


def test_scalars_are_named_as_the_original_logs_them():
    assert scalars(report()) == {"mAP@0.50": 0.5, "mAP": 0.5}
    assert scalars(report((0.5, 0.75))) == {
        "mAP@0.50": 0.5,
        "mAP@0.75": 0.0,
        "mAP@[0.50:0.75]": 0.25,
        "mAP": 0.25,
    }


def coco_report():
    return CocoReport(
        metrics={"AP": 0.25, "ARmax300": 0.5, "mask_AP": -1.0},
        class_ap={"AP": {"cat": 0.25, "dog": -1.0}, "mask_AP": {"cat": 0.1, "dog": 0.2}},
        max_detections=300,
        images=7,
        engine="pycocotools",
    )


def test_the_coco_table_names_k_and_lists_metrics_by_name():
    lines = coco_table(coco_report()).split("\n")
    assert lines[1] == "COCO metrics over 7 images, K = 300 detections per image at most"
    assert lines[3:6] == [
        "AP: 0.250000000",
        "ARmax300: 0.500000000",
        "mask_AP: -1.000000000",
    ]
    assert lines[7].split() == ["Class", "AP", "mask_AP"]
    assert lines[9].split() == ["cat", "0.2500", "0.1000"]


def test_coco_json_is_plain():
    content = json.loads(json.dumps(coco_to_json(coco_report())))
    assert content["max_detections"] == 300
    assert content["class_AP"]["mask_AP"] == {"cat": 0.1, "dog": 0.2}


def test_the_picture_has_a_line_per_class_with_its_average_precision():
    figure = pr_figure(report())
    (axes,) = figure.axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["cat  1.000", "dog  0.000"]
    assert len(axes.get_lines()) == 2
    assert axes.get_title(loc="left").startswith("Precision-recall at IoU 0.5")


@pytest.mark.parametrize("count", [1, 80])
def test_the_picture_is_a_png_of_use_at_any_number_of_classes(tmp_path, count):
    names = [f"class {i}" for i in range(count)]
    result = evaluate_voc(
        [
            ImageResult(
                boxes=np.repeat(BOX, count, axis=0),
                scores=np.full(count, 0.5),
                classes=np.arange(count),
                gt_boxes=np.repeat(BOX, count, axis=0),
                gt_classes=np.arange(count),
                gt_crowd=np.zeros(count, bool),
            )
        ],
        names,
        [0.5],
        0.1,
    )
    path = tmp_path / "sub" / "PR_curve.png"
    plot_pr_curve(result, path)
    height, width = imread(path).shape[:2]
    assert height >= 700
    assert width > height
    assert [p.name for p in path.parent.iterdir()] == ["PR_curve.png"]


def test_drawing_leaves_no_figure_behind():
    pr_figure(report())
    assert pyplot.get_fignums() == []


def test_a_report_without_classes_can_be_drawn(tmp_path):
    plot_pr_curve(evaluate_voc([], ("cat",), [0.5], 0.1), tmp_path / "empty.png")
    assert (tmp_path / "empty.png").stat().st_size > 0


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_whole(path, b"old")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "b.txt"
    write_whole(path, b"old")
    with pytest.raises(TypeError):
        write_whole(path, "not bytes")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
