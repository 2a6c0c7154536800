"""Analysis of an evaluation: why average precision is what it is.

Evaluation -> Matches -> intervals, curves, thresholds
           -> hotcoco -> error split, calibration, confusion
           -> recall of the two stages, worst images, suspicious labels
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rcnn_jax.evaluate.coco import IouType
from rcnn_jax.evaluate.coco_view import coco_evaluator
from rcnn_jax.evaluate.matches import Matches, intervals, match
from rcnn_jax.evaluate.matching import iou_matrix
from rcnn_jax.evaluate.scored import Evaluation
from rcnn_jax.evaluate.suspicions import Labelled, Suspicion, rank
from rcnn_jax.report.charts import Span

ERRORS = {
    "Cls": ("class", "on an object, of another class"),
    "Loc": ("location", "of the right class, beside its object"),
    "Both": ("both", "of another class, beside an object"),
    "Dupe": ("duplicate", "on an object that a better detection has already"),
    "Bkg": ("background", "where no object is"),
    "Miss": ("missed", "objects that nothing comes near"),
}
"""The kinds of TIDE (Bolya et al. 2020, arXiv 2008.08115): name here, and what it counts."""
SIZES = (("small", 0.0, 32.0**2), ("medium", 32.0**2, 96.0**2), ("large", 96.0**2, np.inf))
"""COCO's, by the area of the box in pixels."""


@dataclass(frozen=True, kw_only=True)
class Recall:
    """Recall of the two stages on a group of objects, as fractions.

    Attributes:
      group: class or size.
      objects: number of objects.
      proposed: with a proposal of the RPN at IoU 0.5; None where the backend has no proposals.
      located: with a detection of any class and any score at IoU 0.5.
      classified: with one of the right class.
      confident: with one of the right class above the working threshold.
    """

    group: str
    objects: int
    proposed: float | None
    located: float
    classified: float
    confident: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Precision and recall by score, at the first IoU threshold.

    Attributes:
      name: class, or `all`.
      scores: f64[d], falling.
      precision: f64[d], of all detections down to the score.
      recall: f64[d], likewise.
    """

    name: str
    scores: np.ndarray
    precision: np.ndarray
    recall: np.ndarray

    @property
    def f1(self) -> np.ndarray:
        """f64[d], harmonic means of precision and recall."""
        total = np.maximum(self.precision + self.recall, 1e-12)
        return 2 * self.precision * self.recall / total


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A threshold of a class for a wanted precision.

    Attributes:
      name: of the class.
      threshold: lowest score from which precision is reached; None where no score reaches it.
      precision: there.
      recall: there.
      best: score with the best F1.
      best_f1: its value.
    """

    name: str
    threshold: float | None
    precision: float
    recall: float
    best: float
    best_f1: float


@dataclass(frozen=True, kw_only=True)
class BadImage:
    """An image with errors at the working threshold.

    Attributes:
      image: number of it.
      hits: detections that are right.
      false: detections that are not.
      missed: objects without one.
    """

    image: int
    hits: int
    false: int
    missed: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Part:
    """Analysis of boxes, or of masks.

    Attributes:
      name: `boxes` or `masks`.
      matches: by the rules of the metric.
      intervals: metric -> value with 95 % interval.
      errors: kind -> (number, AP50 that its absence would give).
      calibration: hotcoco's answer: bins, expected and largest calibration error.
    """

    name: str
    matches: Matches
    intervals: Mapping[str, Span]
    errors: Mapping[str, tuple[int, float]]
    calibration: Mapping[str, Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Analysis:
    """Everything that a report shows.

    Attributes:
      evaluation: that was analysed.
      parts: boxes, and masks where they are evaluated.
      threshold: working threshold: the score with the best F1 over all classes.
      curves: `all` first, then every class.
      choices: thresholds by class.
      wanted: precision of the choices.
      recalls: of all, by class, by size.
      confusion: [n+1 n+1] counts, rows ground truth, columns detections, the last one nothing.
      worst: images, most errors first.
      suspicions: of the labels, most suspicious first.
    """

    evaluation: Evaluation
    parts: tuple[Part, ...]
    threshold: float
    curves: tuple[Curve, ...]
    choices: tuple[Choice, ...]
    wanted: float
    recalls: tuple[Recall, ...]
    confusion: np.ndarray
    worst: tuple[BadImage, ...]
    suspicions: tuple[Suspicion, ...]


def analyse(evaluation: Evaluation, *, wanted: float = 0.9) -> Analysis:
    """Returns the analysis of an evaluation.

    Args:
      evaluation: with its images.
      wanted: precision that thresholds by class are chosen for, in (0, 1].

    Raises:
      MissingDependencyError: hotcoco is absent.
    """
    kinds: list[tuple[str, IouType]] = [("boxes", "bbox")]
    if evaluation.outlines is not None:
        kinds.append(("masks", "segm"))
    parts = tuple(_part(evaluation, name, kind) for name, kind in kinds)
    curves = curves_of(parts[0].matches)
    # One working point for all classes: it is what `-t` and `visualize_threshold` can be set to.
    threshold = _best(curves[0])[0]
    boxes = coco_evaluator(evaluation, "bbox", _most(evaluation))
    confusion = boxes.confusion_matrix(iou_thr=0.5, min_score=threshold, max_det=_most(evaluation))
    return Analysis(
        evaluation=evaluation,
        parts=parts,
        threshold=threshold,
        curves=curves,
        choices=tuple(choose(curve, wanted) for curve in curves[1:]),
        wanted=wanted,
        recalls=recalls(evaluation, threshold),
        confusion=np.asarray(confusion["matrix"]).astype(np.int64),
        worst=worst(parts[0].matches, threshold),
        suspicions=tuple(rank(labelled(evaluation))),
    )


def curves_of(matches: Matches) -> tuple[Curve, ...]:
    """Returns the curves at the first IoU threshold: over all detections, then by class."""
    rows = [
        (one.name, one.scores, one.hits[0], one.ignored[0], int(one.objects.sum()))
        for one in matches.classes
    ]
    if not rows:
        none = np.zeros(0)
        return (Curve(name="all", scores=none, precision=none, recall=none),)
    scores = np.concatenate([row[1] for row in rows])
    # Stable: equal scores keep the order of classes, so the same record gives the same curve.
    order = np.argsort(-scores, kind="stable")
    hits, ignored = (np.concatenate([row[i] for row in rows])[order] for i in (2, 3))
    every = _curve("all", scores[order], hits, ignored, sum(row[4] for row in rows))
    return (every, *(_curve(*row) for row in rows))


def choose(curve: Curve, wanted: float) -> Choice:
    """Returns the lowest threshold of a class that reaches a precision.

    Args:
      curve: of the class.
      wanted: precision in (0, 1].
    """
    reached = np.flatnonzero(curve.precision >= wanted)
    best, best_f1 = _best(curve)
    if not len(reached):
        return Choice(
            name=curve.name, threshold=None, precision=0.0, recall=0.0, best=best, best_f1=best_f1
        )
    # The last place and not the first: precision goes up and down, and the lowest score has most
    # recall.
    last = int(reached[-1])
    return Choice(
        name=curve.name,
        threshold=float(curve.scores[last]),
        precision=float(curve.precision[last]),
        recall=float(curve.recall[last]),
        best=best,
        best_f1=best_f1,
    )


def recalls(evaluation: Evaluation, threshold: float) -> tuple[Recall, ...]:
    """Returns the recall of both stages: over all objects, by class, by size.

    Args:
      evaluation: with its images.
      threshold: of a confident detection.
    """
    rows = []
    for image in evaluation.images:
        # Crowds are not to be found, in any of the stages.
        counted = ~np.asarray(image.gt_crowd, bool)
        truth, labels = image.gt_boxes[counted], np.asarray(image.gt_classes)[counted]
        iou = iou_matrix(truth, image.boxes) >= 0.5
        own = iou & (labels[:, None] == np.asarray(image.classes)[None, :])
        sure = own & (np.asarray(image.scores) >= threshold)[None, :]
        # NaN, so that one image without proposals makes the whole column unknown instead of low.
        proposed = np.full(len(truth), np.nan)
        if image.proposals is not None:
            proposed = (iou_matrix(truth, image.proposals) >= 0.5).any(axis=1)
        area = np.prod(truth[:, 2:] - truth[:, :2], axis=1)
        rows.append(
            np.stack([labels, area, proposed, *(m.any(axis=1) for m in (iou, own, sure))], axis=1)
        )
    table = np.concatenate(rows).astype(np.float64) if rows else np.zeros((0, 6))
    groups = [("all objects", np.ones(len(table), bool))]
    groups += [(name, table[:, 0] == label) for label, name in enumerate(evaluation.class_names)]
    # Of the boxes in the image file: COCO's areas are of outlines, which not every data set has.
    groups += [(name, (table[:, 1] >= low) & (table[:, 1] < high)) for name, low, high in SIZES]
    return tuple(_recall(name, table[chosen]) for name, chosen in groups if chosen.any())


def worst(matches: Matches, threshold: float) -> tuple[BadImage, ...]:
    """Returns the images with errors, most errors first.

    Args:
      matches: of boxes; the first IoU threshold decides.
      threshold: detections below do not count.
    """
    counts = np.zeros((matches.images, 3), np.int64)
    for one in matches.classes:
        # What lies on a crowd is neither right nor wrong.
        counted = (one.scores >= threshold) & ~one.ignored[0]
        hits = counted & one.hits[0]
        here = np.bincount(one.image[hits], minlength=matches.images)
        counts[:, 0] += here
        counts[:, 1] += np.bincount(one.image[counted & ~one.hits[0]], minlength=matches.images)
        counts[:, 2] += one.objects - here
    errors = counts[:, 1] + counts[:, 2]
    # Of equally many errors those weigh more that are all there is in the image.
    order = np.lexsort((counts[:, 0], -errors))
    return tuple(
        BadImage(image=int(n), hits=int(c[0]), false=int(c[1]), missed=int(c[2]))
        for n, c in zip(order, counts[order], strict=True)
        if c[1] + c[2]
    )


def labelled(evaluation: Evaluation) -> list[Labelled]:
    """Returns labels and detections for the ranking of suspicions."""
    return [
        Labelled(
            boxes=image.boxes,
            scores=image.scores,
            classes=image.classes,
            gt_boxes=image.gt_boxes,
            gt_classes=image.gt_classes,
            gt_crowd=image.gt_crowd,
        )
        for image in evaluation.images
    ]


def _part(evaluation: Evaluation, name: str, kind: IouType) -> Part:
    matches = match(evaluation, kind)
    evaluator = coco_evaluator(evaluation, kind, _most(evaluation))
    # 0.5 and 0.1 are TIDE's own: between them lies a detection that is beside its object.
    split = evaluator.tide_errors(pos_thr=0.5, bg_thr=0.1)
    return Part(
        name=name,
        matches=matches,
        intervals=intervals(matches),
        errors={key: (int(split["counts"][key]), float(split["delta_ap"][key])) for key in ERRORS},
        calibration=evaluator.calibration(n_bins=10, iou_threshold=0.5),
    )


def _most(evaluation: Evaluation) -> int:
    # A cut would count what lies beyond it as missed; 100 is COCO's least.
    return max([100, *(len(image.boxes) for image in evaluation.images)])


def _curve(
    name: str, scores: np.ndarray, hits: np.ndarray, ignored: np.ndarray, objects: int
) -> Curve:
    # Before the sums, or ignored detections would lower the precision of all after them.
    scores, hits = scores[~ignored], hits[~ignored]
    true = np.cumsum(hits)
    return Curve(
        name=name,
        scores=scores,
        precision=true / np.arange(1, len(true) + 1),
        recall=true / max(objects, 1),
    )


def _best(curve: Curve) -> tuple[float, float]:
    """Returns the score with the best F1, and its value."""
    if not len(curve.scores):
        # Nothing was detected: any threshold is as good, and 0.5 is what people expect.
        return 0.5, 0.0
    index = int(np.argmax(curve.f1))
    return float(curve.scores[index]), float(curve.f1[index])


def _recall(name: str, rows: np.ndarray) -> Recall:
    proposed = float(rows[:, 2].mean())
    located, classified, confident = rows[:, 3:].mean(axis=0).tolist()
    return Recall(
        group=name,
        objects=len(rows),
        proposed=None if np.isnan(proposed) else proposed,
        located=located,
        classified=classified,
        confident=confident,
    )


def sentences(analysis: Analysis) -> Sequence[str]:
    """Returns the costliest errors, in sentences a user can act on."""
    part, lines = analysis.parts[0], []
    kind, (count, gain) = max(part.errors.items(), key=lambda pair: pair[1][1])
    # Half a point of AP50 is less than the noise of most validation sets.
    if gain > 0.005:
        name, what = ERRORS[kind]
        lines.append(
            f"Most is lost to errors of {name}: {count:,} {'' if kind == 'Miss' else 'detections '}"
            f"{what}. Without them AP50 would be {gain:.3f} higher."
        )
    every = analysis.recalls[0] if analysis.recalls else None
    # The RPN first: as long as it misses objects, nothing that is done to the head can find them.
    if every is not None and every.proposed is not None and every.proposed < 0.9:
        lines.append(
            f"The RPN proposes {every.proposed:.1%} of the objects: what it misses no head can find. "
            "Look at anchors and canvas first."
        )
    elif (
        every is not None and every.proposed is not None and every.proposed - every.classified > 0.1
    ):
        lines.append(
            f"The RPN proposes {every.proposed:.1%} of the objects, the head finds "
            f"{every.classified:.1%}: "
            "the head is what has to learn more."
        )
    ece = float(part.calibration["ece"])
    if ece > 0.1:
        lines.append(
            f"Scores are off by {ece:.2f} on average from the fraction of detections that is right: "
            "choose thresholds from the table below rather than by their value."
        )
    return lines
