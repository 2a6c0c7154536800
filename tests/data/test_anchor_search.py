"""Anchors of new specs: enough for the objects, within what a level sees, and honest about the rest."""

import numpy as np
import pytest

from rcnn_jax.data.anchor_fit import best_overlaps
from rcnn_jax.data.anchor_search import STRETCHED, balanced, coverage, on_one_map, on_pyramid

STRIDES = (4, 8, 16, 32, 64)


def sides_of(seed, *groups):
    """Sides of objects: (count, size, spread of the size, ratio, spread of the ratio) per group."""
    random = np.random.default_rng(seed)
    parts = []
    for count, size, spread, ratio, ratio_spread in groups:
        area = size * np.exp(random.normal(0, spread, count))
        shape = np.sqrt(ratio * np.exp(random.normal(0, ratio_spread, count)))
        parts.append(np.stack([area / shape, area * shape], axis=1))
    return np.concatenate(parts)


SETS = {
    "one large object": sides_of(1, (150, 180, 0.25, 1.0, 0.3)),
    "hundreds of tiny ones": sides_of(2, (5000, 10, 0.3, 1.0, 0.2)),
    "tiny ones and a few huge": sides_of(3, (5000, 12, 0.2, 1.0, 0.2), (80, 220, 0.2, 1.0, 0.2)),
    "wide signs": sides_of(4, (800, 40, 0.4, 3.5, 0.2)),
    "several sizes": sides_of(5, (900, 20, 0.2, 1.0, 0.2), (500, 60, 0.3, 0.6, 0.2)),
}


@pytest.mark.parametrize("name", SETS)
def test_a_pyramid_fits_nineteen_of_twenty_objects_with_few_anchors(name):
    anchors = on_pyramid(SETS[name], STRIDES)
    assert coverage(SETS[name], anchors.cells)[0].fitted >= 0.95
    assert anchors.per_cell <= 9
    assert all(len(sizes) == anchors.per_cell for sizes in anchors.cells.values())


@pytest.mark.parametrize("name", ["one large object", "wide signs", "several sizes"])
def test_one_map_fits_objects_that_are_larger_than_its_cells(name):
    anchors = on_one_map(SETS[name], 16, (320, 320))
    assert coverage(SETS[name], anchors.cells)[0].fitted >= 0.95
    assert anchors.per_cell == len(anchors.scales) * len(anchors.ratios)


@pytest.mark.parametrize(
    "fit", [lambda s: on_pyramid(s, STRIDES), lambda s: on_one_map(s, 16, (320, 320))]
)
@pytest.mark.parametrize("name", SETS)
def test_every_anchor_is_within_what_its_level_sees(name, fit):
    for stride, sizes in fit(SETS[name]).cells.items():
        side = np.sqrt([height * width for height, width in sizes])
        assert (side >= 0.99 * min(stride, 16)).all()
        assert (side <= 17 * stride).all() or stride == 16
        assert (side <= 320).all() or stride > 16


def test_thousands_of_tiny_objects_do_not_take_all_anchors_from_the_large_ones():
    sides = SETS["tiny ones and a few huge"]
    tiny, huge = sides[:5000], sides[5000:]
    for anchors in (on_pyramid(sides, STRIDES), on_one_map(sides, 16, (320, 320))):
        assert (best_overlaps(huge, anchors.cells) >= 0.5).mean() >= 0.9
    cells = on_pyramid(sides, STRIDES).cells
    assert (best_overlaps(tiny, cells) >= 0.5).mean() > 0.95


def test_a_few_huge_objects_do_not_take_the_anchors_from_the_rest():
    sides = np.concatenate([sides_of(6, (40, 24, 0.2, 1.0, 0.1)), np.full((3, 2), 300.0)])
    assert coverage(sides, on_one_map(sides, 16, (320, 320)).cells)[0].fitted >= 0.9


def test_wires_are_covered_where_they_are_many_and_said_where_they_are_few():
    wires = sides_of(7, (600, 60, 0.3, 14.0, 0.1))
    assert (wires[:, 1] / wires[:, 0] > STRETCHED).all()
    rows = {row.group: row for row in coverage(wires, on_pyramid(wires, STRIDES).cells)}
    assert rows["longer than 1:8"].fitted >= 0.95
    mixed = np.concatenate([sides_of(8, (4000, 30, 0.3, 1.0, 0.2)), wires[:8]])
    rows = {row.group: row for row in coverage(mixed, on_pyramid(mixed, STRIDES).cells)}
    assert rows["longer than 1:8"].objects == 8
    assert rows["longer than 1:8"].fitted < 0.5
    assert rows["all"].fitted >= 0.95


def test_coverage_is_shown_per_size_bin_and_counts_every_object():
    rows = coverage(SETS["tiny ones and a few huge"], {4: [(12.0, 12.0)]})
    assert [row.group for row in rows] == [
        "all",
        "0 to 16 pixels",
        "16 to 32 pixels",
        "from 96 pixels",
    ]
    assert rows[0].objects == sum(row.objects for row in rows[1:]) == 5080
    assert rows[1].fitted > 0.95
    assert rows[-1].fitted == rows[-1].reached == 0.0
    assert all(row.reached <= row.fitted for row in rows)


def test_a_sample_is_balanced_and_keeps_odd_ones_rare():
    sample = balanced(SETS["tiny ones and a few huge"])
    huge = (np.sqrt(sample.prod(axis=1)) > 96).sum()
    assert huge == 80
    assert len(sample) <= 80 + 2 * 4 * 80  # tiny and small ones, four times as many each at most
    odd = np.concatenate([sides_of(9, (2000, 30, 0.1, 1.0, 0.1)), [[300.0, 300.0]]])
    assert (np.sqrt(balanced(odd).prod(axis=1)) > 96).sum() == 1


def test_one_object_is_enough():
    sides = np.array([[40.0, 60.0]])
    for anchors in (on_pyramid(sides, STRIDES), on_one_map(sides, 16, (320, 320))):
        assert coverage(sides, anchors.cells)[0].fitted == 1.0
