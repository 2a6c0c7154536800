"""Proposals: the detector that sees the objects, classes of one spelling."""

from pathlib import Path

import numpy as np
import pytest

from rcnn_jax.configure.pace import Pace
from rcnn_jax.configure.proposal import (
    Objects,
    choose,
    classes_of,
    renamed,
)
from rcnn_jax.data.layouts.collection import Item, Labelled
from rcnn_jax.errors import DataError

PACE = Pace(100.0, accelerated=False)


def item(size, *boxes, name="cat"):
    return Item(
        Path("a.png"), Path("x"), tuple(Labelled(name, box) for box in boxes), size, "train"
    )


def squares(size, side, count=3):
    """Images of a size with squares of a side, at different places."""
    corners = np.random.default_rng(0).uniform(0, min(size) - side, (40, count, 2))
    return [item(size, *((y, x, y + side, x + side) for y, x in row)) for row in corners]


def test_large_objects_get_one_map_and_small_ones_the_pyramid():
    choice, why = choose(Objects.of(squares((480, 640), 90)), PACE, 20.0, masks=False)
    assert choice.family.kind == "faster_rcnn"
    assert "stride of 16 pixels" in why
    choice, why = choose(Objects.of(squares((480, 640), 14, 30)), PACE, 20.0, masks=False)
    assert choice.family.kind == "mask_rcnn"
    assert "faster_rcnn was passed over" in why


def test_a_class_of_small_objects_gets_the_pyramid_though_most_objects_are_large():
    # One in fourteen, as platelets among blood cells.
    rare = [item((480, 640), (5, 5, 33, 33), name="platelet") for _ in range(10)]
    many = squares((480, 640), 110)
    assert choose(Objects.of(many), PACE, 5.0, masks=False)[0].family.kind == "faster_rcnn"
    choice, why = choose(Objects.of([*many, *rare]), PACE, 5.0, masks=False)
    assert choice.family.kind == "mask_rcnn"
    assert "of the objects of 'platelet'" in why
    # Two labels are no class to choose a detector by.
    two = [*many, *rare[:2]]
    assert choose(Objects.of(two), PACE, 5.0, masks=False)[0].family.kind == "faster_rcnn"


def test_portrait_and_landscape_together_are_not_stretched():
    mixed = [*squares((480, 640), 90), *squares((640, 480), 90)]
    choice, why = choose(Objects.of(mixed), PACE, 20.0, masks=False)
    assert choice.family.kind == "mask_rcnn"
    assert "would be stretched to one canvas" in why


def test_masks_need_a_detector_that_learns_them():
    objects = Objects.of(squares((480, 640), 90))
    assert choose(objects, PACE, 20.0, masks=True)[0].family.kind == "mask_rcnn"
    with pytest.raises(DataError, match="learns no masks"):
        choose(objects, PACE, 20.0, masks=True, kind="faster_rcnn")


def test_a_wanted_canvas_is_put_on_the_grid():
    objects = Objects.of(squares((480, 640), 90))
    choice, _ = choose(objects, PACE, 20.0, masks=True, canvas=(500, 700))
    assert (choice.canvas.height, choice.canvas.width) == (512, 704)


def test_sides_on_a_canvas_follow_the_geometry():
    objects = Objects.of([item((100, 200), (10, 10, 30, 50))])
    np.testing.assert_allclose(objects.on((200, 200), keeps_aspect=True), [[20, 40]])
    np.testing.assert_allclose(objects.on((200, 200), keeps_aspect=False), [[40, 40]])
    assert objects.fractions[0] == pytest.approx(np.sqrt(800 / 20_000))


def test_the_smallest_class_decides_what_is_small():
    many = squares((480, 640), 120, 20)
    rare = [item((480, 640), *([(5, 5, 25, 25)] * 2), name="rare") for _ in range(10)]
    fraction = 20 / np.sqrt(480 * 640)
    assert Objects.of([*many, *rare]).small_fraction == pytest.approx(fraction)


def test_crowds_and_boxes_without_area_are_no_objects():
    crowd = Item(
        Path("a"), Path("x"), (Labelled("cat", (0, 0, 5, 5), crowd=True),), (9, 9), "train"
    )
    with pytest.raises(DataError, match="no object"):
        Objects.of([crowd, item((9, 9), (3, 3, 3, 8))])


def test_spellings_of_one_name_are_one_class():
    given = [item((9, 9), (0, 0, 5, 5), name=name) for name in ("Car", "car", "Car", "bus")]
    counts, names = classes_of(given)
    assert counts == {"Car": 2, "car": 1, "bus": 1}
    assert names == {"Car": "Car", "car": "Car", "bus": "bus"}
    assert [each.objects[0].name for each in renamed(given, names)] == ["Car", "Car", "Car", "bus"]
    assert [len(each.objects) for each in renamed(given, {"bus": "bus"})] == [0, 0, 0, 1]
