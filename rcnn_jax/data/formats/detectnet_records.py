"""DetectNet_v2 records: a frame and its objects, without pixels.

Source: docs/reference/datasets.md, "DetectNet_v2 records".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from rcnn_jax.data.formats.kitti import KittiObject
from rcnn_jax.data.formats.tfrecord import (
    FeatureValues,
    decode_example,
    encode_example,
    feature,
    require_size,
    text_of,
)
from rcnn_jax.data.sources.annotations import LabelledBox
from rcnn_jax.errors import DataError
from rcnn_jax.printable import shown


@dataclass(frozen=True, kw_only=True)
class DetectNetFrame:
    """One image.

    Attributes:
      frame_id: image folder, `/`, file name without extension.
      height: pixels.
      width: pixels.
      objects: boxes in pixels; class names as in the record.
      extra: further features, for example those of a point cloud.
    """

    frame_id: str
    height: int
    width: int
    objects: tuple[KittiObject, ...]
    extra: Mapping[str, FeatureValues] = field(default_factory=dict)


def encode_frame(frame: DetectNetFrame) -> bytes:
    """Returns the serialized example of a frame, with the original's keys and types."""
    objects = frame.objects
    floats = {
        "truncation": [item.truncated for item in objects],
        "observation_angle": [item.alpha for item in objects],
        "coordinates_x1": [item.x1 for item in objects],
        "coordinates_y1": [item.y1 for item in objects],
        "coordinates_x2": [item.x2 for item in objects],
        "coordinates_y2": [item.y2 for item in objects],
        "world_bbox_h": [item.dimensions[0] for item in objects],
        "world_bbox_w": [item.dimensions[1] for item in objects],
        "world_bbox_l": [item.dimensions[2] for item in objects],
        "world_bbox_x": [item.location[0] for item in objects],
        "world_bbox_y": [item.location[1] for item in objects],
        "world_bbox_z": [item.location[2] for item in objects],
        "world_bbox_rot_y": [item.rotation_y for item in objects],
    }
    return encode_example(
        {
            "frame/id": [frame.frame_id.encode()],
            "frame/height": [frame.height],
            "frame/width": [frame.width],
            "target/object_class": [item.class_name.encode() for item in objects],
            # Arrays even where empty: their dtype keeps the kind of the feature (encode_example).
            "target/occlusion": np.array([item.occluded for item in objects], np.int64),
            **{f"target/{name}": np.array(values, np.float32) for name, values in floats.items()},
            **frame.extra,
        }
    )


@dataclass(frozen=True, slots=True)
class LabelledFrame:
    """The part of a record that training reads: frame id, (height, width) in pixels, objects."""

    frame_id: str
    size: tuple[int, int]
    objects: list[LabelledBox]


def decode_frame(data: bytes, where: str) -> LabelledFrame:
    """Returns the frame of a serialized example.

    Args:
      data: the serialized example.
      where: file and record, for the message.

    Raises:
      DataError: a feature is missing, has another type or holds no text, or lists of objects differ in
        length.
    """
    features = decode_example(data, where)
    frame = feature(features, "frame/id", bytes, where)
    height = feature(features, "frame/height", int, where)
    width = feature(features, "frame/width", int, where)
    if not (frame and height and width):
        raise DataError(
            f"{where}: frame/id, frame/height or frame/width is missing; found "
            f"{shown(', '.join(sorted(features))) or 'nothing'}: this is not a record that "
            "dataset_convert wrote for detection"
        )
    frame_id = text_of(frame[0], "frame/id", where)
    named = f"{where} ({shown(frame_id)})"
    size = require_size(height[0], width[0], named)
    names = [
        text_of(name, "target/object_class", where)
        for name in feature(features, "target/object_class", bytes, where)
    ]
    # In the order of boxes here, y before x, whatever the order in the record.
    columns = [
        feature(features, f"target/coordinates_{side}", float, where)
        for side in ("y1", "x1", "y2", "x2")
    ]
    # Optional, as records of other programs lack it; without it nothing is difficult.
    occluded = feature(features, "target/occlusion", int, where) or [0] * len(names)
    if any(len(column) != len(names) for column in (*columns, occluded)):
        raise DataError(
            f"{named}: {len(names)} class names, but "
            f"{', '.join(str(len(column)) for column in columns)} coordinates (y1, x1, y2, x2) and "
            f"{len(occluded)} occlusion values: run dataset_convert again"
        )
    boxes = zip(*columns, strict=True)
    objects = [
        (name, box, value >= 1) for name, box, value in zip(names, boxes, occluded, strict=True)
    ]
    return LabelledFrame(frame_id, size, objects)
