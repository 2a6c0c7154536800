"""COCO metrics for boxes and masks: the metric of Mask R-CNN.

pycocotools does the matching. The metrics are computed from its accumulated arrays, because its own
summary supports 100 detections per image only and prints instead of returning.

Source: docs/reference/mask_rcnn.md, "Evaluation"; pycocotools `COCOeval`.
"""

import contextlib
import importlib.util
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pycocotools.coco
import pycocotools.cocoeval
from pycocotools import mask as coco_mask

from rcnn_jax.data.formats.coco import CocoDataset, unique_names
from rcnn_jax.errors import DataError
from rcnn_jax.optional import require

IouType = Literal["bbox", "segm"]
Engine = Literal["pycocotools", "hotcoco"]
PREFIX: dict[IouType, str] = {"bbox": "", "segm": "mask_"}
# Indices into the area axis of the accumulated arrays, in the order of `Params.areaRngLbl`.
_ALL, _SMALL, _MEDIUM, _LARGE = range(4)


@dataclass(frozen=True, kw_only=True)
class CocoReport:
    """Result of one COCO evaluation.

    Attributes:
      metrics: AP, AP50, AP75, APs, APm, APl, ARmax1, ARmax10, ARmax<K>, ARs, ARm, ARl in [0, 1],
        for masks the same with the prefix `mask_`; -1 where no such object exists.
      class_ap: {"AP" | "mask_AP": {class name: AP}}, -1 for classes without objects; the same name of
        several categories gets the id added.
      max_detections: K, largest number of evaluated detections per image.
      images: number of evaluated images.
      engine: the package of the matching.
    """

    metrics: dict[str, float]
    class_ap: dict[str, dict[str, float]]
    max_detections: int
    images: int
    engine: str

    def kpi(self) -> dict[str, float]:
        """Returns the metrics in percent with 4 decimals, for status.json; -1 stays."""
        return {
            name: round(100.0 * value, 4) if value >= 0 else value
            for name, value in self.metrics.items()
        }


def evaluate_coco(
    gt: Mapping[str, Any] | Path,
    results: Sequence[Mapping[str, Any]],
    iou_types: Sequence[IouType] = ("bbox",),
    *,
    detections_per_image: int = 100,
    image_ids: Sequence[int] | None = None,
    engine: Engine = "pycocotools",
) -> CocoReport:
    """Computes COCO metrics of results against annotations.

    Args:
      gt: the annotation file, or its content with `images`, `annotations`, `categories`.
      results: dictionaries of `masks.coco_results`; not modified.
      iou_types: `bbox`, `segm` or both.
      detections_per_image: largest number of the model; K = max(100, this).
      image_ids: the images to evaluate; None for all. Images without results count as misses.
      engine: `hotcoco` computes the same numbers some thirty times faster, if installed (extra
        `fast-eval`).

    Returns:
      The report. For masks the size classes of detections follow the area of the mask, not the box.

    Raises:
      DataError: the annotations are incomplete, or results name unknown images or categories.
      MissingDependencyError: hotcoco is asked for and absent.
    """
    name = str(gt) if isinstance(gt, Path) else "ground truth"
    if isinstance(gt, Path):
        gt = CocoDataset.load(gt, masks="segm" in iou_types).content()
    content = _complete(gt, name, iou_types)
    chosen = sorted(set(image_ids)) if image_ids is not None else None
    _check_results(content, results, chosen, iou_types)
    # COCO's K is 100. A model that gives fewer is scored by the same K, so models can be compared;
    # one that gives more is not cut.
    last = max(100, detections_per_image)
    backend = _backend(engine)
    names = unique_names({c["id"]: str(c["name"]) for c in content["categories"]})
    metrics: dict[str, float] = {}
    class_ap: dict[str, dict[str, float]] = {}
    for iou_type in iou_types:
        precision, recall = _accumulate(backend, content, results, iou_type, chosen, last)
        prefix = PREFIX[iou_type]
        metrics |= {prefix + key: value for key, value in _summary(precision, recall, last).items()}
        class_ap[prefix + "AP"] = {
            names[category]: _mean(precision[:, :, index, _ALL, -1])
            for index, category in enumerate(sorted(names))
        }
    return CocoReport(
        metrics=metrics,
        class_ap=class_ap,
        max_detections=last,
        images=len(content["images"]) if chosen is None else len(chosen),
        engine=engine,
    )


def fastest_engine() -> Engine:
    """Returns hotcoco where it is installed, else pycocotools; the numbers are the same."""
    return "hotcoco" if importlib.util.find_spec("hotcoco") else "pycocotools"


def _complete(content: Mapping[str, Any], name: str, iou_types: Sequence[IouType]) -> dict:
    """Adds optional COCO fields, on copies; annotations are renumbered from 1.

    pycocotools stores matches as ids, and id 0 counts as no match.
    """
    missing = [key for key in ("images", "annotations", "categories") if key not in content]
    if missing:
        raise DataError(f"{name}: no {', '.join(missing)}; expected a COCO annotation file")
    annotations = []
    for index, original in enumerate(content["annotations"]):
        annotation = {"iscrowd": 0, **original, "id": index + 1}
        if "area" not in annotation:
            annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
        if "segm" in iou_types and not annotation.get("segmentation"):
            raise DataError(
                f"{name}: annotation {original.get('id', index)} has no segmentation, which the "
                "evaluation of masks needs"
            )
        annotations.append(annotation)
    return {
        "info": {},
        "images": list(content["images"]),
        "categories": list(content["categories"]),
        "annotations": annotations,
    }


def _check_results(
    content: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    chosen: Sequence[int] | None,
    iou_types: Sequence[IouType],
) -> None:
    images = {image["id"] for image in content["images"]}
    for field, known, used in (
        ("image_id", images, {result["image_id"] for result in results} | set(chosen or ())),
        (
            "category_id",
            {category["id"] for category in content["categories"]},
            {result["category_id"] for result in results},
        ),
    ):
        if unknown := sorted(used - known):
            raise DataError(
                f"{len(unknown)} values of {field} are not in the annotation file, for example "
                f"{unknown[0]}; it has {len(known)}, for example {min(known, default='none')}. "
                "Evaluate against the annotations the records were made from."
            )
    if "segm" in iou_types and any("segmentation" not in result for result in results):
        raise DataError("results without segmentation cannot be evaluated as masks")


def _backend(engine: str) -> tuple[type, type]:
    if engine == "pycocotools":
        return pycocotools.coco.COCO, pycocotools.cocoeval.COCOeval
    if engine == "hotcoco":
        module: ModuleType = require("hotcoco", extra="fast-eval", purpose="fast COCO evaluation")
        return module.COCO, module.COCOeval
    raise ValueError(f"engine is {engine!r}, expected 'pycocotools' or 'hotcoco'")


def _accumulate(
    backend: tuple[type, type],
    content: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    iou_type: IouType,
    chosen: Sequence[int] | None,
    last: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns precision [iou recall class area k] and recall [iou class area k]."""
    dataset_of, evaluation_of = backend
    detected = [_detection(result, iou_type, index + 1) for index, result in enumerate(results)]
    with _silence():
        # pycocotools writes into the annotations it is given.
        annotations = [dict(annotation) for annotation in content["annotations"]]
        truth = _dataset(dataset_of, {**content, "annotations": annotations})
        detections = _dataset(dataset_of, {**content, "annotations": detected})
        evaluation = evaluation_of(truth, detections, iou_type)
        # pycocotools' own summary looks for a K of 100 in this list and gives -1 otherwise: hence
        # `_summary`.
        evaluation.params.maxDets = [1, 10, last]
        if chosen is not None:
            evaluation.params.imgIds = list(chosen)
        evaluation.evaluate()
        evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"]), np.asarray(evaluation.eval["recall"])


def _detection(result: Mapping[str, Any], iou_type: IouType, number: int) -> dict[str, Any]:
    detection = {
        "id": number,
        "image_id": result["image_id"],
        "category_id": result["category_id"],
        "score": result["score"],
        "iscrowd": 0,
    }
    if iou_type == "segm":
        segmentation = result["segmentation"]
        # The size of a detection is that of its mask, as for the ground truth: by its box, a thin
        # diagonal object would count as large.
        detection["segmentation"] = segmentation
        detection["area"] = float(coco_mask.area(segmentation))
        detection["bbox"] = [float(v) for v in coco_mask.toBbox(segmentation)]
    else:
        detection["bbox"] = list(result["bbox"])
        detection["area"] = float(result["bbox"][2] * result["bbox"][3])
    return detection


def _dataset(dataset_of: type, content: dict[str, Any]) -> Any:
    # pycocotools' constructor reads files only; its `loadRes` would change the results in place.
    if dataset_of is not pycocotools.coco.COCO:
        return dataset_of(content)
    dataset: Any = dataset_of()
    dataset.dataset = content
    dataset.createIndex()
    return dataset


def _summary(precision: np.ndarray, recall: np.ndarray, last: int) -> dict[str, float]:
    # The IoU axis is 0.50, 0.55, ... 0.95: index 0 is 0.50 and index 5 is 0.75.
    return {
        "AP": _mean(precision[:, :, :, _ALL, -1]),
        "AP50": _mean(precision[0, :, :, _ALL, -1]),
        "AP75": _mean(precision[5, :, :, _ALL, -1]),
        "APs": _mean(precision[:, :, :, _SMALL, -1]),
        "APm": _mean(precision[:, :, :, _MEDIUM, -1]),
        "APl": _mean(precision[:, :, :, _LARGE, -1]),
        "ARmax1": _mean(recall[:, :, _ALL, 0]),
        "ARmax10": _mean(recall[:, :, _ALL, 1]),
        f"ARmax{last}": _mean(recall[:, :, _ALL, 2]),
        "ARs": _mean(recall[:, :, _SMALL, -1]),
        "ARm": _mean(recall[:, :, _MEDIUM, -1]),
        "ARl": _mean(recall[:, :, _LARGE, -1]),
    }


def _mean(values: np.ndarray) -> float:
    """Returns the mean of existing entries; pycocotools marks absent classes and sizes with -1."""
    present = values[values > -1]
    return float(np.mean(present)) if present.size else -1.0


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Suppresses the progress that pycocotools prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
