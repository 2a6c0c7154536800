import io

import numpy as np
import pytest

from rcnn_jax.data.count_table import Column, counts_table
from rcnn_jax.data.findings import CROWD, TINY, UNMAPPED, Finding, Tally, merged
from rcnn_jax.data.loader.census import require_objects, take_census
from rcnn_jax.data.sources.annotations import Annotation
from rcnn_jax.errors import DataError
from rcnn_jax.reporter import SafeConsole
from rcnn_jax.settings.data import GeometrySettings, GroundTruthSettings

GEOMETRY = GeometrySettings(mode="keep_aspect", height=32, width=32)


class Memory:
    """Images of 64 x 64 pixels with (box, class, crowd) each."""

    class_names = ("cat", "dog")

    def __init__(self, *images, findings=()):
        self.images = images
        self.findings = findings

    def __len__(self):
        return len(self.images)

    def name(self, index):
        return f"image-{index}"

    def size(self, index):
        return (64, 64)

    def annotation(self, index):
        objects = self.images[index]
        return Annotation(
            boxes=np.array([box for box, _, _ in objects], np.float32).reshape(-1, 4),
            classes=np.array([class_id for _, class_id, _ in objects], np.int32),
            crowd=np.array([crowd for _, _, crowd in objects], bool),
        )


def rows(census):
    return {item.row: item.count for item in census.column.findings}


def test_objects_are_counted_by_class_and_measured_on_the_canvas():
    source = Memory([((0, 0, 20, 40), 1, False), ((0, 0, 8, 8), 0, False)], [])
    census = take_census(source, "training", GEOMETRY)
    assert census.column.objects == {"cat": 1, "dog": 1} and census.column.images == 2
    np.testing.assert_allclose(census.sides, [[10, 20], [4, 4]])
    require_objects(census)


def test_crowds_and_objects_below_a_pixel_are_counted_apart():
    source = Memory([((0, 0, 20, 40), 1, True), ((0, 0, 1, 8), 0, False), ((0, 0, 9, 9), 0, False)])
    census = take_census(source, "training", GEOMETRY)
    assert census.column.objects == {"cat": 1, "dog": 0}
    assert rows(census) == {"crowd: dog": 1, "smaller than a pixel": 1}


def test_surplus_objects_are_counted_with_the_number_that_would_keep_all():
    box = (0, 0, 20, 20)
    source = Memory([(box, 0, False)] * 5, [(box, 1, False)] * 3, [(box, 1, False)])
    gt = GroundTruthSettings(max_objects=2, on_overflow="truncate")
    census = take_census(source, "training", GEOMETRY, gt=gt)
    assert census.column.objects == {"cat": 2, "dog": 3} and len(census.sides) == 5
    (finding,) = census.column.findings
    assert finding.sentence == (
        "4 objects are dropped because their images have more than max_num_instances: 5 would keep "
        "all"
    )


def test_crowds_fill_slots_unless_they_are_skipped():
    source = Memory([((0, 0, 20, 20), 0, True), ((0, 0, 20, 20), 1, False)])
    gt = GroundTruthSettings(max_objects=1, on_overflow="truncate")
    assert take_census(source, "", GEOMETRY, gt=gt).column.objects["dog"] == 0
    skipping = GroundTruthSettings(max_objects=1, on_overflow="truncate", skip_crowd=True)
    assert take_census(source, "", GEOMETRY, gt=skipping).column.objects["dog"] == 1


def test_the_error_for_a_set_without_objects_counts_the_reasons():
    source = Memory([((0, 0, 20, 40), 1, True)], [], findings=(Finding(UNMAPPED, "tram", 7),))
    with pytest.raises(DataError) as caught:
        require_objects(take_census(source, "training", GEOMETRY))
    assert str(caught.value) == (
        "the training data has no object to learn from in 2 images: not mapped: tram 7; crowd: dog 1"
    )
    with pytest.raises(DataError, match="in 1 images: no image has a label"):
        require_objects(take_census(Memory([]), "training", GEOMETRY))


def test_the_table_has_classes_then_what_is_left_out_then_sums():
    columns = [
        Column(name="training", images=3, objects={"cat": 2}, findings=(Finding(CROWD, "cat", 4),)),
        Column(name="validation", images=1, objects={"cat": 1, "[b]": 1}),
    ]
    console = SafeConsole(width=80, record=True, file=io.StringIO(), soft_wrap=False)
    console.print(counts_table(columns))
    lines = [
        [cell.strip() for cell in line.strip("│┃").split("│")]
        for line in console.export_text().splitlines()
        if "│" in line
    ]
    assert lines == [
        ["cat", "2", "1"],
        ["[b]", "0", "1"],
        ["crowd: cat", "4", ""],
        ["objects", "2", "2"],
        ["images", "3", "1"],
    ]


def test_findings_of_one_kind_are_added_and_keep_the_first_example():
    tally = Tally()
    tally.add(TINY, "a", 2)
    tally.add(TINY, "b")
    tally.add(UNMAPPED, "tram")
    tally.add(UNMAPPED, "van")
    tally.add(TINY, "c", 0)
    assert [(item.where, item.count) for item in tally.findings] == [
        ("a", 3),
        ("tram", 1),
        ("van", 1),
    ]
    assert merged([*tally.findings, Finding(UNMAPPED, "van", 5)])[-1].count == 6


def test_names_cannot_write_to_the_console():
    finding = Finding(UNMAPPED, "\x1b[31mred\udce9")
    assert finding.row == r"not mapped: \x1b[31mred\xe9"
    assert "\x1b" not in finding.sentence
