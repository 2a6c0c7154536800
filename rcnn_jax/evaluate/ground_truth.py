"""Ground truth of a source in the form of a COCO annotation file.

For data sets that contain their annotations instead of naming an annotation file.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rcnn_jax.data.formats.coco_masks import mask_rle
from rcnn_jax.data.loader.mask_crops import Mask, Polygons
from rcnn_jax.data.sources.annotations import Annotation
from rcnn_jax.data.sources.categories import ABSENT
from rcnn_jax.data.sources.masks import MaskSource


def coco_content(source: MaskSource, category_ids: Sequence[int], *, masks: bool) -> dict[str, Any]:
    """Returns `images`, `annotations` and `categories` of a source.

    Args:
      source: images with their objects.
      category_ids: the id of every class.
      masks: add segmentations.

    Raises:
      DataError: an example is damaged.
    """
    images, annotations = [], []
    for index in range(len(source)):
        image_id, (height, width) = source.source_id(index), source.size(index)
        images.append(
            {
                "id": image_id,
                "file_name": source.file_name(index),
                "height": height,
                "width": width,
            }
        )
        objects = _annotations(source.annotation(index), category_ids, image_id, masks=masks)
        annotations += [{"id": len(annotations) + 1 + i, **item} for i, item in enumerate(objects)]
    categories = [
        {"id": item_id, "name": name}
        for item_id, name in zip(category_ids, source.class_names, strict=True)
        if item_id != ABSENT
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def _annotations(
    annotation: Annotation, category_ids: Sequence[int], image_id: int, *, masks: bool
) -> list[dict[str, Any]]:
    """Returns the objects of an image without ids."""
    # In float64 before the subtraction: a width from float32 corners would differ in its last bits
    # from that in an annotation file, and with it the size class at its limit.
    y1, x1, y2, x2 = annotation.boxes.astype(np.float64).T
    boxes = np.stack([x1, y1, x2 - x1, y2 - y1], axis=-1)
    areas = boxes[:, 2] * boxes[:, 3] if annotation.areas is None else annotation.areas
    objects = [
        {
            "image_id": image_id,
            "category_id": category_ids[class_id],
            "bbox": box,
            "area": float(area),
            "iscrowd": int(crowd),
        }
        for class_id, box, area, crowd in zip(
            annotation.classes.tolist(), boxes.tolist(), areas, annotation.crowd, strict=True
        )
    ]
    if masks and annotation.masks is not None:
        for item, mask in zip(objects, annotation.masks, strict=True):
            if mask is not None:
                item["segmentation"] = _segmentation(mask)
    return objects


def _segmentation(mask: Mask) -> Any:
    if isinstance(mask, Polygons):
        return [ring.ravel().tolist() for ring in mask.rings]
    return mask_rle(mask.decode())
