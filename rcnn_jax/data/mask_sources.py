"""Sources with instance masks: Mask R-CNN records and COCO folders.

Category ids of the data set become classes through a mapping that the caller makes, because whether
ids are compacted is decided by the spec.
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from rcnn_jax.data import images
from rcnn_jax.data.annotations import Annotation
from rcnn_jax.data.coco import CocoAnnotation, CocoDataset, CocoImage
from rcnn_jax.data.coco_masks import segmentation_mask
from rcnn_jax.data.digest import ImageDigest, digest_image, segmentation_bytes
from rcnn_jax.data.mask_crops import Mask, Polygons, Raster
from rcnn_jax.data.mask_rcnn_records import MaskRcnnRecord, decode_mask, decode_record
from rcnn_jax.data.records import RecordFile
from rcnn_jax.data.sources import Source
from rcnn_jax.errors import DataError


class MaskSource(Source, Protocol):
    """A source whose images are known to a COCO annotation file."""

    def source_id(self, index: int) -> int:
        """The image id that evaluation reports."""
        ...

    def file_name(self, index: int) -> str:
        """The name of the image file; may be empty."""
        ...


class MaskRcnnRecords:
    """TFRecords that embed images, boxes and PNG masks (TAO Mask R-CNN layout).

    Records are read when asked for: they hold the images. Boxes without area, which the converter
    leaves out, are dropped when batches are made.

    Args:
      shards: TFRecord files, see `sources.select_shards`.
      class_ids: category id -> class in [0, n).
      class_names: of the classes.

    Raises:
      DataError: a file is missing or damaged, or there is no record.

    Source: reference datasets section 3.1.
    """

    notes: tuple[str, ...] = ()

    def __init__(
        self, shards: Sequence[Path], class_ids: Mapping[int, int], class_names: tuple[str, ...]
    ):
        self.class_names = class_names
        self._class_ids = dict(class_ids)
        self._files = [RecordFile(shard) for shard in shards]
        self._ends = np.cumsum([len(file) for file in self._files], dtype=np.int64)
        if not len(self):
            raise DataError(
                f"{', '.join(map(str, shards)) or 'data source'}: the TFRecords hold no image: run "
                "dataset_convert again"
            )

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def name(self, index: int) -> str:
        """Shard and number of the record."""
        file, number = self._find(index)
        return f"{file.path}: record {number}"

    def source_id(self, index: int) -> int:
        """The image id that evaluation reports."""
        return self._record(index).image_id

    def file_name(self, index: int) -> str:
        """The name of the image file; may be empty."""
        return self._record(index).filename

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) as the record states it."""
        record = self._record(index)
        return record.height, record.width

    def image(self, index: int, channel_order: str) -> np.ndarray:
        """u8[h w c].

        Raises:
          DataError: the image is damaged or not of the size its record states.
        """
        record, name = self._record(index), self.name(index)
        image = images.read_image(record.encoded, channel_order, name)
        images.check_size(image, (record.height, record.width), name)
        return image

    def annotation(self, index: int) -> Annotation:
        """The objects of the image.

        Raises:
          DataError: a box is not finite, or a category id is not in `class_ids`.
        """
        record, name = self._record(index), self.name(index)
        scale = np.array([record.height, record.width] * 2, np.float32)
        masks = None
        if record.masks is not None:
            size = (record.height, record.width)
            masks = tuple(
                Raster(functools.partial(decode_mask, data, name, size)) for data in record.masks
            )
        if not np.isfinite(record.boxes).all():
            raise DataError(f"{name}: a box is not finite: run dataset_convert again")
        return Annotation(
            boxes=record.boxes * scale,
            classes=classes_of(record.labels.tolist(), self._class_ids, name),
            crowd=record.crowd,
            masks=masks,
        )

    def digest(self, index: int) -> ImageDigest:
        """The length of the record and its checksum, which covers image, boxes and masks."""
        file, number = self._find(index)
        length, checksum = file.checksum(number)
        return ImageDigest(length, f"{checksum:08x}")

    def _record(self, index: int) -> MaskRcnnRecord:
        file, number = self._find(index)
        return decode_record(file[number], self.name(index))

    def _find(self, index: int) -> tuple[RecordFile, int]:
        place = int(np.searchsorted(self._ends, index, side="right"))
        return self._files[place], index - int(self._ends[place]) + len(self._files[place])


class CocoFolder:
    """A COCO annotation file and its folder of images, read directly.

    Extension: the original needs TFRecords.

    Args:
      dataset: the annotation file.
      image_dir: holds `file_name` of every image.
      class_ids: category id -> class in [0, n).
      class_names: of the classes.

    Raises:
      DataError: a category id is not in `class_ids`.
    """

    def __init__(
        self,
        dataset: CocoDataset,
        image_dir: Path,
        class_ids: Mapping[int, int],
        class_names: tuple[str, ...],
    ):
        self.class_names = class_names
        self._dataset = dataset
        self._image_dir = Path(image_dir)
        self._objects: list[tuple[CocoAnnotation, ...]] = []
        self._classes = []
        dropped = 0
        for image in dataset.images:
            found = dataset.annotations[image.id]
            kept = tuple(item for item in found if _has_area(item, image))
            dropped += len(found) - len(kept)
            self._objects.append(kept)
            ids = [item.category_id for item in kept]
            self._classes.append(classes_of(ids, class_ids, str(dataset.path)))
        self.notes: tuple[str, ...] = ()
        if dropped:
            self.notes = (
                f"{dataset.path}: {dropped} boxes without area or outside their image are left out",
            )

    def __len__(self) -> int:
        return len(self._objects)

    @property
    def object_counts(self) -> list[int]:
        """Objects of every image."""
        return [len(objects) for objects in self._objects]

    def name(self, index: int) -> str:
        """The path of the image."""
        return str(self._path(index))

    def source_id(self, index: int) -> int:
        """The image id of the annotation file, which evaluation reports."""
        return self._dataset.images[index].id

    def file_name(self, index: int) -> str:
        """`file_name` of the annotation file."""
        return self._dataset.images[index].file_name

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) as the annotation file states it."""
        image = self._dataset.images[index]
        return image.height, image.width

    def image(self, index: int, channel_order: str) -> np.ndarray:
        """u8[h w c].

        Raises:
          DataError: the image is missing, damaged or not of the size the annotation file states.
        """
        path = self._path(index)
        image = images.read_image(path, channel_order)
        images.check_size(image, self.size(index), str(path))
        return image

    def annotation(self, index: int) -> Annotation:
        """The objects of the image.

        Raises:
          DataError: a segmentation is not made of polygons or run lengths.
        """
        objects = self._objects[index]
        corners = [(y, x, y + h, x + w) for x, y, w, h in (item.bbox for item in objects)]
        return Annotation(
            boxes=np.array(corners, np.float32).reshape(-1, 4),
            classes=self._classes[index],
            crowd=np.array([item.crowd for item in objects], bool),
            masks=tuple(self._mask(item, index) for item in objects),
        )

    def digest(self, index: int) -> ImageDigest:
        """The length of the image file and a digest of its annotations."""
        objects = self._objects[index]
        names = [self.class_names[c] for c in self._classes[index]]
        parts = (
            repr((item.bbox, item.crowd)).encode() + segmentation_bytes(item.segmentation)
            for item in objects
        )
        return digest_image(self._path(index), self.size(index), names, parts)

    def _path(self, index: int) -> Path:
        return self._image_dir / self._dataset.images[index].file_name

    def _mask(self, item: CocoAnnotation, index: int) -> Mask | None:
        """The mask of an object; None without a segmentation."""
        where = f"{self._dataset.path}: annotation {item.id}"
        if not item.segmentation:
            return None
        if isinstance(item.segmentation, list):
            return _polygons(item.segmentation, where)
        return Raster(functools.partial(_decode, item.segmentation, *self.size(index), where))


def classes_of(category_ids: Sequence[int], class_ids: Mapping[int, int], where: str) -> np.ndarray:
    """Returns i32[m] classes of category ids.

    Raises:
      DataError: an id is not in `class_ids`.
    """
    unknown = sorted({i for i in category_ids if i not in class_ids})
    if unknown:
        known = ", ".join(str(i) for i in sorted(class_ids))
        raise DataError(
            f"{where}: category id {', '.join(map(str, unknown))} is unknown; the classes are made "
            f"from {known}: correct num_classes or the annotations"
        )
    return np.array([class_ids[i] for i in category_ids], np.int32)


def _has_area(item: CocoAnnotation, image: CocoImage) -> bool:
    x, y, w, h = item.bbox
    right, bottom = min(x + w, image.width), min(y + h, image.height)
    return right > max(x, 0) and bottom > max(y, 0)


def _polygons(segmentation: list, where: str) -> Polygons:
    """Checks polygons of the form [x1, y1, x2, y2, ...]."""
    rings = []
    for polygon in segmentation:
        try:
            ring = np.asarray(polygon, np.float64).reshape(-1, 2)
        except (TypeError, ValueError):
            ring = np.zeros((0, 2))
        if len(ring) < 3 or not np.isfinite(ring).all():
            raise DataError(
                f"{where}: a polygon is not a list of at least three points x1, y1, x2, y2, x3, y3"
            )
        rings.append(ring)
    return Polygons(tuple(rings))


def _decode(segmentation: dict, height: int, width: int, where: str) -> np.ndarray:
    """Decodes run lengths to u8[h w]."""
    try:
        return segmentation_mask(segmentation, height, width)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
