"""The record of one image in the layout of TAO Mask R-CNN: encoded image, boxes, PNG masks.

The keys are those of the TensorFlow object-detection records. Records of other programs can be read;
features that only some of them write are optional.
Source: docs/reference/datasets.md, "Mask R-CNN records".
"""

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np

from rcnn_jax.data.formats.image_decoder import unpack
from rcnn_jax.data.formats.image_header import ends_early, header_of
from rcnn_jax.data.formats.image_size import encoded_image_size, image_format
from rcnn_jax.data.formats.tfrecord import (
    decode_example,
    encode_example,
    feature,
    require_size,
    text_of,
)
from rcnn_jax.errors import DataError
from rcnn_jax.image_file import encode_image
from rcnn_jax.printable import shown

_SIDES = tuple(f"image/object/bbox/{side}" for side in ("ymin", "xmin", "ymax", "xmax"))
_TYPES = {
    "image/encoded": bytes,
    "image/source_id": bytes,
    "image/filename": bytes,
    "image/height": int,
    "image/width": int,
    "image/object/class/label": int,
    "image/object/class/text": bytes,
    "image/object/area": float,
    "image/object/is_crowd": int,
    "image/object/mask": bytes,
    **dict.fromkeys(_SIDES, float),
}
_OBJECT_KEYS = (
    "image/object/area",
    "image/object/is_crowd",
    "image/object/mask",
    "image/object/class/text",
)
_FARTHEST = 100.0  # in sizes of the image; boxes in pixels, written by mistake, lie beyond it
_ID_DIGITS = 19  # of the largest 64-bit integer


@dataclass(frozen=True, kw_only=True)
class MaskRcnnRecord:
    """One image with its objects.

    Attributes:
      encoded: the bytes of the image file.
      source_id: the image id as text; may be empty.
      filename: of the image file; may be empty.
      height: pixels.
      width: pixels.
      boxes: f32[m 4], (y1, x1, y2, x2) normalised: divided by height and width.
      labels: i64[m], category ids, 1 or more.
      class_names: a name for each object, or () when the record has none.
      area: f32[m], pixels of the mask.
      crowd: bool[m].
      masks: m single-channel PNG files of the image's size, 0 outside; None when there are none.
    """

    encoded: bytes
    source_id: str
    filename: str
    height: int
    width: int
    boxes: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    area: np.ndarray
    crowd: np.ndarray
    masks: tuple[bytes, ...] | None

    @property
    def image_id(self) -> int:
        """The source id as a number; without one, the first 63 bits of a hash of the image file."""
        if self.source_id:
            return int(self.source_id)
        # 63 bits: COCO ids are signed 64-bit integers.
        return int.from_bytes(hashlib.sha256(self.encoded).digest()[:8], "big") >> 1


def encode_record(record: MaskRcnnRecord) -> bytes:
    """Returns the serialized example of a record.

    Deviation: `image/format` names the true format; the original writes `jpeg` for every file.
    """
    boxes = np.asarray(record.boxes, np.float32).reshape(-1, 4)
    features = {
        "image/encoded": [record.encoded],
        "image/filename": [record.filename.encode()],
        "image/format": [image_format(record.encoded).encode()],
        "image/height": [record.height],
        "image/key/sha256": [hashlib.sha256(record.encoded).hexdigest().encode()],
        "image/source_id": [record.source_id.encode()],
        "image/width": [record.width],
        "image/object/area": np.asarray(record.area, np.float32),
        "image/object/bbox/ymin": boxes[:, 0],
        "image/object/bbox/xmin": boxes[:, 1],
        "image/object/bbox/ymax": boxes[:, 2],
        "image/object/bbox/xmax": boxes[:, 3],
        "image/object/class/label": np.asarray(record.labels, np.int64),
        "image/object/class/text": [name.encode() for name in record.class_names],
        "image/object/is_crowd": np.asarray(record.crowd, np.int64),
    }
    if record.masks is not None:
        features["image/object/mask"] = list(record.masks)
    return encode_example(features)


def decode_record(data: bytes, where: str = "record") -> MaskRcnnRecord:
    """Returns the record of a serialized example.

    Missing size, area and crowd are taken from the image, from the boxes, and as False. Missing
    masks of a record with objects give None.

    Args:
      data: the serialized example.
      where: file and record, for the message.

    Raises:
      DataError: the image is missing, a feature has another type or an impossible value, or lists of
        objects differ in length.
    """
    features = decode_example(data, where)
    # All types first: what follows may then index and compare without a check of its own.
    for key, expected in _TYPES.items():
        feature(features, key, expected, where)
    if not features.get("image/encoded"):
        raise DataError(
            f"{where}: has no 'image/encoded'; these are not Mask R-CNN records. Make them from a "
            "COCO dataset with  mask_rcnn dataset_convert."
        )
    encoded = features["image/encoded"][0]
    height, width = features.get("image/height"), features.get("image/width")
    if not height or not width:
        height, width = ([side] for side in encoded_image_size(encoded, where))
    height, width = require_size(height[0], width[0], where)
    labels = np.array(features.get("image/object/class/label", []), np.int64)
    sides = [features.get(key, []) for key in _SIDES]
    lengths = {
        "image/object/class/label": len(labels),
        "image/object/bbox/*": max(len(side) for side in sides),
        **{key: len(features[key]) for key in _OBJECT_KEYS if features.get(key)},
    }
    if len({*lengths.values(), *(len(side) for side in sides)}) > 1:
        listed = ", ".join(f"{key} {length}" for key, length in lengths.items())
        raise DataError(f"{where}: the lists of objects differ in length: {listed}.")
    boxes = np.array(sides, np.float32).T.reshape(-1, 4)
    if not np.isfinite(boxes).all():
        raise DataError(f"{where}: a box is not finite: run dataset_convert again")
    if boxes.size and np.abs(boxes).max() > _FARTHEST:
        raise DataError(
            f"{where}: a box reaches {np.abs(boxes).max():g} times the size of the image; "
            "image/object/bbox is divided by height and width: run dataset_convert again"
        )
    area = np.array(
        features.get("image/object/area") or _box_areas(boxes, height, width), np.float32
    )
    if not np.isfinite(area).all():
        raise DataError(f"{where}: an area is not finite: run dataset_convert again")
    masks = features.get("image/object/mask", [])
    return MaskRcnnRecord(
        encoded=encoded,
        source_id=_source_id(features.get("image/source_id"), where),
        filename=_file_name(features.get("image/filename")),
        height=height,
        width=width,
        boxes=boxes,
        labels=labels,
        class_names=tuple(
            text_of(name, "image/object/class/text", where)
            for name in features.get("image/object/class/text", [])
        ),
        area=area,
        crowd=np.array(features.get("image/object/is_crowd") or [0] * len(labels), bool),
        # An image without objects has (), the masks of none; None is a record made without masks.
        masks=tuple(masks) if masks or not len(labels) else None,
    )


def encode_mask(mask: np.ndarray) -> bytes:
    """Returns a mask u8[h w] in {0, 1} as a single-channel PNG with the same values."""
    return encode_image(mask, ".png", name="a mask")


def decode_mask(
    encoded: bytes, where: str = "mask", size: tuple[int, int] | None = None
) -> np.ndarray:
    """Returns the mask u8[h w] in {0, 1} of a PNG; every value but 0 is inside.

    Args:
      encoded: the file.
      where: file and record, for the message.
      size: (height, width) of the picture, which the mask must have too; None for any.

    Raises:
      DataError: it is not an image, or of another size.
    """
    check_mask_header(encoded, where, size)  # a small file can unpack to gigabytes
    header = header_of(encoded)
    whole = header is not None and not ends_early(encoded, header)
    mask = unpack(encoded, cv2.IMREAD_GRAYSCALE) if whole else None
    if mask is None:
        raise DataError(f"{where}: a mask is not a PNG image, or is damaged.")
    return (mask > 0).astype(np.uint8)


def check_mask_header(encoded: bytes, where: str, size: tuple[int, int] | None) -> None:
    """Checks the header of a mask without decoding it.

    Raises:
      DataError: it is not an image, or of another size.
    """
    try:
        mask_size = encoded_image_size(encoded, where)
    except DataError as error:
        raise DataError(f"{where}: a mask is not a PNG image, or is damaged.") from error
    if size is not None and mask_size != size:
        raise DataError(
            f"{where}: a mask is {mask_size[0]}x{mask_size[1]} pixels (height x width), its image "
            f"{size[0]}x{size[1]}: convert the dataset again"
        )


def _source_id(values: list | None, where: str) -> str:
    """Returns the image id as text, '' where the record has none.

    Raises:
      DataError: it is not the number of an image.
    """
    text = text_of(values[0], "image/source_id", where) if values else ""
    if text and not (text.isascii() and text.isdecimal() and len(text) <= _ID_DIGITS):
        raise DataError(
            f"{where}: its image/source_id is '{shown(text[:40])}'; expected a whole number, the "
            "image id of the annotation file."
        )
    return text


def _file_name(values: list | None) -> str:
    return values[0].decode("utf-8", "replace") if values else ""


def _box_areas(boxes: np.ndarray, height: int, width: int) -> list[float]:
    return [float((y2 - y1) * height * (x2 - x1) * width) for y1, x1, y2, x2 in boxes]
