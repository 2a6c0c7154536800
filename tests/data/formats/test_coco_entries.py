"""Entries of annotation files, field by field: what tools write, and what nobody can mean."""

import pytest

from rcnn_jax.data.formats.coco_entries import (
    CocoImage,
    has_area,
    parse_annotation,
    parse_category,
    parse_entries,
    parse_image,
)

IMAGE = {"id": 7, "file_name": "a.png", "height": 6, "width": 8}
BOX = {"id": 1, "image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4]}
PARSE = {"image": parse_image, "category": parse_category, "annotation": parse_annotation}


def parsed(noun, *entries):
    problems = []
    return parse_entries(entries, noun, PARSE[noun], problems), problems


def test_numbers_that_went_through_tables_may_have_a_point():
    images, problems = parsed("image", {**IMAGE, "id": 7.0, "height": 6.0})
    assert images == {7: CocoImage(7, "a.png", 6, 8)} and problems == []


def test_what_tools_leave_out_has_its_usual_meaning():
    (item,), problems = parsed("annotation", BOX)[0].values(), parsed("annotation", BOX)[1]
    assert (item.area, item.crowd, item.segmentation) == (12.0, False, None) and problems == []
    (empty,) = parsed("annotation", {**BOX, "bbox": [1, 2, -3, 4]})[0].values()
    assert empty.area == 0.0, "a negative side has no area"


@pytest.mark.parametrize(
    ("noun", "entry", "sentence"),
    [
        ("image", 3, "image number 0: is 3, not an object {...}"),
        ("image", {"file_name": "a"}, "image number 0: has no 'id'"),
        ("image", {**IMAGE, "id": "7"}, "image number 0: 'id' is '7', text where a whole number"),
        ("image", {**IMAGE, "id": -1}, "'id' is -1; ids are 0 or more and fit 64 bits"),
        ("image", {**IMAGE, "id": 1 << 63}, "ids are 0 or more and fit 64 bits"),
        ("image", {**IMAGE, "id": True}, "'id' is True; expected a whole number"),
        ("image", {**IMAGE, "height": 0}, "image 7: its size is 8 x 0 pixels"),
        ("image", {**IMAGE, "height": 1 << 30}, "image 7: its size is 8 x 1073741824 pixels"),
        ("image", {**IMAGE, "file_name": " "}, "image 7: 'file_name' is ' '; expected text"),
        ("image", {**IMAGE, "file_name": "a\0b"}, "it holds a NUL character"),
        ("image", {**IMAGE, "file_name": "\ud800"}, "it is not UTF-8"),
        ("category", {"id": 1}, "category 1: has no 'name'"),
        ("category", {"id": 1, "name": 3}, "category 1: 'name' is 3; expected text"),
        ("annotation", {**BOX, "bbox": [1, 2, 3]}, "expected four finite numbers x, y, width"),
        ("annotation", {**BOX, "bbox": [1, 2, 3, 10**400]}, "expected four finite numbers"),
        ("annotation", {**BOX, "bbox": [1, 2, 3, 1e9]}, "which is outside any image"),
        ("annotation", {**BOX, "area": -1}, "'area' is -1; expected a number of pixels"),
        ("annotation", {**BOX, "iscrowd": 2}, "'iscrowd' is 2; expected 0 or 1"),
        ("annotation", {**BOX, "category_id": None}, "'category_id' is None; expected a whole"),
    ],
)
def test_an_entry_that_cannot_be_used_is_one_sentence(noun, entry, sentence):
    values, problems = parsed(noun, entry)
    assert values == {} and len(problems) == 1 and sentence in problems[0]


def test_an_id_that_comes_twice_keeps_its_first_entry():
    images, problems = parsed("image", IMAGE, {**IMAGE, "file_name": "b.png"})
    assert images[7].file_name == "a.png"
    assert problems == ["image 7: this id occurs more than once"]


@pytest.mark.parametrize(
    ("bbox", "covers"),
    [
        ([0, 0, 8, 6], True),
        ([-5, -5, 6, 6], True),
        ([8, 0, 3, 3], False),
        ([-3, 0, 3, 3], False),
        ([1, 1, 0, 3], False),
    ],
)
def test_a_box_has_an_area_where_it_covers_a_part_of_its_image(bbox, covers):
    (item,) = parsed("annotation", {**BOX, "bbox": bbox})[0].values()
    assert has_area(item, CocoImage(7, "a.png", 6, 8)) is covers
