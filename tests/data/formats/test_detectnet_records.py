"""DetectNet_v2 records: frames are written with the original's keys and read back, or named."""

import numpy as np
import pytest

from rcnn_jax.data.formats.detectnet_records import DetectNetFrame, decode_frame, encode_frame
from rcnn_jax.data.formats.kitti import KittiObject
from rcnn_jax.data.formats.tfrecord import decode_example, encode_example
from rcnn_jax.errors import DataError

CAR = KittiObject(class_name="car", x1=1.5, y1=2.0, x2=11.25, y2=8.0, occluded=1, truncated=0.5)
BUS = KittiObject(class_name="bus", x1=0.0, y1=0.0, x2=30.0, y2=20.0)


def frame(*objects, **extra):
    return DetectNetFrame(
        frame_id="images/7", height=20, width=30, objects=objects, extra=extra.get("extra", {})
    )


def test_reading_gives_what_training_needs_with_y_before_x():
    decoded = decode_frame(encode_frame(frame(CAR, BUS)), "f:0")
    assert (decoded.frame_id, decoded.size) == ("images/7", (20, 30))
    assert decoded.objects == [
        ("car", (2.0, 1.5, 8.0, 11.25), True),
        ("bus", (0.0, 0.0, 20.0, 30.0), False),
    ]


def test_the_features_are_those_of_the_original():
    features = decode_example(encode_frame(frame(CAR)))
    assert features["target/truncation"] == [0.5] and features["target/occlusion"] == [1]
    assert features["target/object_class"] == [b"car"]
    assert {key.split("/")[0] for key in features} == {"frame", "target"}
    assert len(features) == 18


def test_a_frame_without_objects_keeps_the_types_of_its_features():
    data = encode_frame(frame())
    assert decode_frame(data, "f:0").objects == []
    assert data != encode_example({"frame/id": [b"images/7"], "frame/height": [20]})


def test_further_features_travel_along():
    extra = {"frame/camera_to_lidar": np.arange(4, dtype=np.float32)}
    features = decode_example(encode_frame(frame(CAR, extra=extra)))
    assert features["frame/camera_to_lidar"] == [0.0, 1.0, 2.0, 3.0]


def changed(**changes):
    features = decode_example(encode_frame(frame(CAR, BUS)))
    features = {**features, **{key.replace("__", "/"): value for key, value in changes.items()}}
    return encode_example({key: value for key, value in features.items() if value is not None})


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (changed(frame__id=None), "f:3: frame/id, frame/height or frame/width is missing"),
        (changed(frame__height=[0]), r"f:3 \(images/7\)"),
        (changed(frame__height=[2.5]), "'frame/height' holds float, expected int"),
        (
            changed(target__coordinates_x1=[1.0]),
            r"\(images/7\): 2 class names, but 2, 1, 2, 2 coordinates",
        ),
        (changed(target__object_class=[b"\xff", b"bus"]), "target/object_class"),
    ],
)
def test_damage_is_named_with_its_record(data, text):
    with pytest.raises(DataError, match=text):
        decode_frame(data, "f:3")


def test_records_of_other_programs_may_lack_the_occlusion():
    objects = decode_frame(changed(target__occlusion=None), "f:0").objects
    assert [occluded for _, _, occluded in objects] == [False, False]
