import numpy as np
import pytest

from rcnn_jax.inference.captions import draw_tag, make_tag, place_tags


def layout(corners, size=(200, 300), text="cat"):
    tags = [make_tag(text, " 0.97", 10, size[1]) for _ in corners]
    positions = place_tags(tags, corners, size, 2)
    sizes = [tag.ink.shape for tag in tags]
    drawn = [(size, at) for size, at in zip(sizes, positions, strict=True) if at is not None]
    return [(y, x, y + h, x + w) for (h, w), (y, x) in drawn]


def test_a_caption_stands_above_its_box():
    ((top, left, bottom, _),) = layout([(100, 50, 150, 200)])
    assert (bottom, left) == (100, 50)
    assert top > 0


def test_a_caption_without_room_above_stands_inside_its_box():
    ((top, left, _, _),) = layout([(3, 50, 150, 200)])
    assert (top, left) == (5, 50)


def test_captions_of_equal_boxes_do_not_cover_each_other():
    rectangles = layout([(60, 60, 160, 250)] * 8)
    assert len(rectangles) == 8
    for index, (y1, x1, y2, x2) in enumerate(rectangles):
        for v1, u1, v2, u2 in rectangles[:index]:
            assert min(y2, v2) <= max(y1, v1) or min(x2, u2) <= max(x1, u1)


def test_a_caption_that_would_hide_another_object_is_left_out():
    small, large = (100, 60, 109, 69), (20, 20, 199, 280)
    assert len(layout([(110, 55, 119, 64), small])) == 1  # no room for the first one's above
    assert len(layout([(110, 55, 119, 64), large])) == 2  # hides little of the large one


def test_among_many_small_objects_most_captions_are_left_out_and_none_lies_on_another():
    corners = [(y, x, y + 7, x + 7) for y in range(20, 180, 10) for x in range(20, 280, 10)]
    rectangles = layout([*corners, (2, 200, 12, 290)])
    assert len(rectangles) < len(corners) // 10


def test_captions_never_leave_the_picture():
    rng = np.random.default_rng(0)
    corners = [
        (y, x, min(y + h, 199), min(x + w, 299))
        for y, x, h, w in rng.integers(0, 199, (40, 4)).tolist()
    ]
    for y1, x1, y2, x2 in layout(corners):
        assert 0 <= y1 < y2 <= 200
        assert 0 <= x1 < x2 <= 300


def test_names_too_long_for_the_picture_are_cut_and_the_score_is_kept():
    short = make_tag("cat", " 0.97", 10, 1000)
    tag = make_tag("a very long name of a class", " 0.97", 10, 100)
    assert tag.ink.shape[1] <= 100
    # The last third of the tag holds the score: as inky as that of the short caption.
    last = tag.ink[:, -40:].sum() / short.ink[:, -40:].sum()
    assert last == pytest.approx(1.0, abs=0.15)


def test_text_is_smooth():
    ink = make_tag("gypsum", " 0.50", 8, 500).ink
    assert ink.max() > 0.9
    assert ((ink > 0.1) & (ink < 0.9)).mean() > 0.05
    assert (ink[0] == 0).all()


def test_the_tag_has_the_colour_and_the_text_contrasts():
    tag = make_tag("cat", "", 12, 200)
    for color, letter in (((255, 240, 60), 0), ((120, 0, 200), 255)):
        canvas = np.full((40, 80, 3), 128, np.uint8)
        draw_tag(canvas, tag, (3, 4), color)
        assert tuple(canvas[3, 4]) == color
        inked = canvas[3 : 3 + tag.ink.shape[0], 4 : 4 + tag.ink.shape[1]][tag.ink > 0.99]
        np.testing.assert_allclose(inked, letter, atol=3)
        assert len(inked) > 0


def test_a_tag_larger_than_the_picture_is_cut_off():
    canvas = np.zeros((5, 7, 3), np.uint8)
    draw_tag(canvas, make_tag("cat", " 0.97", 12, 200), (0, 0), (9, 9, 9))
    assert canvas.any()
