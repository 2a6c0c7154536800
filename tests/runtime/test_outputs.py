"""Outputs of every contract become detections, and outputs of another graph are refused."""

import numpy as np
import pytest

from rcnn_jax.errors import CheckpointError
from rcnn_jax.export.contracts import make_header
from rcnn_jax.runtime.header import DETECTIONS, MASKS
from rcnn_jax.runtime.outputs import check_outputs, read_outputs
from tests.export.tiny import faster_rcnn, mask_rcnn

PLAIN = make_header(faster_rcnn(), "plain", None)
ROWS = make_header(faster_rcnn(), "tao", None)
DETECTION_ROWS = make_header(mask_rcnn(), "tao", None)


def plain():
    return {
        "boxes": np.array([[[1, 2, 3, 4], [0, 0, 0, 0]]], np.float32),
        "scores": np.array([[0.5, 0.0]], np.float32),
        "classes": np.array([[2, 0]], np.int32),
        "valid": np.array([[True, False]]),
    }


def detection_rows():
    """Two rows of a batch of one: class 2 of the file is class 1, -1 is none."""
    rows = np.array([[[1, 2, 3, 4, 2, 0.75], [0, 0, 0, 0, -1, 0]]], np.float32)
    masks = np.zeros((1, 2, 4, 2, 2), np.float32)
    masks[0, 0, 2] = 100.0  # logits of the class that was detected
    return {DETECTIONS: rows, MASKS: masks}


def test_plain_outputs_are_taken_as_they_are():
    detections = read_outputs(plain(), PLAIN)
    for name, array in plain().items():
        np.testing.assert_array_equal(getattr(detections, name), array)
    assert detections.masks is None


def test_rows_of_detections_count_classes_from_one_and_have_a_mask_of_every_class():
    detections = read_outputs(detection_rows(), DETECTION_ROWS)
    assert detections.valid.tolist() == [[True, False]]
    assert detections.classes.tolist() == [[1, 0]] and detections.scores[0, 0] == 0.75
    assert detections.boxes[0, 0].tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(detections.masks[0, 0], 1.0)
    check_outputs(detection_rows(), 1, DETECTION_ROWS, "a.onnx")


def changed(outputs, **arrays):
    return {**outputs, **arrays}


@pytest.mark.parametrize(
    ("outputs", "header", "text"),
    [
        ({"x": np.zeros(3)}, PLAIN, "its outputs are x, which are not those of a faster_rcnn"),
        ({"a": np.zeros((1, 1, 2, 7)), "b": np.zeros(1), "c": np.zeros(1)}, ROWS, "not those of a"),
        (changed(plain(), scores=np.zeros((1, 3), np.float32)), PLAIN, "scores float32\\[1, 3\\]"),
        (changed(plain(), classes=np.zeros((1, 2), np.float32)), PLAIN, "classes float32"),
        (changed(plain(), classes=np.array([[3, 0]], np.int32)), PLAIN, "none of the 3 of its header"),
        (changed(plain(), classes=np.array([[-1, 0]], np.int32)), PLAIN, "none of the 3"),
        (changed(plain(), scores=np.array([[np.nan, 0]], np.float32)), PLAIN, "a.onnx: "),
        (
            {DETECTIONS: detection_rows()[DETECTIONS] + np.float32(2)},
            DETECTION_ROWS,
            "none of the 3",
        ),
        ({DETECTIONS: detection_rows()[DETECTIONS] * np.nan}, DETECTION_ROWS, "none of the 3"),
        (changed(detection_rows(), **{MASKS: np.zeros((1, 2, 3, 2, 2), np.float32)}), DETECTION_ROWS,
         "are not those of a mask_rcnn"),
    ],
)  # fmt: skip
def test_outputs_of_another_graph_are_refused(outputs, header, text):
    with pytest.raises(CheckpointError, match=text):
        check_outputs(outputs, 1, header, "a.onnx")


def test_a_batch_of_another_size_is_refused():
    with pytest.raises(CheckpointError, match="are not those of a"):
        check_outputs(plain(), 2, PLAIN, "a.onnx")


def nms_rows(rows, count):
    """Rows (image, label, score, x1, y1, x2, y2) in fractions of the canvas, and how many count."""
    array = np.array(rows, np.float32).reshape(1, 1, -1, 7)
    return {"NMS": array, "NMS_1": np.array(count, np.int32).reshape(1, 1, 1, 1)}


TWO = [[0, 2, 0.75, 0.25, 0.25, 0.5, 0.5], [0, 0, 0.5, 0, 0, 1, 1]]
JUNK = [[0, 7, 0.9, 0, 0, 1, 1], [np.nan] * 7, [0, 1e30, np.inf, 0, 0, 1, 1]]


@pytest.mark.parametrize("padding", [[], JUNK[:1], JUNK], ids=["cut", "padded", "junk"])
def test_the_count_decides_how_many_rows_are_detections(padding):
    """One runtime cuts its outputs, another pads them, with zeros or with what its memory held."""
    outputs = nms_rows([*TWO, *padding], 2)
    check_outputs(outputs, 1, ROWS, "a.onnx")
    detections = read_outputs(outputs, ROWS)
    assert detections.valid.tolist() == [[True, True] + [False] * len(padding)]
    keep = detections.valid
    assert detections.classes[keep].tolist() == [2, 0]
    assert detections.scores[keep].tolist() == [0.75, 0.5]
    height, width = ROWS.canvas
    np.testing.assert_allclose(
        detections.boxes[keep],
        [[height / 4, width / 4, height / 2, width / 2], [0, 0, height, width]],
    )


def test_an_output_cut_below_its_count_has_the_rows_that_are_there():
    outputs = nms_rows(TWO[:1], 2)
    check_outputs(outputs, 1, ROWS, "a.onnx")
    assert read_outputs(outputs, ROWS).valid.tolist() == [[True]]


@pytest.mark.parametrize("row", [JUNK[0], JUNK[1], JUNK[2]])
def test_a_counted_row_that_is_no_detection_is_refused(row):
    with pytest.raises(CheckpointError, match=r"none of the 3|not finite"):
        check_outputs(nms_rows([*TWO, row], 3), 1, ROWS, "a.onnx")


def test_marked_rows_of_other_contracts_may_be_cut_and_padded_too():
    whole, cut = plain(), {name: array[:, :1] for name, array in plain().items()}
    padded = {
        "boxes": np.concatenate([whole["boxes"], np.full((1, 1, 4), np.nan, np.float32)], axis=1),
        "scores": np.array([[0.5, 0.0, np.nan]], np.float32),
        "classes": np.array([[2, 0, 99]], np.int32),
        "valid": np.array([[True, False, False]]),
    }
    rows = detection_rows()
    shorter = {DETECTIONS: rows[DETECTIONS][:, :1], MASKS: rows[MASKS][:, :1]}
    for outputs, header in ((cut, PLAIN), (padded, PLAIN), (shorter, DETECTION_ROWS)):
        check_outputs(outputs, 1, header, "a.onnx")
        detections = read_outputs(outputs, header)
        assert detections.valid.sum() == 1
        assert detections.boxes[detections.valid].tolist() == [[1, 2, 3, 4]]
