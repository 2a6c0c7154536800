"""Detections as text files: KITTI lines and COCO JSON, each written whole or not at all.

Sources: docs/reference/faster_rcnn.md, "Inference and label files", and
docs/reference/datasets.md, "KITTI labels"; of JSON docs/reference/mask_rcnn.md,
"Inference and label files".
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from rcnn_jax.evaluate.report import write_whole


def kitti_lines(
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, class_names: Sequence[str]
) -> list[str]:
    """Returns one line of 16 columns per detection.

    Columns: class, three zeros (truncated, occluded, alpha), x1 y1 x2 y2 with 2 decimals, seven
    zeros (3-D size, position and rotation), score with 7 decimals. Blanks in a class name become `_`,
    because blanks separate the columns.

    Args:
      boxes: f32[d 4] (y1, x1, y2, x2) in source pixels.
      scores: f32[d].
      classes: i32[d], indices into `class_names`.
      class_names: n names.
    """
    names = ["_".join(name.split()) for name in class_names]
    return [
        f"{names[index]} 0 0 0 {x1:.2f} {y1:.2f} {x2:.2f} {y2:.2f} 0 0 0 0 0 0 0 {score:.7f}"
        for (y1, x1, y2, x2), score, index in zip(boxes, scores, classes, strict=True)
    ]


def write_kitti_detections(
    path: Path,
    boxes: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    class_names: Sequence[str],
) -> None:
    """Writes the lines of `kitti_lines`; an image without detections gets an empty file."""
    lines = kitti_lines(boxes, scores, classes, class_names)
    write_whole(path, "".join(f"{line}\n" for line in lines).encode())


def mask_labels(results: Sequence[dict[str, Any]], image_size: tuple[int, int]) -> list[dict]:
    """Returns the annotations of one image in the form of the original.

    Args:
      results: of `coco_results` for one image.
      image_size: (height, width); whole-pixel boxes stay inside.

    Returns:
      Dictionaries with area (pixels of the mask, of the box where there is none), is_crowd 0,
      image_id, bbox [x, y, width, height] in whole pixels, id from 1, category_id, score, and
      segmentation where the results have one.
    """
    height, width = image_size
    labels = []
    for number, result in enumerate(results, start=1):
        x, y, w, h = result["bbox"]
        # Edges are rounded and not the width: two boxes that touch still touch.
        x1, x2 = (min(max(round(edge), 0), width) for edge in (x, x + w))
        y1, y2 = (min(max(round(edge), 0), height) for edge in (y, y + h))
        mask: Any = result.get("segmentation")
        label: dict[str, Any] = {
            "area": (x2 - x1) * (y2 - y1) if mask is None else int(coco_mask.area(mask)),
            "is_crowd": 0,
            "image_id": result["image_id"],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "id": number,
            "category_id": result["category_id"],
            "score": result["score"],
        }
        if mask is not None:
            label["segmentation"] = mask
        labels.append(label)
    return labels


def write_mask_labels(
    path: Path, results: Sequence[dict[str, Any]], image_size: tuple[int, int]
) -> None:
    """Writes the annotations of one image (`mask_labels`) as a JSON list."""
    write_whole(path, json.dumps(mask_labels(results, image_size), indent=1).encode())


def write_coco_results(path: Path, results: Sequence[dict[str, Any]]) -> None:
    """Writes the results of many images as one JSON list that `COCO.loadRes` reads."""
    write_whole(path, json.dumps(list(results)).encode())
