"""The objects of an image as every source gives them, and the names of their classes."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from rcnn_jax.data.mask_crops import Mask
from rcnn_jax.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """The objects of one image.

    Attributes:
      boxes: f32[m 4], (y1, x1, y2, x2) in source pixels, continuous; they may leave the image.
      classes: i32[m] in [0, n).
      crowd: bool[m], see `structures.GroundTruth`.
      masks: one per object, None where an object has none; None for data without masks.
      areas: f32[m], pixels of the masks as the data states them; None where it does not.
    """

    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    masks: tuple[Mask | None, ...] | None = None
    areas: np.ndarray | None = None


class ClassMap:
    """Class names of the dataset -> class ids of the network.

    Names are matched whatever their case. The classes are the distinct values in lower case,
    sorted.

    Args:
      mapping: name in the dataset -> name of the class, the spec's `target_class_mapping`.

    Raises:
      DataError: the mapping is empty, or maps one name to two classes.
    """

    def __init__(self, mapping: Mapping[str, str]):
        if not mapping:
            raise DataError("target_class_mapping is empty: map at least one class of the dataset")
        classes = {}
        for key, value in mapping.items():
            if classes.setdefault(key.lower(), value.lower()) != value.lower():
                raise DataError(
                    f"target_class_mapping maps '{key.lower()}' to two classes, "
                    f"'{classes[key.lower()]}' and '{value.lower()}': names match in any case"
                )
        self.names = tuple(sorted(set(classes.values())))
        self._ids = {key: self.names.index(value) for key, value in classes.items()}

    def get(self, name: str) -> int | None:
        """Returns the class id, or None for a name that is not mapped."""
        return self._ids.get(name.lower())


@dataclass
class Omissions:
    """Counts what a source leaves out, and says so."""

    classes: Counter = field(default_factory=Counter)
    boxes: Counter = field(default_factory=Counter)
    kept: int = 0

    def notes(self) -> tuple[str, ...]:
        """Returns one sentence per kind of omission."""
        notes = []
        if self.classes:
            counts = ", ".join(f"{name} ({n})" for name, n in sorted(self.classes.items()))
            notes.append(
                f"{self.classes.total()} objects of classes that target_class_mapping does not "
                f"name are left out: {counts}"
            )
        if self.boxes:
            notes.append(
                f"{self.boxes.total()} boxes without area or outside their image are left out, the "
                f"first in {next(iter(self.boxes))}"
            )
        if not self.kept:
            notes.append("no object is left at all: check target_class_mapping and the labels")
        return tuple(notes)


LabelledBox = tuple[str, tuple[float, float, float, float], bool]
"""(class name, (y1, x1, y2, x2), occluded)."""


def annotate(
    objects: Iterable[LabelledBox],
    class_map: ClassMap,
    size: tuple[int, int],
    where: str,
    omissions: Omissions,
    difficult_is_crowd: bool,
) -> Annotation:
    """Keeps objects of mapped classes whose box has an area inside the image; counts the others.

    Args:
      objects: (class name, box, occluded) each.
      class_map: which classes there are.
      size: (height, width) of the image.
      where: what messages call the record.
      omissions: where to count.
      difficult_is_crowd: occluded objects become crowd.

    Raises:
      DataError: a box is not finite.
    """
    boxes, classes, crowd = [], [], []
    h, w = size
    for number, (name, box, occluded) in enumerate(objects, start=1):
        if not np.isfinite(box).all():
            raise DataError(
                f"{where}: object {number} ({name}) has the box {tuple(map(float, box))} "
                "(y1, x1, y2, x2), which is not finite: correct the label and convert again"
            )
        found = class_map.get(name)
        y1, x1, y2, x2 = box
        if found is None:
            omissions.classes[name] += 1
        elif min(y2, h) <= max(y1, 0) or min(x2, w) <= max(x1, 0):
            omissions.boxes[where] += 1
        else:
            boxes.append(box)
            classes.append(found)
            crowd.append(occluded and difficult_is_crowd)
    omissions.kept += len(boxes)
    return Annotation(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        classes=np.array(classes, np.int32),
        crowd=np.array(crowd, bool),
    )
