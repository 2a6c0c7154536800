"""Annotations: the objects of an image, and the map from class names to class ids."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from rcnn_jax.data.findings import (
    MISSPELT_KEY,
    UNMAPPED,
    UNUSED_KEYS,
    USELESS_BOX,
    Finding,
    Tally,
)
from rcnn_jax.data.loader.mask_crops import Mask
from rcnn_jax.errors import DataError
from rcnn_jax.printable import shown


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """The objects of one image.

    Attributes:
      boxes: f32[m 4], (y1, x1, y2, x2) in source pixels, continuous; they may leave the image.
      classes: i32[m] in [0, n).
      crowd: bool[m], see `structures.GroundTruth`.
      masks: one per object, None where an object has none; None for data without masks.
      areas: f32[m], pixels of the masks as stated by the data; None where it has none.
    """

    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    masks: tuple[Mask | None, ...] | None = None
    areas: np.ndarray | None = None


class ClassMap:
    """Class names of the dataset -> class ids of the network.

    Names match in any case and without blanks: conversion from COCO writes "Traffic Light"
    as "trafficlight", and users write either. The classes are the distinct values in lower case, sorted.

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
            name = joined(key)
            if classes.setdefault(name, value.lower()) != value.lower():
                raise DataError(
                    f"target_class_mapping maps '{shown(name)}' to two classes, "
                    f"'{shown(classes[name])}' and '{shown(value.lower())}': names match in any "
                    "case and without blanks"
                )
        self.names = tuple(sorted(set(classes.values())))
        self._ids = {key: self.names.index(value) for key, value in classes.items()}
        self._keys = {joined(key): key for key in mapping}

    def get(self, name: str) -> int | None:
        """Returns the class id, or None for a name that is not mapped."""
        return self._ids.get(joined(name))

    def unused_keys(self, label_names: Iterable[str]) -> tuple[Finding, ...]:
        """Returns findings about keys that name no object.

        Args:
          label_names: all class names of the data.
        """
        names = {joined(name): name for name in label_names}
        free = [name for name in names if name not in self._ids]
        tally, silent = Tally(), []
        for key in self._ids:
            if key in names:
                continue
            # Among names that nothing maps: a name that has its key cannot be the meaning of
            # another one.
            match = difflib.get_close_matches(key, free, n=1, cutoff=0.7)
            if match:
                tally.add(MISSPELT_KEY, f"'{self._keys[key]}'; did you mean '{names[match[0]]}'?")
            else:
                # A mapping for several data sets names classes that this one lacks: a note, not a
                # warning.
                silent.append(f"'{self._keys[key]}'")
        if silent:
            tally.add(UNUSED_KEYS, ", ".join(silent))
        return tally.findings


def joined(name: str) -> str:
    """Returns a class name as in records: lower case, without blanks."""
    return "".join(name.lower().split())


class LabelTally(Tally):
    """Findings about labels, and the class names of the labels."""

    def __init__(self):
        super().__init__()
        self.names: set[str] = set()


LabelledBox = tuple[str, tuple[float, float, float, float], bool]
"""(class name, (y1, x1, y2, x2), occluded)."""


def annotate(
    objects: Iterable[LabelledBox],
    class_map: ClassMap,
    size: tuple[int, int],
    where: str,
    tally: LabelTally,
    difficult_is_crowd: bool,
) -> Annotation:
    """Keeps objects of mapped classes whose box has an area inside the image; counts the others.

    Args:
      objects: (class name, box, occluded) each.
      class_map: which classes there are.
      size: (height, width) of the image.
      where: name of the record in messages.
      tally: where to count.
      difficult_is_crowd: occluded objects become crowd.

    Raises:
      DataError: a box is not finite.
    """
    boxes, classes, crowd = [], [], []
    h, w = size
    for number, (name, box, occluded) in enumerate(objects, start=1):
        tally.names.add(name)
        if not np.isfinite(box).all():
            raise DataError(
                f"{where}: object {number} ({shown(name)}) has the box {tuple(map(float, box))} "
                "(y1, x1, y2, x2), which is not finite: correct the label and convert again"
            )
        class_id = class_map.get(name)
        y1, x1, y2, x2 = box
        if class_id is None:
            tally.add(UNMAPPED, name)
        # Boxes partly outside stay whole; `layers.visible_objects` clips them.
        elif min(y2, h) <= max(y1, 0) or min(x2, w) <= max(x1, 0):
            tally.add(USELESS_BOX, where)
        else:
            boxes.append(box)
            classes.append(class_id)
            crowd.append(occluded and difficult_is_crowd)
    return Annotation(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        classes=np.array(classes, np.int32),
        crowd=np.array(crowd, bool),
    )
