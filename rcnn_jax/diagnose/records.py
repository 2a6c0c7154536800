"""Records of the doctor: images with their labels, from a folder or from the sources of a spec."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rcnn_jax.data.formats.image_decoder import decode, has_low_range, read_bytes
from rcnn_jax.data.formats.image_header import header_of
from rcnn_jax.data.layouts.collection import Collection, Labelled
from rcnn_jax.data.sources.boxes import Source


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


def of_source(source: Source, split: str) -> list[Record]:
    """Returns the records of an opened source of training or validation images."""
    records = []
    for index in range(len(source)):
        annotation = source.annotation(index)
        rows = zip(
            annotation.classes.tolist(),
            annotation.boxes.tolist(),
            annotation.crowd.tolist(),
            strict=True,
        )
        # Boxes come back as the source gives them, not clipped: that they leave the image is a finding.
        objects = tuple(
            Labelled(
                source.class_names[label], (y1, x1, y2, x2), crowd=crowd, where=source.name(index)
            )
            for label, (y1, x1, y2, x2), crowd in rows
        )
        records.append(
            Record(
                name=source.name(index),
                split=split,
                stated=source.size(index),
                objects=objects,
                read=lambda index=index: _of_record(source, index),
            )
        )
    return records


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
