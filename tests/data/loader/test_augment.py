import cv2
import numpy as np
import pytest

from rcnn_jax.data.loader import augment, images
from rcnn_jax.data.loader.plan import AUGMENT, generator
from rcnn_jax.settings.data import AugmentSettings, GeometrySettings
from tests.data.loader.test_images import box_of, painted

SIZE = (70, 90)


def draw(settings, record=0, size=SIZE):
    return augment.draw(generator(1, AUGMENT, 0, record), settings, size)


def test_default_settings_change_nothing():
    drawn = draw(AugmentSettings())
    assert drawn.matrix is None and drawn.colors is None


def test_horizontal_flip_mirrors_the_valid_part():
    matrix = draw(AugmentSettings(hflip_probability=1.0)).matrix
    np.testing.assert_array_equal(matrix @ (0, 0, 1), (90, 0, 1))
    np.testing.assert_array_equal(matrix @ (90, 70, 1), (0, 70, 1))


def test_vertical_flip_mirrors_the_valid_part():
    matrix = draw(AugmentSettings(vflip_probability=1.0)).matrix
    np.testing.assert_array_equal(matrix @ (0, 0, 1), (0, 70, 1))


def test_a_probability_is_met():
    settings = AugmentSettings(hflip_probability=0.3)
    flips = sum(draw(settings, record).matrix is not None for record in range(1000))
    assert 250 < flips < 350  # three deviations are 43


def test_translation_is_whole_and_reaches_both_ends():
    settings = AugmentSettings(translate_max_x=2, translate_max_y=1)
    moves = [draw(settings, record).matrix for record in range(300)]
    shifts = {(0, 0) if m is None else tuple(m[:2, 2].tolist()) for m in moves}
    assert shifts == {(x, y) for x in range(-2, 3) for y in range(-1, 2)}


@pytest.mark.parametrize("zoom", [1.5, 0.5])
def test_zoom_shows_a_window_that_lies_inside(zoom):
    settings = AugmentSettings(zoom_min=zoom, zoom_max=zoom)
    for record in range(20):
        matrix = draw(settings, record).matrix
        first, last = matrix @ (0, 0, 1), matrix @ (90, 70, 1)
        np.testing.assert_allclose((last - first)[:2], (90 * zoom, 70 * zoom))
        inner, outer = ((0, 0), (90, 70)) if zoom > 1 else (first[:2], last[:2])
        low, high = (first[:2], last[:2]) if zoom > 1 else ((0, 0), (90, 70))
        assert np.all(low <= np.add(inner, 1e-9)) and np.all(np.subtract(outer, 1e-9) <= high)


def test_rotation_keeps_the_centre_and_lengths():
    matrix = draw(AugmentSettings(rotate_max_degrees=30)).matrix
    np.testing.assert_allclose(matrix @ (45, 35, 1), (45, 35, 1))
    np.testing.assert_allclose(np.linalg.det(matrix), 1)
    angles = [
        np.rad2deg(np.arcsin(draw(AugmentSettings(rotate_max_degrees=30), i).matrix[1, 0]))
        for i in range(200)
    ]
    assert -30 <= min(angles) < -25 and 25 < max(angles) <= 30


def test_rotation_has_a_probability():
    settings = AugmentSettings(rotate_max_degrees=30, rotate_probability=0.0)
    assert draw(settings).matrix is None


MOVES = [
    AugmentSettings(hflip_probability=1.0),
    AugmentSettings(vflip_probability=1.0),
    AugmentSettings(translate_max_x=20, translate_max_y=15),
    AugmentSettings(zoom_min=0.6, zoom_max=1.6),
    AugmentSettings(
        hflip_probability=0.5,
        vflip_probability=0.5,
        translate_max_x=8,
        translate_max_y=8,
        zoom_min=0.8,
        zoom_max=1.3,
    ),
]
FITS = [
    GeometrySettings(mode="pad_crop", height=80, width=100),
    GeometrySettings(mode="keep_aspect", height=96, width=128),
    GeometrySettings(mode="stretch", height=25, width=30),
]


@pytest.mark.parametrize("geometry", FITS, ids=lambda g: g.mode)
@pytest.mark.parametrize("settings", MOVES, ids=range(len(MOVES)))
def test_painted_rectangles_follow_their_boxes(settings, geometry):
    box = (18, 22, 50, 65)
    placed = images.fit(SIZE, geometry)
    for record in range(8):
        drawn = draw(settings, record, placed.image_size)
        moved = placed if drawn.matrix is None else images.move(placed, drawn.matrix)
        canvas = images.apply_image(painted(*SIZE, box), moved)
        boxes = images.apply_boxes(np.float32([box]), moved.matrix)
        expected = images.clip_boxes(boxes, (0, 0, *placed.image_size))[0]
        np.testing.assert_allclose(box_of(canvas), expected, atol=1.0)


def test_turned_rectangles_stay_inside_their_boxes_and_touch_them():
    box = (18, 22, 50, 65)
    placed = images.fit(SIZE, FITS[0])
    for record in range(8):
        matrix = draw(AugmentSettings(rotate_max_degrees=20), record).matrix
        moved = images.move(placed, matrix)
        actual = box_of(images.apply_image(painted(*SIZE, box), moved))
        expected = images.apply_boxes(np.float32([box]), moved.matrix)[0]
        expected = images.clip_boxes(expected[None], (0, 0, *SIZE))[0]
        # half-covered pixels at a sharp corner fall below one half: up to 1.5 pixels
        np.testing.assert_allclose(actual, expected, atol=1.5)


def test_multi_scale_shrinks_the_whole_image_into_the_top_left_corner():
    geometry = GeometrySettings(mode="keep_aspect", height=96, width=128)
    placed, box = images.fit(SIZE, geometry), (18, 22, 50, 65)
    settings = AugmentSettings(shrink_min=0.5, hflip_probability=0.5)
    scales = []
    for record in range(60):
        drawn = draw(settings, record, placed.image_size)
        scales.append(drawn.size[0] / placed.image_size[0])
        np.testing.assert_allclose(drawn.size, np.multiply(placed.image_size, scales[-1]), atol=1.0)
        moved = images.move(placed, drawn.matrix, drawn.size)
        corners = images.apply_boxes(np.float32([[0, 0, *SIZE]]), moved.matrix)[0]
        np.testing.assert_allclose(corners, (0, 0, *drawn.size), atol=1e-4)
        canvas = images.apply_image(painted(*SIZE, box), moved)
        assert not canvas[drawn.size[0] :].any() and not canvas[:, drawn.size[1] :].any()
        wanted = images.apply_boxes(np.float32([box]), moved.matrix)[0]
        np.testing.assert_allclose(box_of(canvas), wanted, atol=1.0)
    assert 0.5 <= min(scales) < 0.55 and 0.95 < max(scales) <= 1.0


def test_multi_scale_leaves_the_draws_of_other_changes_alone():
    settings = {"hflip_probability": 0.5, "translate_max_x": 9, "brightness_stddev": 0.1}
    for record in range(10):
        without = draw(AugmentSettings(**settings), record)
        with_it = draw(AugmentSettings(**settings, shrink_min=0.999), record)
        assert with_it.size == without.size == SIZE
        np.testing.assert_array_equal(with_it.matrix, without.matrix)
        np.testing.assert_array_equal(with_it.colors, without.colors)


def test_padding_stays_padding_under_every_move():
    placed = images.fit((40, 60), GeometrySettings(mode="pad_crop", height=64, width=96))
    settings = AugmentSettings(
        hflip_probability=0.5, translate_max_x=30, zoom_min=1, zoom_max=2, rotate_max_degrees=40
    )
    white = np.full((40, 60, 3), 255, np.uint8)
    for record in range(10):
        drawn = draw(settings, record, placed.image_size)
        canvas = images.apply_image(white, images.move(placed, drawn.matrix))
        assert not canvas[40:].any() and not canvas[:, 60:].any()


COLORS = AugmentSettings(
    brightness_stddev=0.1, hue_rotation_max=25, saturation_shift_max=0.2, contrast_scale_max=0.1
)


def test_brightness_adds_one_offset_within_two_deviations():
    offsets = []
    for record in range(200):
        colors = draw(AugmentSettings(brightness_stddev=0.1), record).colors
        np.testing.assert_allclose(colors[:, :3], np.eye(3), atol=1e-12)
        np.testing.assert_allclose(colors[:, 3], colors[0, 3])
        offsets.append(colors[0, 3] / 255)
    assert -0.2 <= min(offsets) < -0.15 and 0.15 < max(offsets) <= 0.2


def test_contrast_leaves_its_centre_alone():
    colors = draw(AugmentSettings(contrast_scale_max=0.5, contrast_center=0.25)).colors
    grey = np.array([63.75, 63.75, 63.75, 1])
    np.testing.assert_allclose(colors @ grey, grey[:3])
    assert abs(colors[0, 0] - 1) > 1e-3


def test_hue_and_saturation_keep_grey_and_luma():
    colors = draw(AugmentSettings(hue_rotation_max=90, saturation_shift_max=0.5)).colors
    np.testing.assert_allclose(colors @ (80, 80, 80, 1), (80, 80, 80))
    pixel = np.array([200.0, 30, 90])
    moved = colors @ (*pixel, 1)
    assert np.abs(moved - pixel).max() > 1
    np.testing.assert_allclose(augment.LUMA @ moved, augment.LUMA @ pixel)


def test_zero_saturation_would_be_grey():
    colors = augment._colors(brightness=0, degrees=0, saturation=0, contrast=0, center=0.5)
    np.testing.assert_allclose(colors[:, :3], np.tile(augment.LUMA, (3, 1)), atol=1e-12)


def test_colours_are_clamped_and_rounded_like_the_numpy_reference():
    pixels = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    colors = np.array([[1.5, 0.2, 0, -30.0], [0, 0.7, 0.1, 12.0], [0.3, 0, 1.2, 0.0]])
    expected = np.clip(np.rint(pixels @ colors[:, :3].T + colors[:, 3]), 0, 255)
    augment.apply_colors(pixels, colors, "rgb")
    assert np.abs(pixels - expected).max() <= 1  # OpenCV multiplies in fixed point


def test_colours_do_not_depend_on_the_channel_order():
    rgb = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    colors = draw(COLORS).colors
    augment.apply_colors(rgb, colors, "rgb")
    augment.apply_colors(bgr, colors, "bgr")
    np.testing.assert_array_equal(rgb, bgr[..., ::-1])


def test_grey_images_have_no_colours_to_change():
    grey = np.full((4, 4, 1), 9, np.uint8)
    augment.apply_colors(grey, draw(COLORS).colors, "l")
    assert (grey == 9).all()


def test_in_place_colours_equal_colours_on_a_copy():
    batch = np.random.default_rng(0).integers(0, 256, (2, 9, 11, 3), np.uint8)
    colors = draw(COLORS).colors
    expected = cv2.transform(batch[1, :5, :7].copy(), colors.astype(np.float32))
    augment.apply_colors(batch[1, :5, :7], colors, "rgb")
    np.testing.assert_array_equal(batch[1, :5, :7], expected)


def test_the_same_record_and_epoch_draw_the_same():
    settings = AugmentSettings(rotate_max_degrees=5, brightness_stddev=0.1)
    a, b, c = draw(settings, 3), draw(settings, 3), draw(settings, 4)
    np.testing.assert_array_equal(a.matrix, b.matrix)
    np.testing.assert_array_equal(a.colors, b.colors)
    assert not np.array_equal(a.matrix, c.matrix)
