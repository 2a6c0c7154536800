"""Conversion of COCO instance annotations to TFRecords, for Mask R-CNN.

Records embed images and masks. Image i of the annotation file goes to shard i modulo
num_shards. Source: docs/reference/datasets.md, "Mask R-CNN conversion".
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from rcnn_jax.data.conversion.report import ConversionReport, PartitionReport, refuse_older
from rcnn_jax.data.conversion.staging import StagedFiles, make_folder, require_free_space
from rcnn_jax.data.findings import (
    CROWD,
    MASK_OUTSIDE_BOX,
    NO_OUTLINE,
    OUTSIDE_BOX,
    Finding,
    Tally,
)
from rcnn_jax.data.formats.coco import CocoDataset, unique_names
from rcnn_jax.data.formats.coco_entries import CocoAnnotation, CocoImage
from rcnn_jax.data.formats.coco_masks import rle_mask, segmentation_rle
from rcnn_jax.data.formats.image_files import require_files, require_whole
from rcnn_jax.data.formats.image_size import encoded_image_size
from rcnn_jax.data.formats.mask_rcnn_records import MaskRcnnRecord, encode_mask, encode_record
from rcnn_jax.data.formats.tfrecord import write_records
from rcnn_jax.errors import DataError, SpecError
from rcnn_jax.printable import shown

_SHARD_NAME = re.compile(r"-\d{5,}-of-\d{5,}\.tfrecord")
"""The rest of the name of a record file, behind the tag."""

_THREADS = 8  # masks are compressed outside Python's lock
_CHUNK = 64  # images in work at a time: bounds the memory whatever the number of shards
_SLACK = 1.0  # pixels; annotation tools round boxes and masks differently


@dataclass(frozen=True, kw_only=True)
class MaskRcnnConversion:
    """A COCO dataset and the destination of its records.

    Attributes:
      image_dir: folder of the images.
      annotations_file: COCO instances JSON.
      output_dir: folder of the records; created.
      tag: name the files begin with; empty for the stem of the annotation file.
      num_shards: number of record files, at least 1.
      include_masks: put the masks into the records.
    """

    image_dir: Path
    annotations_file: Path
    output_dir: Path
    tag: str = ""
    num_shards: int = 256
    include_masks: bool = True


@dataclass
class _Notes:
    counts: Counter = field(default_factory=Counter)
    skipped: dict[int, dict[str, list[int]]] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)


@dataclass(frozen=True)
class _Objects:
    """The kept objects of one image, and the ids of annotations with a warning."""

    annotations: list[CocoAnnotation]
    boxes: list[tuple[float, float, float, float]]
    masks: list[bytes]
    box_warnings: list[int]
    mask_warnings: list[int]
    findings: list[Finding]


def convert_mask_rcnn(settings: MaskRcnnConversion) -> ConversionReport:
    """Writes `<output_dir>/<tag>-%05d-of-%05d.tfrecord` and, if needed, `<tag>_warnings.json`.

    Left out and listed as `box`: boxes without extent and boxes more than a pixel beyond the image;
    up to a pixel they are clipped (the original leaves out boxes beyond the right or bottom edge by
    any amount, and keeps those beyond the left and top). Left out and listed as `mask`: masks
    without a pixel. Listed as `mask` but kept: masks more than a pixel outside their box. Category
    ids are written as they are.

    Raises:
      DataError: an image is missing or has another size than the annotations state; a category id is
        0; a box looks normalised; a segmentation is missing, unknown or of the wrong size; or the
        disk is too full. Nothing has been written then.
      SpecError: num_shards is not positive.
    """
    if settings.num_shards < 1:
        raise SpecError(f"num_shards = {settings.num_shards}; expected at least 1.")
    dataset = CocoDataset.load_instances(settings.annotations_file, masks=settings.include_masks)
    output, tag = Path(settings.output_dir), settings.tag or Path(settings.annotations_file).stem
    paths = [settings.image_dir / image.file_name for image in dataset.images]
    require_files(paths, str(dataset.path))
    records = [
        output / f"{tag}-{shard:05d}-of-{settings.num_shards:05d}.tfrecord"
        for shard in range(settings.num_shards)
    ]
    refuse_older(output, tag, _SHARD_NAME, {path.name for path in records})
    make_folder(output)
    # The images alone, a lower bound: masks are small beside them, and a full disk after an hour of
    # conversion leaves nothing.
    require_free_space(output, sum(path.stat().st_size for path in paths))

    notes = _Notes()
    notes.tally.extend(dataset.findings)

    def build(image: CocoImage) -> tuple[bytes, _Objects]:
        return _build(image, dataset, settings)

    warnings_file = output / f"{tag}_warnings.json"
    with StagedFiles() as staged, ThreadPoolExecutor(_THREADS) as pool:
        for shard, path in enumerate(records):
            # Dealt in turn, as in the original: neighbours in a COCO file often come from one
            # scene.
            images = dataset.images[shard :: settings.num_shards]
            write_records(staged.path(path), _records(images, build, pool, dataset, notes))
        if notes.skipped:
            text = json.dumps(notes.skipped, indent=2)
            staged.path(warnings_file).write_text(text, encoding="utf-8")
    if not notes.skipped:
        warnings_file.unlink(missing_ok=True)  # of an earlier conversion of the same name
    return _report(tag, records, dataset, notes, warnings_file)


def _records(
    images: Sequence[CocoImage],
    build: Callable[[CocoImage], tuple[bytes, _Objects]],
    pool: ThreadPoolExecutor,
    dataset: CocoDataset,
    notes: _Notes,
) -> Iterator[bytes]:
    """Yields the records of the images in order and collects their findings."""
    # `pool.map` over all images would read them all at once, whatever the writer has written.
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK]
        for image, (record, objects) in zip(chunk, pool.map(build, chunk), strict=True):
            notes.tally.extend(objects.findings)
            notes.counts.update(item.category_id for item in objects.annotations if not item.crowd)
            if objects.box_warnings or objects.mask_warnings:
                notes.skipped[image.id] = {
                    "box": objects.box_warnings,
                    "mask": objects.mask_warnings,
                }
            yield record


def _report(
    tag: str,
    files: list[Path],
    dataset: CocoDataset,
    notes: _Notes,
    warnings_file: Path,
) -> ConversionReport:
    # Names that two categories share carry their id, or the table would add both up.
    names = unique_names(dataset.categories)
    objects = {names[item_id]: count for item_id, count in notes.counts.items()}
    part = PartitionReport(
        name=tag,
        files=tuple(files),
        images=len(dataset.images),
        objects=dict(sorted(objects.items())),
    )
    return ConversionReport(
        partitions=(part,),
        label_names={name: str(item_id) for item_id, name in names.items()},
        skipped=sum(map(notes.tally.count, (OUTSIDE_BOX, NO_OUTLINE))),
        findings=notes.tally.findings,
        warnings_file=warnings_file if notes.skipped else None,
    )


def _build(
    image: CocoImage, dataset: CocoDataset, settings: MaskRcnnConversion
) -> tuple[bytes, _Objects]:
    path = settings.image_dir / image.file_name
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read the image: {error.strerror}") from error
    height, width = encoded_image_size(encoded, str(path))
    require_whole(path)
    if (height, width) != (image.height, image.width):
        raise DataError(
            f"{path}: is {width} x {height} pixels; {dataset.path} states {image.width} x "
            f"{image.height} for image {image.id}."
        )
    objects = _objects(image, dataset, settings.include_masks)
    record = MaskRcnnRecord(
        encoded=encoded,
        source_id=str(image.id),
        filename=image.file_name,
        height=height,
        width=width,
        boxes=np.array(objects.boxes, np.float32).reshape(-1, 4),
        labels=np.array([item.category_id for item in objects.annotations], np.int64),
        class_names=tuple(dataset.categories[item.category_id] for item in objects.annotations),
        area=np.array([item.area for item in objects.annotations], np.float32),
        crowd=np.array([item.crowd for item in objects.annotations], bool),
        masks=tuple(objects.masks) if settings.include_masks else None,
    )
    return encode_record(record), objects


def _objects(image: CocoImage, dataset: CocoDataset, include_masks: bool) -> _Objects:
    result = _Objects([], [], [], [], [], [])
    for item in dataset.annotations[image.id]:
        name = shown(image.file_name)
        where = f"{dataset.path}: annotation {item.id} of image {image.id} ({name})"
        corners = _corners(item, image, where)
        if corners is None:
            result.box_warnings.append(item.id)
            result.findings.append(Finding(OUTSIDE_BOX, where))
            continue
        if include_masks:
            # By way of run lengths: their area and box come without a decoded mask.
            rle = segmentation_rle(item.segmentation, image.height, image.width)
            if not coco_mask.area(rle):
                result.mask_warnings.append(item.id)
                result.findings.append(Finding(NO_OUTLINE, where))
                continue
            if _leaves_box(coco_mask.toBbox(rle), item.bbox):
                result.mask_warnings.append(item.id)
                result.findings.append(Finding(MASK_OUTSIDE_BOX, where))
            result.masks.append(encode_mask(rle_mask(rle)))
        if item.crowd:
            result.findings.append(Finding(CROWD, dataset.categories[item.category_id]))
        result.annotations.append(item)
        result.boxes.append(corners)
    return result


def _corners(
    item: CocoAnnotation, image: CocoImage, where: str
) -> tuple[float, float, float, float] | None:
    """Returns the normalised (y1, x1, y2, x2), or None for a box that cannot be used."""
    x, y, width, height = item.bbox
    if width <= 0 or height <= 0:
        return None
    # This also refuses a true box of one pixel in the corner of an image.
    if max(x, y, width, height) <= 1:
        raise DataError(
            f"{where}: its bbox {list(item.bbox)} looks normalised; expected x, y, width, height "
            "in pixels."
        )
    right, bottom = x + width, y + height
    outside = max(-x, -y, right - image.width, bottom - image.height)
    if outside > _SLACK:
        return None
    x1, y1 = max(x, 0.0) / image.width, max(y, 0.0) / image.height
    x2, y2 = min(right / image.width, 1.0), min(bottom / image.height, 1.0)
    return (y1, x1, y2, x2) if x1 < x2 and y1 < y2 else None


def _leaves_box(mask_box: np.ndarray, bbox: tuple[float, float, float, float]) -> bool:
    """Returns whether a tight mask box leaves the annotated box by more than a pixel; both xywh."""
    (mx, my, mw, mh), (x, y, w, h) = mask_box, bbox
    return bool(max(x - mx, y - my, mx + mw - x - w, my + mh - y - h) > _SLACK)
