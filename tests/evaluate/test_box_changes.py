"""Changes of boxes, checked on pixels: a change of labels equals that of the picture they lie on."""

import numpy as np
import pytest

from rcnn_jax.evaluate.box_changes import (
    changed,
    from_size,
    move_detections,
    move_labels,
    relabelled,
    to_size,
    turn_90,
    turn_180,
    turn_270,
    unsound,
)
from rcnn_jax.evaluate.voc import ImageResult

SIZE = (6, 9)  # height, width
BOXES = np.float32([[1, 2, 3, 8], [0, 0, 6, 9], [4, 7, 6, 8]])


def result(boxes=BOXES, classes=(0, 1, 2)):
    return ImageResult(
        boxes=boxes,
        scores=np.linspace(0.9, 0.5, len(boxes), dtype=np.float32),
        classes=np.asarray(classes),
        gt_boxes=boxes,
        gt_classes=np.asarray(classes),
        gt_crowd=np.zeros(len(boxes), bool),
    )


def drawn(box, size):
    """bool[h w], the pixels inside a box of whole numbers."""
    y1, x1, y2, x2 = box.astype(int)
    picture = np.zeros(size, bool)
    picture[y1:y2, x1:x2] = True
    return picture


@pytest.mark.parametrize(
    ("turn", "quarters"),
    [(turn_180, 2), (turn_90, 1), (turn_270, -1)],
)
def test_labels_of_a_turned_picture_come_back_to_the_stored_pixels(turn, quarters):
    # np.rot90 turns counterclockwise: the picture as a viewer turned it clockwise is rot90(-1).
    shown = [np.rot90(drawn(box, SIZE), -quarters) for box in BOXES]
    labels = np.float32([_box_of(picture) for picture in shown])
    np.testing.assert_array_equal(turn(labels, SIZE), BOXES)


def _box_of(picture):
    rows, columns = np.flatnonzero(picture.any(1)), np.flatnonzero(picture.any(0))
    return [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]


def test_sizes_read_as_corners_and_corners_read_as_sizes_undo_each_other():
    np.testing.assert_array_equal(to_size(BOXES, SIZE), [[1, 2, 2, 6], [0, 0, 6, 9], [4, 7, 2, 1]])
    np.testing.assert_array_equal(from_size(to_size(BOXES, SIZE), SIZE), BOXES)


def test_labels_and_detections_move_apart_from_each_other():
    original = result()
    for change, moved, left in (
        (move_labels(lambda boxes, size: boxes + 1), "gt_boxes", "boxes"),
        (move_detections(lambda boxes, size: boxes * size[0]), "boxes", "gt_boxes"),
    ):
        (image,) = changed([original], [SIZE], change)
        assert getattr(image, left) is getattr(original, left)
        assert not np.array_equal(getattr(image, moved), BOXES)
    np.testing.assert_array_equal(image.boxes, BOXES * 6)
    np.testing.assert_array_equal(original.boxes, BOXES)  # what was given stays


def test_every_image_is_changed_by_its_own_size():
    images = changed([result(), result()], [(10, 20), (30, 40)], move_labels(turn_180))
    assert [image.gt_boxes[1].tolist() for image in images] == [[4, 11, 10, 20], [24, 31, 30, 40]]


def test_numbers_that_no_box_has_become_finite():
    odd = np.float32([[np.nan, -np.inf, np.inf, 1]])
    (image,) = changed([result(odd, [0])], [SIZE], move_labels(lambda boxes, _: boxes))
    assert np.isfinite(image.gt_boxes).all() and image.gt_boxes.dtype == np.float32


def test_labels_get_the_class_at_their_number():
    (image,) = changed([result()], [SIZE], relabelled([2, 0, 1]))
    assert image.gt_classes.tolist() == [2, 0, 1]
    assert image.classes.tolist() == [0, 1, 2]


def test_unsound_boxes_are_empty_or_far_outside_their_own_image():
    inside, rim = [0, 0, 6, 9], [-2, -2, 8, 11]  # two pixels are rounding
    empty, beyond = [3, 3, 3, 5], [0, 0, 6, 12]
    assert unsound([np.float32([inside, rim, empty, beyond])], [SIZE]) == 0.5
    assert unsound([np.float32([beyond]), np.float32([beyond])], [SIZE, (6, 12)]) == 0.5
    assert unsound([np.zeros((0, 4), np.float32)], [SIZE]) == 0.0
