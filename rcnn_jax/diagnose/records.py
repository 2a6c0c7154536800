"""Records of the doctor: images with their labels, from a folder or from the sources of a spec."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rcnn_jax.data.formats.image_decoder import decode, has_low_range, read_bytes
from rcnn_jax.data.formats.image_folder import is_image_name
from rcnn_jax.data.formats.image_header import header_of
from rcnn_jax.data.formats.image_size import read_image_size
from rcnn_jax.data.formats.tfrecord import RecordFile
from rcnn_jax.data.layouts.collection import Collection, Labelled
from rcnn_jax.data.loader.mask_crops import Mask, Polygons
from rcnn_jax.data.sources.boxes import Source
from rcnn_jax.errors import DataError


@dataclass(frozen=True)
class Pixels:
    """One decoded image.

    Attributes:
      image: u8[h w 3], RGB.
      digest: of the file, or of the pixels where they lie in a record.
      orientation: EXIF's, 1 to 8; 1 is upright.
      low_range: 16 bits a pixel, of which the upper byte says next to nothing.
    """

    image: np.ndarray
    digest: bytes
    orientation: int = 1
    low_range: bool = False


@dataclass(frozen=True)
class Record:
    """One image with its labels.

    Attributes:
      name: in messages: a path, or shard and number of a record.
      split: `train`, `val`, `test`, or empty.
      stated: (height, width) that the labels were made for, where they say so.
      objects: its labels.
      read: decodes the image; raises DataError.
      path: of the image file; None inside records.
    """

    name: str
    split: str
    stated: tuple[int, int] | None
    objects: tuple[Labelled, ...]
    read: Callable[[], Pixels]
    path: Path | None = None


def of_collection(collection: Collection) -> list[Record]:
    """Returns the records of an annotated folder."""
    return [
        Record(
            name=str(item.image),
            split=item.split,
            stated=item.size,
            objects=item.objects,
            # Bound now: a closure over the loop would read the last image for all of them.
            read=lambda path=item.image: read_file(path),
            path=item.image,
        )
        for item in collection.items
    ]


def of_source(source: Source, split: str, *, coco: bool) -> list[Record]:
    """Returns the records of an opened source of training or validation images.

    Args:
      source: where its images are files it names them by their paths, and they are read as those of a
        folder are: a decoded image no longer says how it is to be shown, or how many bits it had.
      split: `train` or `val`.
      coco: annotations follow COCO: they state the size that they were made for, and a crowd is a region
        of many. Elsewhere a crowd is an occluded object, which the metric leaves out.
    """
    records = []
    for index in range(len(source)):
        annotation = source.annotation(index)
        path = Path(source.name(index))
        path = path if path.is_file() else None
        rows = zip(
            annotation.classes.tolist(),
            annotation.boxes.tolist(),
            annotation.crowd.tolist(),
            annotation.masks or (None,) * len(annotation.classes),
            strict=True,
        )
        # Boxes come back as the source gives them, not clipped: that they leave the image is a finding.
        objects = tuple(
            Labelled(
                source.class_names[label],
                (y1, x1, y2, x2),
                _polygons(mask),
                crowd=crowd and coco,
                difficult=crowd and not coco,
                where=source.name(index),
            )
            for label, (y1, x1, y2, x2), crowd, mask in rows
        )
        records.append(
            Record(
                name=source.name(index),
                split=split,
                stated=source.size(index) if coco else _other_size(source.size(index), path),
                objects=objects,
                read=lambda index=index, path=path: (
                    read_file(path) if path else _of_record(source, index)
                ),
                path=path,
            )
        )
    return records


def first_record_file(root: Path) -> Path | None:
    """Returns the first TFRecord file: a file itself, or in or below a folder; None for none."""
    paths = [root] if root.is_file() else sorted(root.rglob("*"))
    return next((path for path in paths if path.is_file() and _holds_records(path)), None)


def _holds_records(path: Path) -> bool:
    if is_image_name(path.name):
        return False
    try:
        # By the checksum of the first length, whatever the name: shards have no common ending.
        with RecordFile(path) as file:
            return len(file) > 0
    except DataError:
        return False


def _polygons(mask: Mask | None) -> list[list[float]] | None:
    """Returns the polygons of a mask as COCO writes them; None for pixels, which no check compares."""
    if not isinstance(mask, Polygons):
        return None
    return [ring.ravel().tolist() for ring in mask.rings]


def _other_size(size: tuple[int, int], path: Path | None) -> tuple[int, int] | None:
    """Returns the size that labels state; None where it is the size of the file.

    Readers and converters of KITTI take it from there, so it says nothing of the picture that the labels
    were drawn on: taken for a statement it would contradict boxes drawn on the picture as shown.
    """
    try:
        return None if path is None or size == read_image_size(path) else size
    except DataError:  # the image is damaged, which its own check says
        return size


def read_file(path: Path) -> Pixels:
    """Returns the pixels of an image file.

    Raises:
      DataError: it is missing, damaged or no image.
    """
    data = read_bytes(path, str(path))
    image = decode(data, "rgb", str(path))
    header = header_of(data)
    # Formats without a header that is read, such as BMP, have no EXIF.
    orientation = header.orientation if header else 1
    low_range = header is not None and has_low_range(header, image)
    return Pixels(image, hashlib.sha256(data).digest(), orientation, low_range)


def _of_record(source: Source, index: int) -> Pixels:
    image = source.image(index, "rgb")
    # Of the pixels: the bytes of an image inside a record are not at hand, and equal files give
    # equal pixels.
    return Pixels(image, hashlib.sha256(image.tobytes()).digest())
