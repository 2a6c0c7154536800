"""Average precision of PASCAL VOC: the metric of Faster R-CNN.

A detection is matched to the object of its class with the largest overlap. If that overlap reaches the
threshold it is a true positive, unless the object is matched to a detection with a better score (then a
false positive) or is difficult (then the detection does not count at all).

    images -> best overlap of each detection -> per class and threshold: matches -> curve -> AP

Source: The PASCAL Visual Object Classes Challenge (Everingham et al. 2010), section 4;
docs/reference/faster_rcnn.md, "Evaluation". Deviation: boxes are continuous and not
truncated to whole pixels.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rcnn_jax.evaluate.matching import best_overlaps, first_matches, iou_matrix

Metric = Literal["voc07", "voc12"]
# The column of the original's table, whatever the thresholds of the evaluation.
RPN_RECALL_OVERLAP = 0.5


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageResult:
    """Detections and ground truth of one image; boxes (y1, x1, y2, x2) in source pixels.

    Attributes:
      boxes: f32[d 4] of the detections, in any order.
      scores: f32[d].
      classes: i32[d] in [0, n).
      gt_boxes: f32[m 4].
      gt_classes: i32[m] in [0, n).
      gt_crowd: bool[m]; objects that are difficult: neither a hit nor a miss.
      proposals: f32[p 4] of the RPN, or None where the backend has none.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    gt_boxes: np.ndarray
    gt_classes: np.ndarray
    gt_crowd: np.ndarray
    proposals: np.ndarray | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassResult:
    """Result of one class at one IoU threshold.

    Attributes:
      name: of the class.
      ap: average precision in [0, 1]; 0 without ground truth.
      precision: fraction of true positives among all counted detections; 0 without any.
      recall: fraction of objects detected; 0 without objects.
      rpn_recall: fraction of objects with a proposal at IoU >= 0.5; None without proposals or objects.
      n_gt: objects that are not difficult.
      n_det: detections that count: those on difficult objects do not.
      curve_recall: f64[n_det], recall after each counted detection, best score first.
      curve_precision: f64[n_det], precision after each counted detection.
    """

    name: str
    ap: float
    precision: float
    recall: float
    rpn_recall: float | None
    n_gt: int
    n_det: int
    curve_recall: np.ndarray
    curve_precision: np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class VocReport:
    """Results per IoU threshold and class.

    Attributes:
      metric: `voc07` (11 recall points) or `voc12` (area under the envelope).
      iou_thresholds: in the order given.
      classes: per threshold the classes that occur in ground truth or detections, sorted by name.
      has_rpn_recall: whether the backend has proposals.
    """

    metric: Metric
    iou_thresholds: tuple[float, ...]
    classes: tuple[tuple[ClassResult, ...], ...]
    has_rpn_recall: bool

    @property
    def maps(self) -> tuple[float, ...]:
        """Mean AP over the classes, one per IoU threshold; 0 where no class occurs."""
        return tuple(float(np.mean([c.ap for c in row])) if row else 0.0 for row in self.classes)

    @property
    def mean_ap(self) -> float:
        """Mean of `maps` over the IoU thresholds."""
        return float(np.mean(self.maps))


def evaluate_voc(
    results: Iterable[ImageResult],
    class_names: Sequence[str],
    iou_thresholds: Sequence[float],
    score_threshold: float,
    metric: Metric = "voc07",
) -> VocReport:
    """Computes average precision of detections against ground truth.

    Classes with objects but no detection have AP 0, and so have classes with detections but no
    object; classes with neither are left out of the tables and of the means.

    Args:
      results: one per image; a generator is enough.
      class_names: n names, background excluded.
      iou_thresholds: in (0, 1]; rounded to 6 digits because `arange(0.5, 1, 0.05)` yields
        0.6000000000000001, which an exact 0.6 would miss.
      score_threshold: detections below it are ignored.
      metric: `voc07` or `voc12`.

    Returns:
      The report; equal scores keep the order of the images and of the detections in them.

    Raises:
      ValueError: arrays of one image disagree in length, or only some images have proposals.
    """
    if metric not in ("voc07", "voc12"):
        raise ValueError(f"metric is {metric!r}, expected 'voc07' or 'voc12'")
    thresholds = tuple(round(float(t), 6) for t in iou_thresholds)
    pooled = _pool(results, score_threshold)
    order = sorted(range(len(class_names)), key=lambda index: class_names[index])
    per_class = [_class_results(pooled, i, class_names[i], thresholds, metric) for i in order]
    occurring = [results for results in per_class if results]
    return VocReport(
        metric=metric,
        iou_thresholds=thresholds,
        classes=tuple(tuple(results[t] for results in occurring) for t in range(len(thresholds))),
        has_rpn_recall=pooled.gt_proposed is not None,
    )


def average_precision_07(true_positives: np.ndarray, precision: np.ndarray, n_gt: int) -> float:
    """Mean over the recalls 0, 0.1, ... 1 of the best precision at that recall or a higher one.

    Args:
      true_positives: i64[k], running count; recall is `true_positives / n_gt`. Counts instead of
        recalls keep the comparison with tenths exact.
      precision: f64[k] after each detection.
      n_gt: number of objects, > 0.
    """
    # In integers: recall >= 0.3 fails in floats for 3 of 10 objects (3 / 10 < 0.1 * 3).
    enough = 10 * true_positives[None, :] >= np.arange(11)[:, None] * n_gt
    return float(np.mean(np.max(np.where(enough, precision[None, :], 0.0), axis=1, initial=0.0)))


def average_precision_12(true_positives: np.ndarray, precision: np.ndarray, n_gt: int) -> float:
    """Area under the precision-recall curve made monotone; arguments as `average_precision_07`."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    # Recall rises only at true positives; divided by n_gt at the end, so the sum has one rounding.
    gained = np.diff(true_positives, prepend=0)
    return float(np.sum(gained * envelope) / n_gt)


@dataclass(frozen=True, eq=False)
class _Pool:
    """All images as flat arrays; `match` is the index of an object over all images, or -1."""

    scores: np.ndarray
    classes: np.ndarray
    match: np.ndarray
    overlap: np.ndarray
    gt_classes: np.ndarray
    gt_difficult: np.ndarray
    gt_proposed: np.ndarray | None


def _pool(results: Iterable[ImageResult], score_threshold: float) -> _Pool:
    scores, classes, matches, overlaps = [], [], [], []
    gt_classes, gt_difficult, gt_proposed = [], [], []
    with_proposals = set()
    objects = 0
    for number, image in enumerate(results):
        _check(image, number)
        kept = np.asarray(image.scores) >= score_threshold
        # Overlaps once for all thresholds; per threshold only the comparison remains.
        of_class = np.asarray(image.classes)[kept]
        match, overlap = best_overlaps(
            np.asarray(image.boxes)[kept], of_class, image.gt_boxes, image.gt_classes
        )
        scores.append(np.asarray(image.scores)[kept])
        classes.append(of_class)
        matches.append(np.where(match >= 0, match + objects, -1))
        overlaps.append(overlap)
        gt_classes.append(image.gt_classes)
        gt_difficult.append(np.asarray(image.gt_crowd, bool))
        with_proposals.add(image.proposals is not None)
        if image.proposals is not None:
            covered = iou_matrix(image.gt_boxes, image.proposals) >= RPN_RECALL_OVERLAP
            gt_proposed.append(np.any(covered, axis=1))
        objects += len(image.gt_boxes)
    if len(with_proposals) > 1:
        raise ValueError("some images have proposals and some have none")
    return _Pool(
        scores=_concatenate(scores, np.float64),
        classes=_concatenate(classes, np.int64),
        match=_concatenate(matches, np.int64),
        overlap=_concatenate(overlaps, np.float64),
        gt_classes=_concatenate(gt_classes, np.int64),
        gt_difficult=_concatenate(gt_difficult, bool),
        gt_proposed=_concatenate(gt_proposed, bool) if True in with_proposals else None,
    )


def _check(image: ImageResult, number: int) -> None:
    detected = (len(image.boxes), len(image.scores), len(image.classes))
    truth = (len(image.gt_boxes), len(image.gt_classes), len(image.gt_crowd))
    if len(set(detected)) > 1 or len(set(truth)) > 1:
        raise ValueError(
            f"image {number}: boxes, scores, classes have lengths {detected} and "
            f"gt_boxes, gt_classes, gt_crowd have lengths {truth}; each three must be equal"
        )


def _concatenate(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *parts]).astype(dtype)


def _class_results(
    pool: _Pool,
    index: int,
    name: str,
    thresholds: tuple[float, ...],
    metric: Metric,
) -> list[ClassResult]:
    of_class = np.flatnonzero(pool.classes == index)
    counted = (pool.gt_classes == index) & ~pool.gt_difficult
    n_gt = int(np.sum(counted))
    if n_gt == 0 and len(of_class) == 0:
        return []
    # Stable: equal scores keep the order of images, so the result is the same on every run.
    ranked = of_class[np.argsort(-pool.scores[of_class], kind="stable")]
    rpn_recall = None
    if pool.gt_proposed is not None and n_gt > 0:
        rpn_recall = float(np.mean(pool.gt_proposed[counted]))
    return [
        _class_result(pool, ranked, name, n_gt, rpn_recall, threshold, metric)
        for threshold in thresholds
    ]


def _class_result(
    pool: _Pool,
    ranked: np.ndarray,
    name: str,
    n_gt: int,
    rpn_recall: float | None,
    threshold: float,
    metric: Metric,
) -> ClassResult:
    # The largest overlap alone counts, as in PASCAL's own program: a detection whose best object is
    # taken is a false positive, though it may reach the threshold with another one. COCO gives it
    # the other.
    match = np.where(pool.overlap[ranked] >= threshold, pool.match[ranked], -1)
    # A detection on a difficult object is removed, not counted as a false positive; it is matched first,
    # so that it cannot fall back to another object.
    on_difficult = np.zeros(len(match), bool)
    on_difficult[match >= 0] = pool.gt_difficult[match[match >= 0]]
    match = match[~on_difficult]
    true_positives = np.cumsum(first_matches(match, len(pool.gt_classes)))
    precision = true_positives / np.arange(1, len(match) + 1)
    recall = true_positives / max(n_gt, 1)
    average_precision = average_precision_07 if metric == "voc07" else average_precision_12
    return ClassResult(
        name=name,
        ap=average_precision(true_positives, precision, n_gt) if n_gt else 0.0,
        precision=float(precision[-1]) if len(precision) else 0.0,
        recall=float(recall[-1]) if len(recall) else 0.0,
        rpn_recall=rpn_recall,
        n_gt=n_gt,
        n_det=len(match),
        curve_recall=recall,
        curve_precision=precision,
    )
