"""Mask R-CNN records: writing and reading invert each other, and damage is named."""

import cv2
import numpy as np
import pytest

from rcnn_jax.data.formats.mask_rcnn_records import (
    MaskRcnnRecord,
    decode_mask,
    decode_record,
    encode_mask,
    encode_record,
)
from rcnn_jax.data.formats.tfrecord import decode_example, encode_example
from rcnn_jax.errors import DataError

HEIGHT, WIDTH = 20, 40


MASK = np.zeros((HEIGHT, WIDTH), np.uint8)


MASK[5:10, 4:14] = 1


def small_record(**changes):
    fields = {
        "encoded": cv2.imencode(".jpg", MASK)[1].tobytes(),
        "source_id": "17",
        "filename": "a.jpg",
        "height": HEIGHT,
        "width": WIDTH,
        "boxes": np.array([[0, 0.25, 0.5, 1], [0, 0, 1, 1]], np.float32),
        "labels": np.array([3, 90]),
        "class_names": ("dog", "cat"),
        "area": np.array([7, 8], np.float32),
        "crowd": np.array([False, True]),
        "masks": (encode_mask(MASK), encode_mask(1 - MASK)),
    }
    return MaskRcnnRecord(**{**fields, **changes})


def test_decode_record_inverts_encode_record():
    record = small_record()
    decoded = decode_record(encode_record(record))
    for name, value in vars(record).items():
        np.testing.assert_array_equal(getattr(decoded, name), value)
    assert decoded.image_id == 17


def test_records_without_objects_have_no_masks_but_may():
    nothing = {"labels": [], "class_names": (), "area": [], "crowd": [], "masks": ()}
    record = decode_record(encode_record(small_record(boxes=np.zeros((0, 4)), **nothing)))
    assert record.masks == () and record.boxes.shape == (0, 4)


def test_records_of_other_programs_may_lack_optional_keys():
    example = decode_example(encode_record(small_record()))
    for key in ("height", "width", "source_id", "filename", "format", "key/sha256"):
        del example[f"image/{key}"]
    for key in ("area", "is_crowd", "mask", "class/text"):
        del example[f"image/object/{key}"]
    record = decode_record(encode_example(example))
    assert (record.height, record.width) == (HEIGHT, WIDTH)
    assert record.area.tolist() == [0.5 * HEIGHT * 0.75 * WIDTH, HEIGHT * WIDTH]
    assert record.crowd.tolist() == [False, False] and record.masks is None
    assert record.source_id == "" and 0 <= record.image_id < 2**63


def test_records_that_contradict_themselves_are_named():
    with pytest.raises(DataError, match="f:3: has no 'image/encoded'; these are not Mask R-CNN"):
        decode_record(encode_example({"frame/id": [b"x"]}), "f:3")
    example = {**decode_example(encode_record(small_record())), "image/object/is_crowd": [0]}
    with pytest.raises(DataError, match="f:3: the lists .* differ in length: .*is_crowd 1"):
        decode_record(encode_example(example), "f:3")


def test_features_of_another_type_are_named():
    example = {
        **decode_example(encode_record(small_record())),
        "image/object/class/label": [3.0, 90.0],
    }
    with pytest.raises(
        DataError, match="f:3: 'image/object/class/label' holds float, expected int"
    ):
        decode_record(encode_example(example), "f:3")


@pytest.mark.parametrize("source_id", ["x", "-1", "1" * 20, "\u0663"])
def test_a_source_id_that_is_no_number_is_named(source_id):
    data = encode_record(small_record(source_id=source_id))
    with pytest.raises(DataError, match="f:3: its image/source_id is '.*'; expected a whole numb"):
        decode_record(data, "f:3")


def test_masks_of_other_values_are_read_and_damaged_ones_refused():
    np.testing.assert_array_equal(decode_mask(encode_mask(MASK * 255)), MASK)
    for data in (b"", b"x"):
        with pytest.raises(DataError, match="f:3: a mask is not a PNG image"):
            decode_mask(data, "f:3")
