"""Tiles of a proposal: they show what whole images do not, and count what training will see of them."""

from pathlib import Path

import numpy as np
import pytest

from rcnn_jax.configure.pace import Pace
from rcnn_jax.configure.proposal import Objects, choose
from rcnn_jax.configure.tiles import LARGEST_OVERLAP, choose_tiles, overlap_of, pays, tiled_objects
from rcnn_jax.data.layouts.collection import Item, Labelled
from rcnn_jax.data.sources.tiles import windows
from rcnn_jax.settings.data import TilingSettings

PACE = Pace(100.0, accelerated=False)


def item(size, *boxes):
    return Item(
        Path("a.png"), Path("x"), tuple(Labelled("mite", box) for box in boxes), size, "val"
    )


def mites(side, images=6, count=40):
    corners = np.random.default_rng(0).uniform(0, 2000, (images, count, 2))
    return [
        item((2000 + side, 3000), *((y, x, y + side, x + side) for y, x in row)) for row in corners
    ]


@pytest.mark.parametrize("side", [8, 20])
@pytest.mark.parametrize("kind", ["faster_rcnn", "mask_rcnn"])
def test_tiles_show_the_objects_to_the_chosen_detector(side, kind):
    items = mites(side)
    objects = Objects.of(items)
    options = {"masks": False, "arch": "resnet:18"}
    whole, _ = choose(objects, PACE, 20.0, kind=kind, **options)
    assert whole.relief is not None
    tiled = choose_tiles(items, objects, whole, PACE, 20.0, **options)
    assert tiled is not None
    assert tiled.choice.family.kind == kind
    assert tiled.choice.relief is None
    assert tiled.tiling.overlap == 0.2
    # square, as the tiles are
    assert tiled.choice.canvas.height == tiled.choice.canvas.width
    assert tiled.counts == {"val": 6 * len(windows(items[0].size, tiled.tiling))}
    assert f"tiles of {tiled.tiling.size} pixels" in tiled.sentence
    # Far fewer than in a whole image, as the places for objects of a step are.
    assert tiled.objects.most < objects.most


def test_whole_images_that_show_the_objects_are_not_cut():
    items = [item((480, 640), (10, 10, 110, 110))] * 8
    objects = Objects.of(items)
    choice, _ = choose(objects, PACE, 20.0, masks=False)
    args = items, objects, choice, PACE, 20.0
    assert choose_tiles(*args, masks=False, arch="resnet:18") is None


def test_the_overlap_shows_the_largest_object_whole_up_to_half_a_tile():
    objects = Objects.of([item((900, 900), (0, 0, 8, 8), (0, 0, 30, 70))])
    assert overlap_of(objects, 500) == 0.2
    assert overlap_of(objects, 200) == 0.35
    assert overlap_of(objects, 100) == LARGEST_OVERLAP


def test_a_tile_counts_what_training_sees_of_an_object():
    whole = item((100, 180), (10, 10, 20, 20), (40, 85, 60, 125), (40, 96, 60, 176))
    empty = item((50, 60))
    objects, counts = tiled_objects([empty, whole], TilingSettings(size=100, overlap=0.2))
    assert counts == {"val": 3}
    assert objects.sizes.tolist() == [[50, 60], [100, 100], [100, 100]]
    # Of the last one a twentieth lies in the first tile of its image; the second begins at column 80.
    assert objects.owner.tolist() == [1, 1, 2, 2]
    assert objects.sides.tolist() == [[10, 10], [20, 15], [20, 40], [20, 80]]
    assert objects.most == 2


def test_images_are_cut_unasked_where_that_shows_what_they_hide_and_time_allows_it():
    items = mites(12)
    objects = Objects.of(items)
    options = {"masks": False, "arch": "resnet:18"}
    whole, _ = choose(objects, PACE, 20.0, **options)
    tiled = choose_tiles(items, objects, whole, PACE, 20.0, **options)
    assert tiled is not None
    assert pays(tiled, whole, objects, PACE, 20.0)
    # a validation of all tiles alone takes longer
    assert not pays(tiled, whole, objects, PACE, 0.2)
    # a tenth of the objects would be in pieces in every tile
    large = Objects.of([*items, *mites(500, images=1)])
    assert not pays(tiled, whole, large, PACE, 20.0)
