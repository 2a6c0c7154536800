from pathlib import Path

import cv2
import numpy as np
import pytest

from rcnn_jax.data.loader import images
from rcnn_jax.errors import DataError
from rcnn_jax.settings.data import GeometrySettings

RNG = np.random.default_rng(0)


def noise(height, width, channels=3):
    return RNG.integers(0, 256, (height, width, channels), np.uint8)


def painted(height, width, box):
    image = np.zeros((height, width, 3), np.uint8)
    y1, x1, y2, x2 = box
    image[y1:y2, x1:x2] = 255
    return image


def box_of(pixels):
    """The (y1, x1, y2, x2) around pixels that are at least half white."""
    ys, xs = np.nonzero(pixels[..., 0] >= 128)
    return np.array([ys.min(), xs.min(), ys.max() + 1, xs.max() + 1], np.float32)


def pad_crop(height, width, **more):
    return GeometrySettings(mode="pad_crop", height=height, width=width, **more)


SHORT = GeometrySettings(mode="short_side", short_side=60, long_side=100, multiple=32)


def test_pad_crop_keeps_pixels_and_pads_bottom_and_right():
    image = noise(3, 5)
    canvas = images.apply_image(image, images.fit((3, 5), pad_crop(4, 4)))
    np.testing.assert_array_equal(canvas[:3], image[:, :4])
    assert not canvas[3].any()


def test_pad_crop_reports_the_part_that_is_not_padding():
    placed = images.fit((3, 5), pad_crop(4, 4))
    assert placed.image_size == (3, 4)
    assert placed.scale == (1.0, 1.0)


def test_crop_keeps_its_window_and_blanks_the_rest():
    image = noise(10, 12)
    placed = images.fit((10, 12), pad_crop(8, 8, crop=(2, 3, 7, 9)))
    canvas = images.apply_image(image, placed)
    assert placed.image_size == (5, 6)
    np.testing.assert_array_equal(canvas[:5, :6], image[2:7, 3:9])
    assert not canvas[5:].any() and not canvas[:, 6:].any()


def test_a_crop_outside_the_image_is_an_error():
    with pytest.raises(DataError, match="10x12 pixels .* has nothing inside the crop at top=20"):
        images.fit((10, 12), pad_crop(8, 8, crop=(20, 0, 28, 8)))


def test_prescale_comes_before_crop():
    placed = images.fit((10, 10), pad_crop(8, 8, prescale=(20, 40), crop=(4, 8, 12, 16)))
    assert placed.scale == (2.0, 4.0)
    moved = images.apply_boxes(np.float32([[2, 2, 6, 4]]), placed.matrix)
    np.testing.assert_array_equal(moved, [[0, 0, 8, 8]])


def test_a_crop_within_one_magnified_pixel_shows_that_pixel():
    image = noise(3, 3)
    placed = images.fit((3, 3), pad_crop(4, 4, prescale=(30, 30), crop=(12, 13, 14, 15)))
    canvas = images.apply_image(image, placed)
    assert placed.image_size == (2, 2)
    assert (canvas[:2, :2] == image[1, 1]).all()
    assert not canvas[2:].any() and not canvas[:, 2:].any()


def test_stretch_scales_each_axis():
    geometry = GeometrySettings(mode="stretch", height=20, width=10)
    placed = images.fit((10, 20), geometry)
    assert (placed.scale, placed.image_size) == ((2.0, 0.5), (20, 10))
    image = noise(10, 20)
    small = cv2.resize(image, (10, 10), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(images.apply_image(image, placed), cv2.resize(small, (10, 20)))


def test_keep_aspect_rounds_down_and_fills_the_deciding_side():
    geometry = GeometrySettings(mode="keep_aspect", height=832, width=1344)
    assert images.fit((480, 640), geometry).image_size == (832, 1109)  # 640 * 832 / 480 = 1109.33
    assert images.fit((333, 1000), geometry).image_size == (447, 1344)  # 333 * 1.344 = 447.55
    assert images.fit((1664, 2688), geometry).image_size == (832, 1344)


def test_short_side_obeys_the_limit_of_the_long_side():
    assert images.fit((120, 160), SHORT).image_size == (60, 80)
    assert images.fit((100, 400), SHORT).image_size == (25, 100)


def test_short_side_takes_the_smallest_bucket_that_holds_the_image():
    buckets = ((64, 128), (64, 96), (128, 128))
    assert images.fit((120, 160), SHORT, buckets).canvas == (64, 96)
    assert images.fit((160, 120), SHORT, buckets).canvas == (128, 128)
    assert images.fit((120, 160), SHORT).canvas == (64, 96)


GEOMETRIES = [
    pad_crop(70, 90),
    pad_crop(64, 64, prescale=(90, 100), crop=(5, 7, 60, 66)),
    GeometrySettings(mode="stretch", height=96, width=64),
    GeometrySettings(mode="stretch", height=19, width=23),
    GeometrySettings(mode="keep_aspect", height=96, width=128),
    SHORT,
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: f"{g.mode}-{g.height}")
def test_boxes_follow_pixels(geometry):
    box = (13, 20, 45, 61)
    placed = images.fit((70, 80), geometry)
    canvas = images.apply_image(painted(70, 80, box), placed)
    moved = images.apply_boxes(np.float32([box]), placed.matrix)
    expected = images.clip_boxes(moved, (0, 0, *placed.image_size))[0]
    np.testing.assert_allclose(box_of(canvas), expected, atol=1.0)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: f"{g.mode}-{g.height}")
def test_boxes_come_back_to_the_source(geometry):
    boxes = np.float32([[13, 20, 45, 61], [20, 22, 30, 40]])
    placed = images.fit((70, 80), geometry)
    there = images.apply_boxes(boxes, placed.matrix)
    back = images.boxes_to_source(there, placed.scale, (70, 80), images.origin(geometry))
    np.testing.assert_allclose(back, boxes, atol=1e-4)


def test_boxes_to_source_clips_to_the_image():
    boxes = images.boxes_to_source(np.float32([[-4, 2, 90, 300]]), (2.0, 2.0), (40, 100))
    np.testing.assert_array_equal(boxes, [[0, 1, 40, 100]])


def test_a_turned_box_is_the_box_around_its_corners():
    quarter = np.array([[0.0, -1.0, 10.0], [1.0, 0.0, 0.0]])  # (x, y) -> (10 - y, x)
    boxes = images.apply_boxes(np.float32([[1, 2, 3, 6]]), quarter)
    np.testing.assert_array_equal(boxes, [[2, 7, 6, 9]])


@pytest.mark.parametrize("channels", [1, 3])
def test_flips_and_whole_shifts_move_pixels_without_resampling(channels):
    image = noise(6, 8, channels)
    placed = images.fit((6, 8), pad_crop(6, 8))
    mirror = np.array([[-1.0, 0, 8 + 3], [0, -1, 6 - 2], [0, 0, 1]])
    canvas = images.apply_image(image, images.move(placed, mirror))
    expected = np.zeros_like(image)
    expected[:4, 3:] = image[::-1, ::-1][2:, :5]
    np.testing.assert_array_equal(canvas, expected)


def test_an_image_moved_away_leaves_zeros():
    placed = images.fit((6, 8), pad_crop(6, 8))
    away = np.array([[1.0, 0, 50], [0, 1, 0], [0, 0, 1]])
    assert not images.apply_image(noise(6, 8), images.move(placed, away)).any()


def test_warping_agrees_with_a_bilinear_numpy_reference():
    image = noise(9, 11)
    matrix = np.array([[1.1, 0.2, -1.5], [-0.3, 0.9, 2.0]])
    out = np.zeros((10, 12, 3), np.uint8)
    images.resample(image, matrix, out)
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    padded = np.pad(image.astype(float), ((1, 2), (1, 2), (0, 0)))
    for row in range(10):
        for column in range(12):
            x, y, _ = inverse @ (column + 0.5, row + 0.5, 1) - (0.5, 0.5, 0)
            if not (-1 < x < 11 and -1 < y < 9):
                assert not out[row, column].any()
                continue
            left, top = int(np.floor(x)), int(np.floor(y))
            fx, fy = x - left, y - top
            cell = padded[top + 1 : top + 3, left + 1 : left + 3]
            value = np.tensordot(np.outer([1 - fy, fy], [1 - fx, fx]), cell, 2)
            # OpenCV may quantise positions to 1/32 pixel: at most 2 * 255 / 64 between neighbours
            assert np.abs(out[row, column] - value).max() <= 9


def test_strong_shrinking_averages_instead_of_skipping():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::4] = 255  # every fourth column: the mean is 63.75
    placed = images.fit((64, 64), GeometrySettings(mode="stretch", height=16, width=16))
    assert np.abs(images.apply_image(stripes, placed).astype(int) - 64).max() <= 1


def test_drawing_on_a_view_gives_the_same_pixels():
    image, placed = (
        noise(20, 30),
        images.fit((20, 30), GeometrySettings(mode="stretch", height=33, width=17)),
    )
    batch = np.zeros((2, 33, 17, 3), np.uint8)
    images.apply_image(image, placed, batch[1])
    np.testing.assert_array_equal(batch[1], images.apply_image(image, placed))
    assert not batch[0].any()


def test_channel_orders_are_permutations_of_each_other(tmp_path):
    path = tmp_path / "a.png"
    pixels = noise(4, 5)
    cv2.imwrite(str(path), pixels)
    np.testing.assert_array_equal(images.read_image(path, "bgr"), pixels)
    np.testing.assert_array_equal(images.read_image(path, "rgb"), pixels[..., ::-1])
    assert images.read_image(path, "l").shape == (4, 5, 1)
    np.testing.assert_array_equal(images.read_image(path.read_bytes(), "bgr"), pixels)


def test_exif_orientation_is_ignored():
    ok, jpeg = cv2.imencode(".jpg", noise(8, 16))
    # an APP1 segment that says "rotate by 90 degrees": one TIFF entry 0x0112 = 6
    tiff = bytes.fromhex("4d4d002a00000008000101120003000000010006000000000000")
    payload = b"Exif\x00\x00" + tiff
    segment = b"\xff\xe1" + (len(payload) + 2).to_bytes(2, "big") + payload
    rotated = jpeg.tobytes()[:2] + segment + jpeg.tobytes()[2:]
    assert cv2.imdecode(np.frombuffer(rotated, np.uint8), cv2.IMREAD_COLOR).shape == (16, 8, 3)
    assert images.read_image(rotated, "rgb").shape == (8, 16, 3)


def test_a_missing_image_is_named():
    with pytest.raises(
        DataError, match="nowhere/a.jpg: cannot read the image: No such file .*check the folder"
    ):
        images.read_image(Path("nowhere/a.jpg"), "rgb")


@pytest.mark.parametrize(
    ("content", "problem"), [(b"", "is empty"), (b"not an image", "is not an image, or is damaged")]
)
def test_a_damaged_image_is_named(tmp_path, content, problem):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"a.jpg: {problem}"):
        images.read_image(path, "rgb")


def test_the_size_of_an_image_is_compared_with_its_annotation():
    with pytest.raises(DataError, match="x.jpg: the image is 4x6 .* made for 6x4"):
        images.check_size(noise(4, 6), (6, 4), "x.jpg")
