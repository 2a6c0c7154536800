"""The checks of a data set: pure functions from records and scans to observations."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rcnn_jax.data.anchor_fit import REACHED, CellSizes, best_overlaps
from rcnn_jax.data.findings import Finding
from rcnn_jax.data.findings import Kind as FindingKind
from rcnn_jax.data.layouts.collection import Labelled
from rcnn_jax.data.loader.images import apply_boxes, clip_boxes, fit
from rcnn_jax.data.sources.tiles import MIN_VISIBLE, visible, windows
from rcnn_jax.diagnose import kinds
from rcnn_jax.diagnose.exif import shown_size
from rcnn_jax.diagnose.records import Record
from rcnn_jax.diagnose.scan import Scan
from rcnn_jax.diagnose.scenes import films
from rcnn_jax.diagnose.similar import equal_groups, near_groups
from rcnn_jax.errors import DataError
from rcnn_jax.settings.data import GeometrySettings, TilingSettings

MOST_EXAMPLES = 24
RARE = 20
"""Objects of a class in training below which nothing general is learnt of it."""

_BEYOND = 2.0  # pixels; converters round
# Sample specs have ratios up to 2: an anchor of equal area overlaps such an object by a third at best.
_LONG = 8.0
# 16 of 640 pixels, one cell of the stride that a Faster R-CNN predicts from.
_PART = 40.0
# Two objects of a crowd do not cover each other so far; one object labelled again does.
_SAME_BOX = 0.9
MIN_OVERLAP_OF_OUTLINE = 0.5
"""IoU of a box with the box of its outline, below which they do not mean one object."""


@dataclass(frozen=True)
class Example:
    """One case of an observation.

    Attributes:
      where: image, or file and line.
      detail: what is special about this one.
      record: index of the image; None where there is none.
      objects: indices of the objects meant.
    """

    where: str
    detail: str = ""
    record: int | None = None
    objects: tuple[int, ...] = ()


@dataclass
class Observation:
    """All cases of a kind, of which some are kept as examples.

    Attributes:
      kind: which check.
      name: what is counted by name, for example a class.
      count: of cases.
      examples: the first of them.
    """

    kind: FindingKind
    name: str = ""
    count: int = 0
    examples: list[Example] = field(default_factory=list)

    @property
    def finding(self) -> Finding:
        """The observation as one counted finding."""
        where = self.name or (self.examples[0].where if self.examples else "")
        return Finding(self.kind, where, self.count)


class Observations:
    """Collects cases by kind, in the order of the checks."""

    def __init__(self):
        self._by_kind: dict[tuple[FindingKind, str], Observation] = {}

    def add(self, kind: FindingKind, example: Example, *, name: str = "", count: int = 1) -> None:
        """Counts a case, or several of one example."""
        seen = self._by_kind.setdefault((kind, name), Observation(kind, name))
        seen.count += count
        # Counted on, kept no longer: a set of a million boxes may have the same fault in all of them.
        if len(seen.examples) < MOST_EXAMPLES:
            seen.examples.append(example)

    def all(self) -> list[Observation]:
        """Returns the observations, most severe first."""
        # A stable sort: within a severity the order is that of the checks.
        order = {"error": 0, "warning": 1, "note": 2}
        return sorted(self._by_kind.values(), key=lambda seen: order[seen.kind.severity])


@dataclass(frozen=True)
class Target:
    """Requirements of a spec on its data.

    Attributes:
      geometry: from image to canvas.
      cells: stride in pixels -> (height, width) of the anchors of its cells.
      max_objects: most objects of an image, or of a tile; 0 for all.
      tiling: how images are cut into tiles; None for whole ones.
    """

    geometry: GeometrySettings
    cells: Mapping[int, CellSizes]
    max_objects: int = 0
    tiling: TilingSettings | None = None


def check_images(
    records: Sequence[Record], scans: Sequence[Scan], shown: frozenset[int], seen: Observations
) -> None:
    """Observes damaged, turned and wrongly sized images; `shown` are labelled as EXIF shows them."""
    for index, (record, scan) in enumerate(zip(records, scans, strict=True)):
        if scan.fault:
            seen.add(kinds.BROKEN_IMAGE, Example(record.name, scan.fault, index))
            continue
        if scan.low_range:
            seen.add(kinds.LOW_RANGE, Example(record.name, record=index))
        size = shown_size(scan) if index in shown else scan.size
        # Not an error of the size alone: boxes that were drawn on another size are all wrong.
        if record.stated and record.stated != size:
            height, width = record.stated
            detail = f"labels for {height} x {width}, image of {size[0]} x {size[1]} (h x w)" + (
                ": height and width swapped" if (width, height) == size else ""
            )
            seen.add(kinds.OTHER_SIZE, Example(record.name, detail, index))
        if index in shown:
            detail = (
                f"EXIF orientation {scan.orientation}: stored as {scan.size[0]} x {scan.size[1]}, shown "
                f"as {size[0]} x {size[1]} (h x w)"
            )
            seen.add(kinds.DRAWN_TURNED, Example(record.name, detail, index))
        elif scan.orientation != 1:
            detail = f"EXIF orientation {scan.orientation}"
            seen.add(kinds.TURNED, Example(record.name, detail, index))


def check_copies(records: Sequence[Record], scans: Sequence[Scan], seen: Observations) -> None:
    """Observes equal and nearly equal images, within a split and across."""
    for groups, kind in ((equal_groups(scans), kinds.EQUAL), (near_groups(scans), kinds.NEAR)):
        for group in groups:
            first, *others = group
            for other in others:
                detail = f"{'a copy of' if kind is kinds.EQUAL else 'nearly'} {records[first].name}"
                seen.add(kind, Example(records[other].name, detail, other))
            training = [index for index in group if records[index].split == "train"]
            # Without a training image in the group, copies in validation inflate nothing.
            validation = [index for index in group if records[index].split in ("val", "test")]
            for index in validation if training else ():
                detail = f"{records[index].split}; in training as {records[training[0]].name}"
                seen.add(kinds.LEAK, Example(records[index].name, detail, index))
    # By names as well as by pixels: frames a second apart no longer hash alike, and still show one scene.
    classes = [{obj.name for obj in record.objects} for record in records]
    for film in films([record.path for record in records], classes):
        splits = Counter(records[index].split for index in film.frames)
        if len(splits) > 1:
            detail = ", ".join(
                f"{count} in {split or 'no split'}" for split, count in splits.items()
            )
            seen.add(kinds.SCENE_LEAK, Example(film.name, detail, film.frames[0]))


def check_labels(
    records: Sequence[Record], scans: Sequence[Scan], shown: frozenset[int], seen: Observations
) -> None:
    """Observes labels that are wrong in themselves or for their image; `shown` as `check_images`."""
    for index, (record, scan) in enumerate(zip(records, scans, strict=True)):
        # A broken image says nothing of its size, but its labels can still be checked against each other.
        size = scan.size if not scan.fault else record.stated
        # Told once, with the picture: as it is shown its boxes are sound.
        size = shown_size(scan) if index in shown else size
        for kind, position, detail in _faults_of_labels(record, size):
            where = record.objects[position].where or record.name
            seen.add(kind, Example(where, detail, index, (position,)))
        for first, second in twice(record.objects):
            where = record.objects[second].where or record.name
            detail = f"'{record.objects[second].name}' like object {first + 1} of the image"
            seen.add(kinds.TWICE, Example(where, detail, index, (first, second)))


def check_balance(records: Sequence[Record], seen: Observations) -> None:
    """Observes what is rare, missing or doubtful in the set as a whole."""
    empty = [index for index, record in enumerate(records) if not _learnt(record)]
    # One finding instead of one per image: the cause is one too, a wrong folder or class name.
    if records and len(empty) == len(records):
        seen.add(kinds.NO_OBJECTS, Example(f"{len(records)} images"))
        return
    # Background images are wanted in part; more of them than of others is nearly always an accident.
    kind = kinds.EMPTY_MANY if 2 * len(empty) > len(records) else kinds.EMPTY_SOME
    for index in empty:
        seen.add(kind, Example(records[index].name, "", index))
    counts: dict[str, Counter[str]] = {"train": Counter(), "validation": Counter()}
    for record in records:
        part = "validation" if record.split in ("val", "test") else "train"
        counts[part].update(obj.name for obj in _learnt(record))
    training, validation = counts["train"], counts["validation"]
    for name, count in sorted(training.items()):
        if count < RARE:
            seen.add(kinds.RARE, Example(name), name=name, count=count)
        # Only where there is a validation split at all: a folder without one is split later.
        if validation and not validation[name]:
            seen.add(kinds.NOT_VALIDATED, Example(name), name=name, count=count)
    for name, count in sorted(validation.items()):
        if training and not training[name]:
            seen.add(kinds.NOT_TRAINED, Example(name), name=name, count=count)
    for names in _near_names([*training, *validation]):
        pair = " and ".join(f"'{name}' ({training[name] + validation[name]})" for name in names)
        seen.add(kinds.NEAR_NAME, Example(pair), name=pair)


def check_categories(where: str, ids: Collection[int], seen: Observations) -> None:
    """Observes numbers that the ids of a file of categories leave out, counted from 1."""
    used = {number for number in ids if number > 0}  # 0 is the background, or no category
    if missing := max(used, default=0) - len(used):
        detail = f"{len(used)} categories, ids {min(used)} to {max(used)}"
        seen.add(kinds.CATEGORY_GAPS, Example(where, detail), name=where, count=missing)


def check_canvas(
    records: Sequence[Record], scans: Sequence[Scan], target: Target, seen: Observations
) -> None:
    """Observes what the canvas and the anchors of a spec make of the objects."""
    # The finest stride: what is smaller than its cell is less than one number of the map.
    finest = min(target.cells, default=1)
    for index, (record, scan) in enumerate(zip(records, scans, strict=True)):
        learnt = [n for n, obj in enumerate(record.objects) if not obj.crowd]
        if scan.fault or not learnt:
            continue
        boxes = np.array([record.objects[n].box for n in learnt], np.float32)
        # As training does it: clipped to the image first, then moved, then clipped to the canvas.
        inside = clip_boxes(boxes, (0, 0, *scan.size))
        tiles = [(0, 0, *scan.size)] if not target.tiling else windows(scan.size, target.tiling)
        parts = np.stack([visible(inside, tile) for tile in tiles])
        most = int((parts >= MIN_VISIBLE).sum(axis=1).max()) if target.tiling else len(learnt)
        if target.max_objects and most > target.max_objects:
            what = "objects in a tile" if target.tiling else "objects"
            detail = f"{most} {what}, {target.max_objects} are taken"
            seen.add(kinds.SURPLUS, Example(record.name, detail, index))
        # An object lies in several tiles: the one that shows most of it says how it is learnt.
        owner = parts.argmax(axis=0)
        for number in np.unique(owner).tolist():
            top, left, bottom, right = tiles[number]
            size, own = (bottom - top, right - left), np.flatnonzero(owner == number)
            try:
                placed = fit(size, target.geometry)
            except DataError as error:
                seen.add(kinds.CUT, Example(record.name, str(error), index), count=len(own))
                continue
            corner = np.array((top, left) * 2, np.float32)
            whole = apply_boxes(inside[own] - corner, placed.matrix)
            cut = clip_boxes(whole, (0, 0, *placed.image_size))
            sides, kept = whole[:, 2:] - whole[:, :2], cut[:, 2:] - cut[:, :2]
            overlaps = best_overlaps(kept.astype(np.float64), target.cells)
            for position, which in enumerate(own.tolist()):
                if not (sides[position] > 0).all():
                    continue  # has no area, which is reported already
                where = record.objects[learnt[which]].where or record.name
                height, width = sides[position]
                detail = f"{height:.1f} x {width:.1f} pixels of the canvas (height x width)"
                case = Example(where, detail, index, (learnt[which],))
                # A twentieth is left to rounding: scaled boxes end at fractions of the last pixel.
                if kept[position].prod() < 0.95 * sides[position].prod():
                    seen.add(kinds.CUT, case)
                if max(sides[position]) < finest:
                    seen.add(kinds.BELOW_CELL, case)
                # Else: an object below a cell overlaps no anchor either, and one finding is enough.
                elif overlaps[position] < REACHED and (kept[position] > 0).all():
                    seen.add(kinds.UNREACHED, case)


def _learnt(record: Record) -> list[Labelled]:
    return [obj for obj in record.objects if not obj.crowd]


def _faults_of_labels(
    record: Record, size: tuple[int, int] | None
) -> Iterator[tuple[FindingKind, int, str]]:
    for position, obj in enumerate(record.objects):
        y1, x1, y2, x2 = obj.box
        shown = f"'{obj.name}', x {x1:.1f} to {x2:.1f}, y {y1:.1f} to {y2:.1f}"
        if obj.crowd:
            # Nothing else is asked of it: regions of many are large, odd and overlap on purpose.
            yield kinds.CROWDED, position, f"'{obj.name}'"
            continue
        if obj.difficult:
            yield kinds.DIFFICULT, position, f"'{obj.name}'"
        height, width = y2 - y1, x2 - x1
        if height <= 0 or width <= 0:
            # The ratios below would divide by it.
            yield kinds.NO_AREA, position, shown
            continue
        if size is not None:
            if min(y2, size[0]) <= max(y1, 0) or min(x2, size[1]) <= max(x1, 0):
                yield kinds.OUTSIDE, position, f"{shown}; image of {size[0]} x {size[1]}"
                continue
            # Of the farthest side: a sum would let one wrong side hide among three right ones.
            if max(-y1, -x1, y2 - size[0], x2 - size[1]) > _BEYOND:
                yield kinds.BEYOND, position, f"{shown}; image of {size[0]} x {size[1]}"
            if max(height, width) * _PART < max(size):
                yield kinds.SMALL_PART, position, shown
        if max(height / width, width / height) > _LONG:
            yield kinds.STRETCHED, position, shown
        # Training takes the box from the box and the mask from the outline, so it would learn both.
        outline = outline_box(obj)
        if outline is not None and overlap(obj.box, outline) < MIN_OVERLAP_OF_OUTLINE:
            yield kinds.OTHER_OUTLINE, position, shown


def outline_box(obj: Labelled) -> tuple[float, float, float, float] | None:
    """Returns (y1, x1, y2, x2) around the polygons of an object; None without polygons."""
    if not isinstance(obj.outline, list) or not obj.outline:
        return None
    xs = [x for part in obj.outline for x in part[::2]]
    ys = [y for part in obj.outline for y in part[1::2]]
    return (min(ys), min(xs), max(ys), max(xs)) if xs and ys else None


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Returns the IoU of two boxes."""
    common = max(min(one[2], other[2]) - max(one[0], other[0]), 0.0) * max(
        min(one[3], other[3]) - max(one[1], other[1]), 0.0
    )
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    union = sum(areas) - common
    return common / union if union > 0 else 0.0


def twice(objects: Sequence[Labelled]) -> Iterator[tuple[int, int]]:
    """Yields (first, second) of objects of one class whose boxes are nearly equal, by position."""
    by_class: dict[str, list[int]] = {}
    for position, obj in enumerate(objects):
        if not obj.crowd:
            by_class.setdefault(obj.name, []).append(position)
    for positions in by_class.values():
        # Sorted by their top: equal boxes are neighbours, so hundreds of objects are no quadratic loop.
        positions.sort(key=lambda position: objects[position].box)
        for start, first in enumerate(positions):
            top = objects[first].box[0]
            height = max(objects[first].box[2] - top, 0.0)
            for second in positions[start + 1 :]:
                if objects[second].box[0] - top > (1 - _SAME_BOX) * height:
                    break
                if overlap(objects[first].box, objects[second].box) >= _SAME_BOX:
                    yield min(first, second), max(first, second)


def _near_names(names: Sequence[str]) -> list[list[str]]:
    """Returns groups of names that differ in case, blanks, marks or a plural."""
    # The plural by its last letter alone: good enough to ask the user, who decides.
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        plain = re.sub(r"[\W_]+", "", name.casefold())
        groups.setdefault(plain.removesuffix("s") or plain, []).append(name)
    return [group for group in groups.values() if len(group) > 1]
