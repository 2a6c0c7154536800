"""The record of one image in the layout of TAO Mask R-CNN: encoded image, boxes, PNG masks.

The keys are those of the TensorFlow object-detection records, so records of other programs can be
read: what only some of them write may be missing. Source: reference of datasets, section 3.1.
"""

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np

from rcnn_jax.data.image_decoder import check_header, unpack
from rcnn_jax.data.image_header import ends_early, header_of
from rcnn_jax.data.image_size import encoded_image_size, image_format
from rcnn_jax.data.records import decode_example, encode_example
from rcnn_jax.errors import DataError

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
        """The source id as a number; without one, the first 63 bits of a hash of the image file.

        Raises:
          DataError: there is a source id which is not a number.
        """
        if self.source_id.isdecimal():
            return int(self.source_id)
        if self.source_id:
            raise DataError(
                f"{self.filename or 'a record'}: its image/source_id is '{self.source_id}'; "
                "expected a whole number, the image id of the annotation file."
            )
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
      DataError: the image is missing, a feature has another type, or lists of objects differ in
        length.
    """
    features = decode_example(data, where)
    _check_types(features, where)
    if not features.get("image/encoded"):
        raise DataError(
            f"{where}: has no 'image/encoded'; these are not Mask R-CNN records. Make them from a "
            "COCO dataset with  mask_rcnn dataset_convert."
        )
    encoded = features["image/encoded"][0]
    height, width = features.get("image/height"), features.get("image/width")
    if not height or not width:
        height, width = ([side] for side in encoded_image_size(encoded, where))
    labels = np.array(features.get("image/object/class/label", []), np.int64)
    sides = [features.get(key, []) for key in _SIDES]
    lengths = {
        "image/object/class/label": len(labels),
        "image/object/bbox/*": max(len(side) for side in sides),
        **{
            key: len(features[key])
            for key in ("image/object/area", "image/object/is_crowd", "image/object/mask")
            if features.get(key)
        },
    }
    if len({*lengths.values(), *(len(side) for side in sides)}) > 1:
        found = ", ".join(f"{key} {length}" for key, length in lengths.items())
        raise DataError(f"{where}: the lists of objects differ in length: {found}.")
    boxes = np.array(sides, np.float32).T.reshape(-1, 4)
    masks = features.get("image/object/mask", [])
    return MaskRcnnRecord(
        encoded=encoded,
        source_id=_text(features.get("image/source_id")),
        filename=_text(features.get("image/filename")),
        height=int(height[0]),
        width=int(width[0]),
        boxes=boxes,
        labels=labels,
        class_names=tuple(
            name.decode("utf-8", "replace") for name in features.get("image/object/class/text", [])
        ),
        area=np.array(
            features.get("image/object/area") or _box_areas(boxes, height[0], width[0]), np.float32
        ),
        crowd=np.array(features.get("image/object/is_crowd") or [0] * len(labels), bool),
        masks=tuple(masks) if masks or not len(labels) else None,
    )


def encode_mask(mask: np.ndarray) -> bytes:
    """Returns a mask u8[h w] in {0, 1} as a single-channel PNG with the same values."""
    return cv2.imencode(".png", np.ascontiguousarray(mask, np.uint8))[1].tobytes()


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
    header = header_of(encoded)
    if header is None or ends_early(encoded, header):
        raise DataError(f"{where}: a mask is not a PNG image, or is damaged.")
    if size is not None and (header.height, header.width) != size:  # before memory is taken
        raise DataError(
            f"{where}: a mask is {header.height}x{header.width} pixels (height x width), its "
            f"image {size[0]}x{size[1]}: convert the dataset again"
        )
    check_header(header, encoded[:64], f"{where}, a mask")
    mask = unpack(encoded, cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise DataError(f"{where}: a mask is not a PNG image, or is damaged.")
    return (mask > 0).astype(np.uint8)


def _check_types(features: dict[str, list], where: str) -> None:
    for key, expected in _TYPES.items():
        values = features.get(key)
        if values and not isinstance(values[0], expected):
            found = type(values[0]).__name__
            raise DataError(f"{where}: '{key}' holds {found}, expected {expected.__name__}.")


def _text(values: list | None) -> str:
    return values[0].decode("utf-8", "replace") if values else ""


def _box_areas(boxes: np.ndarray, height: int, width: int) -> list[float]:
    return [float((y2 - y1) * height * (x2 - x1) * width) for y1, x1, y2, x2 in boxes]
