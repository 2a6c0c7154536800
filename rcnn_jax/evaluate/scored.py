"""A finished evaluation with its images: what reports, intervals and diagnoses are made of.

Both metrics end here in one form: boxes and classes by image, in pixels of the image file. Masks stay as
the run lengths and polygons that they were evaluated as.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rcnn_jax.evaluate.results import Report
from rcnn_jax.evaluate.voc import ImageResult


@dataclass(frozen=True, eq=False, kw_only=True)
class Outlines:
    """Masks of one image in the forms of COCO, polygons or run lengths.

    Attributes:
      predicted: one per detection.
      truth: one per object; None where an object has none.
    """

    predicted: Sequence[Any]
    truth: Sequence[Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation:
    """Metrics of a model, and the detections that they were computed from.

    Attributes:
      report: the metrics.
      class_names: of the class numbers in `images`; classes that only the annotations know come last.
      images: detections and ground truth, one per image.
      records: number of every image in its source.
      sizes: (height, width) of every image file.
      outlines: masks of every image, or None without masks.
    """

    report: Report
    class_names: tuple[str, ...]
    images: tuple[ImageResult, ...]
    records: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    outlines: tuple[Outlines, ...] | None = None


def of_coco(
    content: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    image_ids: Sequence[int],
    category_ids: Sequence[int],
    class_names: Sequence[str],
    proposals: Sequence[np.ndarray | None],
    *,
    masks: bool,
) -> tuple[tuple[str, ...], tuple[ImageResult, ...], tuple[Outlines, ...] | None]:
    """Returns names, images and outlines of a COCO evaluation.

    Args:
      content: `annotations` and `categories` of the annotation file.
      results: detections in COCO's form.
      image_ids: the images, in the order wanted.
      category_ids: of every class, 0 for none.
      class_names: of the classes.
      proposals: f32[p 4] of every image, or None.
      masks: keep outlines.
    """
    number = {category: index for index, category in enumerate(category_ids) if category}
    names = list(class_names)
    for category in content["categories"]:
        if category["id"] not in number:
            number[category["id"]] = len(names)
            names.append(str(category["name"]))
    detections: dict[int, list[Mapping[str, Any]]] = {image: [] for image in image_ids}
    truth: dict[int, list[Mapping[str, Any]]] = {image: [] for image in image_ids}
    for result in results:
        detections[result["image_id"]].append(result)
    for annotation in content["annotations"]:
        if annotation["image_id"] in truth:
            truth[annotation["image_id"]].append(annotation)
    images = tuple(
        ImageResult(
            boxes=_corners(detections[image]),
            scores=np.array([item["score"] for item in detections[image]], np.float32),
            classes=np.array([number[item["category_id"]] for item in detections[image]], np.int32),
            gt_boxes=_corners(truth[image]),
            gt_classes=np.array([number[item["category_id"]] for item in truth[image]], np.int32),
            gt_crowd=np.array([bool(item.get("iscrowd", 0)) for item in truth[image]], bool),
            proposals=of_rpn,
        )
        for image, of_rpn in zip(image_ids, proposals, strict=True)
    )
    outlines = None
    if masks:
        outlines = tuple(
            Outlines(
                predicted=[item.get("segmentation") for item in detections[image]],
                truth=[item.get("segmentation") for item in truth[image]],
            )
            for image in image_ids
        )
    return tuple(names), images, outlines


def _corners(items: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Returns f32[n 4] (y1, x1, y2, x2) of COCO's (x, y, width, height)."""
    x, y, w, h = np.array([item["bbox"] for item in items], np.float64).reshape(-1, 4).T
    return np.stack([y, x, y + h, x + w], axis=-1).astype(np.float32)
