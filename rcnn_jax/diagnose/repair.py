"""A repaired copy of a data set: what can be mended without a guess, and nothing else."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rcnn_jax.data.layouts.collection import Item, Labelled
from rcnn_jax.data.layouts.write import Form, Track, write_tree
from rcnn_jax.diagnose import kinds
from rcnn_jax.diagnose.checks import MIN_OVERLAP_OF_OUTLINE, outline_box, overlap, twice
from rcnn_jax.diagnose.dataset import Diagnosis
from rcnn_jax.diagnose.exif import shown_size, turning_copy
from rcnn_jax.diagnose.records import Record
from rcnn_jax.diagnose.scan import Scan
from rcnn_jax.diagnose.similar import equal_groups
from rcnn_jax.errors import DataError

_LEFT_OUT = {
    kinds.UNREADABLE_LABEL: "labels that cannot be read were left out",
    kinds.NO_IMAGE: "labels without an image were left out",
    kinds.NO_LABELS: "images without labels were left out",
}


def repair(diagnosis: Diagnosis, out: Path, track: Track) -> list[str]:
    """Writes the repaired copy; returns what was changed, one sentence each.

    Left alone, because only the owner knows: class names that look alike, labels of another size,
    near duplicates, missing labels.

    Args:
      diagnosis: of a folder, with its images still in place.
      out: a folder that does not exist, or is empty.
      track: shows progress.

    Raises:
      DataError: nothing is left, or the copy cannot be written.
    """
    # By sentence: what was done is told in the order in which it was first done.
    changes: Counter[str] = Counter()
    copies = _copies(diagnosis.records, diagnosis.scans)
    items, rotated = [], {}
    for index, (record, scan) in enumerate(zip(diagnosis.records, diagnosis.scans, strict=True)):
        # Left out with its labels: labels without an image are an error of the next reader.
        if scan.fault or record.path is None:
            changes["images that cannot be read were left out"] += 1
            continue
        if index in copies:
            changes["copies of other images were left out"] += 1
            continue
        size = scan.size
        # Only where labels show it: an EXIF tag alone does not say on which picture they were drawn.
        if index in diagnosis.shown:
            rotated[record.path] = scan.orientation
            size = shown_size(scan)
            changes["images were turned as EXIF says"] += 1
        objects = _objects(record.objects, size, changes)
        items.append(Item(record.path, record.path, objects, size, record.split))
    if not items:
        raise DataError(f"{out}: nothing is left to write: no image can be read")
    # KITTI where it can be, as every reader of boxes knows it; outlines need COCO.
    masks = any(obj.outline is not None for item in items for obj in item.objects)
    form: Form = "coco" if masks else "kitti"

    names = tuple(sorted({obj.name for item in items for obj in item.objects}))
    write_tree(items, out, form, names, track=track, copy=turning_copy(rotated))
    # They never were among the records: what reads the folder has left them out already.
    for seen in diagnosis.observations:
        if seen.kind in _LEFT_OUT:
            changes[_LEFT_OUT[seen.kind]] += seen.count
    lines = [f"  {count:,} {what}" for what, count in changes.items()] or ["  nothing was changed"]
    return [f"repaired copy: {out} ({form}, {len(items):,} images)", *lines]


def _copies(records: Sequence[Record], scans: Sequence[Scan]) -> set[int]:
    """Returns the images to leave out: of equal ones the training image stays, else the first."""
    # Training comes first because it has most to lose: a validation set may shrink by an image.
    order = {"train": 0, "": 1, "val": 2, "test": 3}
    left_out: set[int] = set()
    for group in equal_groups(scans):
        kept = min(group, key=lambda index: (order.get(records[index].split, 4), index))
        left_out |= set(group) - {kept}
    return left_out


def _objects(
    objects: Sequence[Labelled], size: tuple[int, int], changes: Counter[str]
) -> tuple[Labelled, ...]:
    # The second of two: annotation tools append, and the first was there when the image was checked.
    again = {second for _, second in twice(objects)}
    kept = []
    for position, obj in enumerate(objects):
        if position in again:
            changes["second labels of one object were removed"] += 1
            continue
        outline = outline_box(obj)
        if outline and overlap(obj.box, outline) < MIN_OVERLAP_OF_OUTLINE:
            obj = dataclasses.replace(obj, box=outline)
            changes["boxes were taken from their outlines"] += 1
        y1, x1, y2, x2 = obj.box
        clipped = (max(y1, 0.0), max(x1, 0.0), min(y2, size[0]), min(x2, size[1]))
        if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
            changes["boxes without area or outside their image were removed"] += 1
            continue
        # Clipped in any case, told only where it was more than a rounding.
        if max(abs(a - b) for a, b in zip(clipped, obj.box, strict=True)) > 0.5:
            changes["boxes were clipped to their image"] += 1
        kept.append(dataclasses.replace(obj, box=clipped))
    return tuple(kept)
