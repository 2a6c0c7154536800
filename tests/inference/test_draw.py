import cv2
import numpy as np
import pytest

from rcnn_jax.evaluate.masks import paste_masks
from rcnn_jax.evaluate.palette import class_color
from rcnn_jax.inference.draw import draw, line_width, text_height

NAMES = ["cat", "dog"]


def gray(height, width):
    return np.full((height, width, 3), 128, np.uint8)


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def test_the_picture_itself_is_left_unchanged():
    image = gray(60, 80)
    drawn = draw(image, boxes((5, 5, 50, 60)), np.array([0.9]), [0], NAMES, captions=True)
    assert (image == 128).all()
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert (drawn != 128).any()


def test_without_detections_the_copy_equals_the_picture():
    image = gray(40, 40)
    drawn = draw(image, boxes(), np.zeros(0), [], NAMES, captions=True, masks=[])
    np.testing.assert_array_equal(drawn, image)
    assert drawn is not image


def test_edges_lie_inside_the_box_in_the_colour_of_its_class():
    drawn = draw(gray(60, 80), boxes((10, 20, 30, 50)), np.array([0.9]), [1], NAMES, captions=False)
    painted = (drawn != 128).any(axis=2)
    expected = np.zeros((60, 80), bool)
    expected[10:30, 20:50] = True
    expected[11:29, 21:49] = False
    np.testing.assert_array_equal(painted, expected)
    assert tuple(drawn[10, 20]) == class_color(1)


def test_the_best_detection_lies_on_top():
    both = boxes((10, 10, 40, 40), (10, 10, 40, 40))
    drawn = draw(gray(60, 60), both, np.array([0.2, 0.9]), [0, 1], NAMES, captions=False)
    assert tuple(drawn[10, 25]) == class_color(1)


def test_boxes_beyond_the_picture_are_drawn_at_its_border():
    for box in ((-50, -50, 500, 500), (70, 70, 90, 90), (-9, -9, -1, -1), (5, 5, 5, 5)):
        drawn = draw(gray(60, 60), boxes(box), np.array([0.9]), [0], NAMES, captions=True)
        assert drawn.shape == (60, 60, 3)
    framed = draw(gray(60, 60), boxes((-5, -5, 99, 99)), None, [0], NAMES, captions=False)
    assert (framed[[0, -1]] == class_color(0)).all()
    assert (framed[:, [0, -1]] == class_color(0)).all()


@pytest.mark.parametrize("side", [16, 64, 300, 1200])
def test_captions_stay_inside_and_are_legible_at_every_size(side):
    drawn = draw(
        gray(side, side),
        boxes((0.4 * side, 0.5 * side, 0.9 * side, 0.95 * side)),
        np.array([0.87]),
        [0],
        NAMES,
        captions=True,
    )
    tag = (drawn == class_color(0)).all(axis=2)
    assert tag[: int(0.4 * side)].sum() > 20


def test_sizes_follow_the_picture():
    assert line_width(64, 64) == 1
    assert text_height(64, 64) == 6
    assert (line_width(480, 640), text_height(480, 640)) == (2, 11)
    assert line_width(5000, 8000) > 15
    assert text_height(5000, 8000) > 70


def test_a_mask_tints_its_pixels_and_leaves_the_others():
    mask = np.zeros((80, 80), bool)
    mask[20:60, 20:60] = True
    rle = paste_masks(np.ones((1, 400, 400)), boxes((20, 20, 60, 60)), (80, 80))
    as_array = draw(
        gray(80, 80), boxes((10, 10, 70, 70)), None, [0], NAMES, captions=False, masks=[mask]
    )
    as_rle = draw(
        gray(80, 80), boxes((10, 10, 70, 70)), None, [0], NAMES, captions=False, masks=rle
    )
    np.testing.assert_array_equal(as_array, as_rle)
    tinted = 0.55 * 128 + 0.45 * np.array(class_color(0))
    np.testing.assert_allclose(as_array[40, 40], tinted, atol=1)
    assert (as_array[15, 15] == 128).all()
    # The outline is smoothed, hence not quite the colour itself.
    np.testing.assert_allclose(as_array[20, 40], class_color(0), atol=15)


def test_an_empty_mask_changes_nothing():
    empty = np.zeros((50, 50), bool)
    one = boxes((5, 5, 40, 40))
    np.testing.assert_array_equal(
        draw(gray(50, 50), one, None, [0], NAMES, captions=False, masks=[empty]),
        draw(gray(50, 50), one, None, [0], NAMES, captions=False),
    )


def test_pictures_that_are_not_rgb_bytes_are_an_error():
    with pytest.raises(ValueError, match=r"image is uint8\[5, 5\], expected uint8\[h w 3\]"):
        draw(np.zeros((5, 5), np.uint8), boxes(), None, [], NAMES, captions=False)


def test_real_pictures_are_drawn_at_thumbnail_and_poster_size(shared):
    photo = cv2.imread(str(shared / "data" / "demo" / "chelsea.jpg"))[..., ::-1]
    for width in (64, 2000):
        scale = width / photo.shape[1]
        image = cv2.resize(photo, None, fx=scale, fy=scale)
        drawn = draw(
            image, scale * boxes((30, 100, 250, 360)), np.array([0.97]), [0], NAMES, captions=True
        )
        changed = (drawn != image).any(axis=2).mean()
        assert 0.005 < changed < 0.35
