"""Data sources with instance masks: Mask R-CNN records and COCO folders.

Category ids become classes by a mapping of the caller: the spec decides whether ids are compacted.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from rcnn_jax.data.findings import USELESS_BOX, Finding, Tally
from rcnn_jax.data.formats.coco import CocoDataset
from rcnn_jax.data.formats.coco_entries import CocoAnnotation, has_area
from rcnn_jax.data.formats.coco_masks import segmentation_mask
from rcnn_jax.data.formats.image_files import require_files
from rcnn_jax.data.formats.image_size import encoded_image_size
from rcnn_jax.data.formats.mask_rcnn_records import (
    MaskRcnnRecord,
    check_mask_header,
    decode_mask,
    decode_record,
)
from rcnn_jax.data.formats.tfrecord import RecordFile
from rcnn_jax.data.loader import images
from rcnn_jax.data.loader.mask_crops import Mask, Polygons, Raster
from rcnn_jax.data.sources.annotations import Annotation
from rcnn_jax.data.sources.boxes import Source
from rcnn_jax.data.sources.digest import ImageDigest, digest_image, segmentation_bytes
from rcnn_jax.errors import DataError
from rcnn_jax.printable import shown


class MaskSource(Source, Protocol):
    """A source whose images are known to a COCO annotation file."""

    def source_id(self, index: int) -> int:
        """The image id that evaluation reports."""
        ...

    def file_name(self, index: int) -> str:
        """The name of the image file; may be empty."""
        ...


@dataclass(frozen=True, slots=True)
class _Entry:
    """The part of a record kept in memory: all but the pixels of image and masks."""

    source_id: int
    file_name: str
    size: tuple[int, int]
    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    has_masks: bool


class MaskRcnnRecords:
    """TFRecords that embed images, boxes and PNG masks (TAO Mask R-CNN layout).

    Every record is read once when the source is opened, so that its errors are reported before the
    first step. Images and masks are read again on access. Boxes without area, which the
    converter leaves out, are dropped when batches are made.

    Args:
      shards: TFRecord files, see `sources.select_shards`.
      class_ids: category id -> class in [0, n).
      class_names: of the classes.
      masks: whether masks are used.

    Raises:
      DataError: a file is missing or damaged, a record contradicts itself, an image comes twice, a
        category id is not in `class_ids`, two names share an id, masks are missing, or there is no
        record.

    Source: docs/reference/datasets.md, "Mask R-CNN records".
    """

    findings: tuple[Finding, ...] = ()

    def __init__(
        self,
        shards: Sequence[Path],
        class_ids: Mapping[int, int],
        class_names: tuple[str, ...],
        *,
        masks: bool = True,
    ):
        self.class_names = class_names
        self.category_names: dict[int, str] = {}
        self._files = [RecordFile(shard) for shard in shards]
        self._ends = np.cumsum([len(file) for file in self._files], dtype=np.int64)
        if not (len(self._ends) and self._ends[-1]):
            raise DataError(
                f"{', '.join(map(str, shards)) or 'data source'}: the TFRecords hold no image: run "
                "dataset_convert again"
            )
        first_in: dict[int, str] = {}
        self._entries = []
        for index in range(int(self._ends[-1])):
            where = self.name(index)
            record = self._record(index)
            # Headers only: decoding a data set of records at the start would take as long as an
            # epoch.
            _check_pixels(record, where, masks=masks)
            classes = classes_of(record.labels.tolist(), class_ids, where)
            self._note_names(record, where)
            if (first := first_in.setdefault(record.image_id, where)) != where:
                raise DataError(
                    f"{where}: image {record.image_id} ('{shown(record.filename)}') comes twice, "
                    f"first in {first}: the folder holds the records of two conversions; delete one "
                    "of them"
                )
            scale = np.array([record.height, record.width] * 2, np.float32)
            self._entries.append(
                _Entry(
                    source_id=record.image_id,
                    file_name=record.filename,
                    size=(record.height, record.width),
                    # In pixels from here on, as every source gives them.
                    boxes=record.boxes * scale,
                    classes=classes,
                    crowd=record.crowd,
                    has_masks=record.masks is not None,
                )
            )

    def __len__(self) -> int:
        return len(self._entries)

    def name(self, index: int) -> str:
        """Shard and number of the record."""
        file, number = self._find(index)
        return f"{file.path}: record {number}"

    def source_id(self, index: int) -> int:
        """The image id that evaluation reports."""
        return self._entries[index].source_id

    def file_name(self, index: int) -> str:
        """The name of the image file; may be empty."""
        return self._entries[index].file_name

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) as the record states it."""
        return self._entries[index].size

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
        """The objects of the image; the first access to a mask reads the record."""
        entry = self._entries[index]
        masks = None
        if entry.has_masks:
            # Lazy: statistics and evaluation of boxes ask for annotations and decode no mask.
            stored = _StoredMasks(self, index)
            masks = tuple(
                Raster(functools.partial(stored.decode, i)) for i in range(len(entry.classes))
            )
        return Annotation(boxes=entry.boxes, classes=entry.classes, crowd=entry.crowd, masks=masks)

    def _note_names(self, record: MaskRcnnRecord, where: str) -> None:
        """Collects the names of categories in the records."""
        # Not strict: records of other programs carry no names.
        for item_id, name in zip(record.labels.tolist(), record.class_names, strict=False):
            known = self.category_names.setdefault(item_id, name)
            if name != known:
                raise DataError(
                    f"{where}: category {item_id} is called '{shown(name)}' here, but "
                    f"'{shown(known)}' in other records: the folder holds the records of two data "
                    "sets"
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
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self._files[number], index - int(self._ends[number]) + len(self._files[number])


class _StoredMasks:
    """The masks of one record, read together on first access."""

    def __init__(self, source: MaskRcnnRecords, index: int):
        self._source = source
        self._index = index

    def decode(self, number: int) -> np.ndarray:
        """Returns u8[h w], the mask of one object."""
        name, size = self._source.name(self._index), self._source.size(self._index)
        return decode_mask(self._encoded[number], name, size)

    @functools.cached_property
    def _encoded(self) -> tuple[bytes, ...]:
        # Of one record, while a batch is made: kept for all, the masks would fill the memory.
        return self._source._record(self._index).masks or ()


def _check_pixels(record: MaskRcnnRecord, where: str, *, masks: bool) -> None:
    """Compares the headers of the image and of its masks with the stated size.

    Raises:
      DataError: they differ, or masks are used and missing.
    """
    size = (record.height, record.width)
    stored = encoded_image_size(record.encoded, where)
    if stored != size:
        raise DataError(
            f"{where}: the image is {stored[0]}x{stored[1]} pixels (height x width), its record states "
            f"{size[0]}x{size[1]}: convert the dataset again"
        )
    if not masks:
        return
    if record.masks is None:
        raise DataError(
            f"{where}: its {len(record.labels)} objects have no masks: convert the dataset with "
            "masks, or train without them (include_mask: False)"
        )
    for mask in record.masks:
        check_mask_header(mask, where, size)


class CocoFolder:
    """A COCO annotation file and its folder of images, read directly.

    Extension: the original needs TFRecords.

    Args:
      dataset: the annotation file, loaded with masks where masks are used.
      image_dir: holds `file_name` of every image.
      class_ids: category id -> class in [0, n).
      class_names: of the classes.

    Raises:
      DataError: a category id is not in `class_ids`, or an image file is missing or empty.
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
        tally = Tally()
        tally.extend(dataset.findings)
        for image in dataset.images:
            annotations = dataset.annotations[image.id]
            kept = tuple(item for item in annotations if has_area(item, image))
            dropped = len(annotations) - len(kept)
            tally.add(USELESS_BOX, f"{dataset.path}: image {image.id}", dropped)
            self._objects.append(kept)
            ids = [item.category_id for item in kept]
            self._classes.append(classes_of(ids, class_ids, str(dataset.path)))
        require_files([self._path(i) for i in range(len(self))], str(dataset.path))
        self.findings = tally.findings
        # Loaded without masks, no object has any: a tuple of none would be data with masks.
        self._has_masks = any(
            item.segmentation is not None for objects in self._objects for item in objects
        )

    def __len__(self) -> int:
        return len(self._objects)

    def name(self, index: int) -> str:
        """The path of the image."""
        return shown(self._path(index))

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
        """The objects of the image."""
        objects = self._objects[index]
        corners = [(y, x, y + h, x + w) for x, y, w, h in (item.bbox for item in objects)]
        return Annotation(
            boxes=np.array(corners, np.float32).reshape(-1, 4),
            classes=self._classes[index],
            crowd=np.array([item.crowd for item in objects], bool),
            # Closures, not arrays: a mask is decoded where it is cropped, and many objects are
            # dropped before.
            masks=tuple(self._mask(item, index) for item in objects) if self._has_masks else None,
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
        """Returns the mask of an object, checked on loading; None without a segmentation."""
        if item.segmentation is None:
            return None
        if isinstance(item.segmentation, list):
            return Polygons(
                tuple(np.asarray(ring, np.float64).reshape(-1, 2) for ring in item.segmentation)
            )
        return Raster(functools.partial(segmentation_mask, item.segmentation, *self.size(index)))


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
