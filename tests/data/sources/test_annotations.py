"""Class maps match names in any case; annotations keep what can be trained, and count the rest."""

import numpy as np
import pytest

from rcnn_jax.data.findings import UNMAPPED, USELESS_BOX, Finding
from rcnn_jax.data.sources.annotations import ClassMap, LabelTally, annotate
from rcnn_jax.errors import DataError

CLASSES = ClassMap({"Car": "Vehicle", "van": "vehicle", "Pedestrian": "person"})


def test_classes_are_lower_cased_sorted_and_matched_in_any_case():
    assert CLASSES.names == ("person", "vehicle")
    assert (CLASSES.get("CAR"), CLASSES.get("pedestrian"), CLASSES.get("tram")) == (1, 0, None)


def test_contradicting_mappings_are_an_error():
    with pytest.raises(DataError, match="maps 'car' to two classes, 'a' and 'b'"):
        ClassMap({"Car": "a", "car": "b"})


def test_blanks_of_class_names_do_not_matter():
    classes = ClassMap({"Traffic Light": "light", "stop": "sign"})
    assert classes.get("trafficlight") == classes.get("traffic light") == 0
    assert classes.names == ("light", "sign")


def test_keys_that_match_nothing_are_reported_with_the_nearest_name():
    classes = ClassMap({"traffic_light": "light", "van": "car", "car": "car"})
    near, silent = classes.unused_keys(["trafficlight", "Car"])
    assert near.sentence == (
        "target_class_mapping: no object is called 'traffic_light'; did you mean 'trafficlight'?"
    )
    assert (near.severity, silent.severity) == ("warning", "note")
    assert silent.sentence == "target_class_mapping: no object is called 'van'"
    assert classes.unused_keys(["traffic_light", "VAN", "car"]) == ()


def test_an_empty_mapping_is_an_error():
    with pytest.raises(DataError, match="target_class_mapping is empty"):
        ClassMap({})


def boxes_of(objects, **options):
    tally = LabelTally()
    result = annotate(objects, CLASSES, (20, 30), "a.txt", tally, options.get("crowd", False))
    return result, tally


def test_objects_of_mapped_classes_are_kept_whole_even_where_they_leave_the_image():
    result, tally = boxes_of([("van", (-5, -5, 10, 10), False), ("tram", (0, 0, 9, 9), False)])
    assert result.boxes.tolist() == [[-5, -5, 10, 10]] and result.boxes.dtype == np.float32
    assert result.classes.tolist() == [1] and result.crowd.tolist() == [False]
    assert tally.findings == (Finding(UNMAPPED, "tram"),)
    assert tally.names == {"van", "tram"}, "names of all labels, for keys that match nothing"


@pytest.mark.parametrize(
    "box", [(0, 0, 0, 5), (3, 8, 6, 8), (20, 0, 25, 5), (-9, 0, 0, 5), (0, 30, 5, 40), (9, 5, 3, 9)]
)
def test_a_box_without_area_inside_the_image_is_counted(box):
    result, tally = boxes_of([("car", box, False)])
    assert result.boxes.shape == (0, 4)
    assert tally.findings == (Finding(USELESS_BOX, "a.txt"),)


def test_occluded_objects_are_crowd_where_that_is_asked_for():
    objects = [("car", (0, 0, 5, 5), True), ("car", (0, 0, 5, 5), False)]
    assert boxes_of(objects, crowd=True)[0].crowd.tolist() == [True, False]
    assert boxes_of(objects)[0].crowd.tolist() == [False, False]


def test_an_image_without_objects_has_arrays_of_no_rows():
    result, tally = boxes_of([])
    assert (result.boxes.shape, result.classes.shape, result.crowd.shape) == ((0, 4), (0,), (0,))
    assert result.masks is None and result.areas is None and tally.findings == ()


def test_a_box_that_is_not_finite_names_the_object():
    with pytest.raises(DataError, match=r"a.txt: object 2 \(car\) has the box .*nan.* not finite"):
        boxes_of([("car", (0, 0, 5, 5), False), ("car", (0, 0, float("nan"), 5), False)])
