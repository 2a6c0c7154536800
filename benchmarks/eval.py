"""Scoring detections: VOC average precision and the COCO numbers.

The peers of COCO are pycocotools called directly, which shows what the checks around it cost, and
hotcoco through the same function. VOC has no peer.
"""

import contextlib
import importlib.util
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.case import Case, effort
from benchmarks.measure import OURS, PeerUnavailableError, Side, compare
from benchmarks.options import Options
from benchmarks.results import Aim, Benchmark, Reference
from rcnn_jax.evaluate.voc import ImageResult, evaluate_voc

CANVAS = np.array((480.0, 640.0))


@dataclass(frozen=True, kw_only=True)
class Size:
    """Images, classes, objects and detections per image; reference seconds with pycocotools."""

    images: int
    classes: int
    objects: int
    detections: int
    reference: float | None = None


QUICK = Size(images=500, classes=80, objects=7, detections=37)
# The sizes of COCO's validation set, with the time of pycocotools on them.
FULL = Size(images=5000, classes=80, objects=7, detections=37, reference=16.4)
TINY = Size(images=4, classes=3, objects=3, detections=5)


def cases(options: Options) -> list[Case]:
    """Returns VOC and COCO on the same detections."""
    size = {"tiny": TINY, "full": FULL}.get(options.size, QUICK)
    voc, coco = f"voc {size.images} images", f"coco {size.images} images"
    return [
        Case(voc, lambda: _voc(voc, size, options)),
        Case(coco, lambda: _coco(coco, size, options)),
    ]


def random_results(size: Size) -> list[ImageResult]:
    """Returns detections of which about half lie near an object, with tied scores."""
    rng = np.random.default_rng(0)
    results = []
    for _ in range(size.images):
        truth = _boxes(rng, size.objects)
        classes = rng.integers(0, size.classes, size.objects).astype(np.int32)
        of = rng.integers(0, size.objects, size.detections)
        # Half near an object: a set without matches would skip the work of matching, one without
        # misses is no test of ties either.
        near = rng.random(size.detections) < 0.5
        side = np.tile(truth[of, 2:] - truth[of, :2], 2)
        moved = truth[of] + rng.normal(0, 0.05, (size.detections, 4)) * side
        other = rng.integers(0, size.classes, size.detections).astype(np.int32)
        results.append(
            ImageResult(
                boxes=np.where(near[:, None], moved, _boxes(rng, size.detections)).astype(
                    np.float32
                ),
                # Rounded, so that scores repeat: sorting ties is where implementations differ.
                scores=rng.random(size.detections).round(3).astype(np.float32),
                classes=np.where(near, classes[of], other),
                gt_boxes=truth,
                gt_classes=classes,
                gt_crowd=rng.random(size.objects) < 0.02,
            )
        )
    return results


def as_coco(results: list[ImageResult], classes: int) -> tuple[dict[str, Any], list[dict]]:
    """Returns the annotations and the detections in the format of COCO."""
    content: dict[str, Any] = {
        "images": [
            {"id": i + 1, "height": int(CANVAS[0]), "width": int(CANVAS[1])}
            for i in range(len(results))
        ],
        "categories": [{"id": i + 1, "name": f"class {i}"} for i in range(classes)],
        "annotations": [],
    }
    detections = []
    for number, image in enumerate(results, start=1):
        truth = zip(image.gt_boxes.tolist(), image.gt_classes, image.gt_crowd, strict=True)
        for box, kind, crowd in truth:
            xywh = _xywh(box)
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number,
                    "category_id": int(kind) + 1,
                    "bbox": xywh,
                    "area": xywh[2] * xywh[3],
                    "iscrowd": int(crowd),
                }
            )
        detected = zip(image.boxes.tolist(), image.classes, image.scores, strict=True)
        for box, kind, score in detected:
            detections.append(
                {
                    "image_id": number,
                    "category_id": int(kind) + 1,
                    "bbox": _xywh(box),
                    "score": float(score),
                }
            )
    return content, detections


def _voc(name: str, size: Size, options: Options) -> Benchmark:
    results = random_results(size)
    names = [f"class {i}" for i in range(size.classes)]
    sides, notes = compare(
        {OURS: lambda: Side(run=lambda: evaluate_voc(results, names, (0.5,), 0.0))},
        effort(options),
    )
    return Benchmark(
        name=name, parameters=_parameters(size), sides=sides, images=size.images, notes=notes
    )


def _coco(name: str, size: Size, options: Options) -> Benchmark:
    from rcnn_jax.evaluate.coco import evaluate_coco

    content, results = as_coco(random_results(size), size.classes)

    def fast() -> Side:
        if importlib.util.find_spec("hotcoco") is None:
            raise PeerUnavailableError("it is not installed")
        # Through our function: what is compared is the engine, with the same checks around it.
        return Side(run=lambda: evaluate_coco(content, results, engine="hotcoco"))

    makers: dict[str, Callable[[], Side]] = {
        OURS: lambda: Side(run=lambda: evaluate_coco(content, results))
    }
    if options.peers:
        makers |= {
            "pycocotools": lambda: Side(run=lambda: _pycocotools(content, results)),
            "rcnn_jax with hotcoco": fast,
        }
    sides, notes = compare(makers, effort(options))
    reference, aims = None, ()
    if size.reference is not None:
        reference = Reference(
            low=size.reference,
            high=size.reference,
            source='docs/reference/performance.md, "COCO evaluation"',
        )
        aims = (
            Aim(
                what=f"{name}: time",
                value=sides[0].median,
                relation="at most",
                limit=size.reference,
                unit="s",
            ),
        )
    return Benchmark(
        name=name,
        parameters=_parameters(size),
        sides=sides,
        images=size.images,
        reference=reference,
        aims=aims,
        notes=notes,
    )


def _pycocotools(content: dict[str, Any], results: list[dict]) -> None:
    import pycocotools.coco
    import pycocotools.cocoeval

    # pycocotools prints; a terminal would be part of the time.
    with contextlib.redirect_stdout(io.StringIO()):
        truth: Any = pycocotools.coco.COCO()
        truth.dataset = content
        truth.createIndex()
        # Copies: loadRes writes ids and areas into the dictionaries it gets.
        detected = truth.loadRes([dict(one) for one in results])
        evaluation = pycocotools.cocoeval.COCOeval(truth, detected, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Returns f32[count 4] inside the canvas."""
    side = np.exp(rng.uniform(np.log(12), np.log(CANVAS), (count, 2)))
    corner = rng.uniform(0, 1, (count, 2)) * (CANVAS - side)
    return np.concatenate([corner, corner + side], axis=1).astype(np.float32)


def _xywh(box: list[float]) -> list[float]:
    y1, x1, y2, x2 = box
    return [x1, y1, max(x2 - x1, 0.0), max(y2 - y1, 0.0)]


def _parameters(size: Size) -> dict[str, Any]:
    return {
        "images": size.images,
        "classes": size.classes,
        "objects": size.images * size.objects,
        "detections": size.images * size.detections,
    }
