"""Records in the DetectNet_v2 layout: a frame and its objects, without pixels.

Source: reference of datasets, section 2.6.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from rcnn_jax.data.kitti import KittiObject
from rcnn_jax.data.records import FeatureValues, encode_example


@dataclass(frozen=True, kw_only=True)
class DetectNetFrame:
    """One image.

    Attributes:
      frame_id: image folder, `/`, file name without extension.
      height: pixels.
      width: pixels.
      objects: boxes in pixels; class names as they stand in the record.
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
            "target/occlusion": np.array([item.occluded for item in objects], np.int64),
            **{f"target/{name}": np.array(values, np.float32) for name, values in floats.items()},
            **frame.extra,
        }
    )
