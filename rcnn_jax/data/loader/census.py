"""Statistics of a source before training: objects by class, omissions, sizes of boxes.

They come from labels alone, by the rules that make batches without augmentation.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from rcnn_jax.data.count_table import Column
from rcnn_jax.data.findings import CROWD, SURPLUS, TINY, Finding, Tally
from rcnn_jax.data.loader import images
from rcnn_jax.data.loader.layers import MIN_BOX_SIDE, visible_objects
from rcnn_jax.data.sources.boxes import Source
from rcnn_jax.errors import DataError
from rcnn_jax.settings.data import AugmentSettings, GeometrySettings, GroundTruthSettings


@dataclass(frozen=True)
class Census:
    """The objects of a source.

    Attributes:
      column: their counts, for the table.
      sides: f32[n 2], (height, width) on the canvas of every object that counts as one.
    """

    column: Column
    sides: np.ndarray


def take_census(
    source: Source,
    name: str,
    geometry: GeometrySettings,
    augment: AugmentSettings | None = None,
    gt: GroundTruthSettings | None = None,
) -> Census:
    """Returns the counts of a source.

    Args:
      source: images with their annotations.
      name: heading of the column.
      geometry: from image to canvas.
      augment: of training; its smallest side of a box counts.
      gt: how many objects of an image are used; None for all, as in validation.

    Raises:
      DataError: an annotation is damaged, or the crop of the geometry leaves nothing of an image.
    """
    tally = Tally()
    tally.extend(source.findings)
    counts: Counter[int] = Counter()
    min_side = MIN_BOX_SIDE if augment is None else augment.min_box_side
    # Crowds count in a row of their own, never as objects of a class.
    rules = GroundTruthSettings(max_objects=0, skip_crowd=True)
    sides = [np.zeros((0, 2), np.float32)]
    most = 0
    surplus = 0
    for index in range(len(source)):
        annotation = source.annotation(index)
        crowd = annotation.crowd
        for class_id in annotation.classes[crowd].tolist():
            tally.add(CROWD, source.class_names[class_id])
        # The size as the data states it: a census decodes no image.
        placed = images.fit(source.size(index), geometry)
        kept, boxes = visible_objects(annotation, placed, min_side, rules)
        tally.add(TINY, source.name(index), int((~crowd).sum()) - len(kept))
        if gt is not None:
            # Crowd regions fill slots of the padded ground truth too, unless they are skipped.
            every, _ = visible_objects(annotation, placed, min_side, gt)
            used = every[: gt.max_objects]
            if len(every) > gt.max_objects:
                surplus += len(every) - gt.max_objects
                most = max(most, len(every))
            inside = np.isin(kept, used)
            kept, boxes = kept[inside], boxes[inside]
        counts.update(annotation.classes[kept].tolist())
        sides.append(boxes[:, 2:] - boxes[:, :2])
    tally.add(SURPLUS, str(most), surplus)
    objects = {label: counts[index] for index, label in enumerate(source.class_names)}
    column = Column(name=name, images=len(source), objects=objects, findings=tally.findings)
    return Census(column, np.concatenate(sides))


def require_objects(census: Census) -> None:
    """Checks that the data has an object to learn from.

    Raises:
      DataError: no object is left to train on; the message counts the reasons.
    """
    if sum(census.column.objects.values()):
        return
    reasons = [f"{row} {count}" for row, count in _rows(census.column.findings) if count] or [
        "no image has a label"
    ]
    hints = [item.sentence for item in census.column.findings if not item.row and item.sentence]
    raise DataError(
        f"the training data has no object to learn from in {census.column.images} images: "
        + "\n  ".join(["; ".join(reasons), *hints])
    )


def _rows(findings: tuple[Finding, ...]) -> list[tuple[str, int]]:
    rows: Counter[str] = Counter()
    for item in findings:
        if item.row:
            rows[item.row] += item.count
    return list(rows.items())
