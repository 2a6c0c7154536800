"""An evaluation as hotcoco takes it: error split, confusion, calibration and matches of COCO.

Evaluations of PASCAL's metric are seen by COCO's eyes here: a difficult object becomes a crowd. The
numbers of the report itself stay those of its own metric.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from pycocotools import mask as coco_mask

from rcnn_jax.evaluate.coco import IouType
from rcnn_jax.evaluate.scored import Evaluation
from rcnn_jax.optional import require


def coco_evaluator(evaluation: Evaluation, iou_type: IouType, most: int = 100) -> Any:
    """Returns hotcoco's evaluator of an evaluation, matched.

    Images are numbered from 1 in their order, categories from 1 in the order of the classes.

    Args:
      evaluation: with its images; with outlines where masks are asked for.
      iou_type: boxes or masks.
      most: detections per image that count.

    Raises:
      MissingDependencyError: hotcoco is absent.
    """
    hotcoco = require("hotcoco", extra="report", purpose="the report of an evaluation")
    images = [
        {"id": number, "file_name": str(number), "height": height, "width": width}
        for number, (height, width) in enumerate(evaluation.sizes, start=1)
    ]
    categories = [
        {"id": number, "name": name}
        for number, name in enumerate(_distinct(evaluation.class_names), start=1)
    ]
    frame = {"info": {}, "images": images, "categories": categories}
    truth = hotcoco.COCO({**frame, "annotations": _truth(evaluation, iou_type)})
    detections = hotcoco.COCO({**frame, "annotations": _detections(evaluation, iou_type)})
    evaluator = hotcoco.COCOeval(truth, detections, iou_type)
    evaluator.params.maxDets = [1, 10, most]
    # One size class: matches of the other three would be thrown away, and are most of the memory.
    evaluator.params.areaRng = [[0.0, 1e10]]
    evaluator.params.areaRngLbl = ["all"]
    evaluator.evaluate()
    return evaluator


def _truth(evaluation: Evaluation, iou_type: IouType) -> list[dict[str, Any]]:
    """Returns the objects as annotations of COCO."""
    columns = (
        (image.gt_boxes, image.gt_classes, [{"iscrowd": int(crowd)} for crowd in image.gt_crowd])
        for image in evaluation.images
    )
    rows = _annotations(columns)
    if iou_type == "segm":
        for row, outline in zip(rows, _outlines(evaluation, "truth"), strict=True):
            row["segmentation"] = outline
    return rows


def _detections(evaluation: Evaluation, iou_type: IouType) -> list[dict[str, Any]]:
    """Returns the detections as results of COCO."""
    columns = (
        (image.boxes, image.classes, [{"iscrowd": 0, "score": float(s)} for s in image.scores])
        for image in evaluation.images
    )
    rows = _annotations(columns)
    if iou_type == "segm":
        # The area of a detection is that of its mask; that of an object is not asked for, because
        # there is one size class.
        for row, outline in zip(rows, _outlines(evaluation, "predicted"), strict=True):
            row |= {"segmentation": outline, "area": float(coco_mask.area(outline))}
    return rows


def _annotations(
    columns: Iterable[tuple[np.ndarray, np.ndarray, Sequence[dict[str, Any]]]],
) -> list[dict[str, Any]]:
    """Returns annotations of COCO, numbered from 1, of (boxes, classes, further fields) per image."""
    rows = []
    for number, (boxes, classes, fields) in enumerate(columns, start=1):
        for box, label, further in zip(_sizes(boxes), classes, fields, strict=True):
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": number,
                    "category_id": int(label) + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                }
                | further
            )
    return rows


def _outlines(evaluation: Evaluation, side: Literal["truth", "predicted"]) -> Iterator[Any]:
    """Yields the outline of every object or detection, image by image."""
    assert evaluation.outlines is not None
    for image in evaluation.outlines:
        yield from getattr(image, side)


def _sizes(boxes: np.ndarray) -> list[list[float]]:
    """Returns [x, y, width, height] of f32[n 4] corners."""
    y1, x1, y2, x2 = np.asarray(boxes, np.float64).reshape(-1, 4).T
    return np.stack([x1, y1, x2 - x1, y2 - y1], axis=-1).tolist()


def _distinct(names: tuple[str, ...]) -> list[str]:
    # hotcoco answers by name: two categories of one name would share an answer.
    return [
        name if names.index(name) == number else f"{name} ({number})"
        for number, name in enumerate(names)
    ]
