"""Matches of detections with objects by class, and what follows from them: AP, curves, intervals.

Average precision over a resampled set of images needs no new matching: an image that was drawn twice
counts twice. So one matching gives the metric, its bootstrap interval, and that of a difference between
two models.

    Evaluation -> Matches;  (Matches, weights of images) -> AP

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13 (percentile intervals).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rcnn_jax.errors import DataError
from rcnn_jax.evaluate.coco import IouType
from rcnn_jax.evaluate.coco_view import coco_evaluator
from rcnn_jax.evaluate.matching import best_overlaps, first_matches
from rcnn_jax.evaluate.scored import Evaluation
from rcnn_jax.evaluate.voc import ImageResult, VocReport
from rcnn_jax.report.charts import Span

Method = Literal["voc07", "voc12", "coco"]
REPLICATES = 200
"""Resampled sets; the ends of a 95 % interval then rest on five of them each."""
CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassMatches:
    """Detections of one class, best first, and its objects.

    Attributes:
      name: of the class.
      scores: f64[d].
      image: i64[d], number of the image.
      hits: bool[t d], true positives by IoU threshold.
      ignored: bool[t d], on crowds or difficult objects: they do not count.
      objects: i64[images], objects that count.
    """

    name: str
    scores: np.ndarray
    image: np.ndarray
    hits: np.ndarray
    ignored: np.ndarray
    objects: np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class Matches:
    """Matches of an evaluation.

    Attributes:
      method: how AP follows from a curve.
      thresholds: IoU, ascending.
      classes: those with objects or detections.
      images: number of them.
    """

    method: Method
    thresholds: tuple[float, ...]
    classes: tuple[ClassMatches, ...]
    images: int

    def to_json(self) -> dict[str, Any]:
        """Returns plain values; scores are rounded to five digits."""
        return {
            "method": self.method,
            "iou_thresholds": list(self.thresholds),
            "images": self.images,
            "classes": [
                {
                    "name": one.name,
                    "scores": np.round(one.scores, 5).tolist(),
                    "image": one.image.tolist(),
                    # One number a detection, a bit a threshold: ten lists of booleans would be most of
                    # the file.
                    "hits": _bits(one.hits),
                    "ignored": _bits(one.ignored),
                    "objects": one.objects.tolist(),
                }
                for one in self.classes
            ],
        }

    @classmethod
    def from_json(cls, fields: Any, where: str) -> "Matches":
        """Returns the matches that `to_json` described.

        Raises:
          DataError: somebody else wrote the fields, or changed them.
        """
        try:
            thresholds = tuple(float(value) for value in fields["iou_thresholds"])
            images, method = int(fields["images"]), fields["method"]
            classes = tuple(_class_of(one, len(thresholds), images) for one in fields["classes"])
            if method not in ("voc07", "voc12", "coco") or not thresholds:
                raise ValueError(f"method '{method}' with {len(thresholds)} thresholds")
        except (KeyError, TypeError, ValueError, OverflowError, IndexError) as error:
            raise DataError(
                f"{where}: holds no matches of an evaluation ({type(error).__name__}: {error}); "
                "expected the .json that `evaluate --report` writes"
            ) from error
        return cls(method=method, thresholds=thresholds, classes=classes, images=images)


def match(evaluation: Evaluation, iou_type: IouType = "bbox") -> Matches:
    """Returns the matches by the rules of the metric that the evaluation has.

    Args:
      evaluation: with its images.
      iou_type: boxes, or masks where it has them.

    Raises:
      MissingDependencyError: COCO's matching needs hotcoco.
    """
    report = evaluation.report
    if isinstance(report, VocReport):
        return match_voc(
            evaluation.images, evaluation.class_names, report.iou_thresholds, report.metric
        )
    return _match_coco(evaluation, iou_type, report.max_detections)


def match_voc(
    images: Sequence[ImageResult],
    names: Sequence[str],
    thresholds: Sequence[float],
    method: Method,
) -> Matches:
    """Returns the matches by PASCAL's rules, see `evaluate.voc`.

    Args:
      images: detections and ground truth.
      names: of the classes.
      thresholds: IoU.
      method: how AP follows from a curve.
    """
    parts: list[list[tuple[np.ndarray, ...]]] = [[] for _ in names]
    objects = np.zeros((len(names), len(images)), np.int64)
    for number, image in enumerate(images):
        crowd = np.asarray(image.gt_crowd, bool)
        labels = np.asarray(image.gt_classes, np.int64)[~crowd]
        objects[:, number] = np.bincount(labels, minlength=len(names))
        order = np.argsort(-np.asarray(image.scores), kind="stable")
        boxes, classes = np.asarray(image.boxes)[order], np.asarray(image.classes)[order]
        scores = np.asarray(image.scores)[order]
        index, overlap = best_overlaps(boxes, classes, image.gt_boxes, image.gt_classes)
        of_iou = np.where(overlap >= np.asarray(thresholds)[:, None], index, -1)
        # A crowd takes any number of detections; they leave the curve.
        ignored = (of_iou >= 0) & (crowd[of_iou] if len(crowd) else False)
        # Out of the race, or a detection on a crowd would use up an object's only match.
        free = np.where(ignored, -1, of_iou)
        hits = np.stack([first_matches(row, len(crowd)) for row in free])
        for label in np.unique(classes):
            own = classes == label
            image_index = np.full(own.sum(), number)
            parts[label].append((scores[own], image_index, hits[:, own], ignored[:, own]))
    return Matches(
        method=method,
        thresholds=tuple(thresholds),
        classes=_classes(names, parts, objects, len(thresholds)),
        images=len(images),
    )


def average_precision(
    one: ClassMatches, method: Method, weights: np.ndarray | None = None
) -> np.ndarray:
    """Returns f64[t]: AP of a class at every threshold; NaN without objects.

    Args:
      one: the class.
      method: how AP follows from a curve.
      weights: [images], how often every image counts; None for once.
    """
    objects = one.objects.sum() if weights is None else float(weights @ one.objects)
    # Not 0: in a resampled set a rare class may have lost its objects by chance.
    if objects == 0:
        return np.full(len(one.hits), np.nan)
    counted = ~one.ignored * (1.0 if weights is None else weights[one.image])
    true = np.cumsum(one.hits * counted, axis=1)
    every = np.cumsum(counted, axis=1)
    # Images that were not drawn leave points of no detection; their precision repeats the last one.
    precision = np.divide(true, every, out=np.zeros(true.shape), where=every > 0)
    # PASCAL's and COCO's: precision never rises with recall once the best of what follows is taken.
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    if method == "voc12":
        return np.sum(np.diff(true, axis=1, prepend=0.0) * envelope, axis=1) / objects
    if not true.shape[1]:
        return np.zeros(len(true))
    points = np.linspace(0, 1, 11 if method == "voc07" else 101)
    # A hair below: three of ten objects are a recall of 0.3, which floats make 0.29999.
    wanted = points * objects - 1e-9
    values = []
    for row, best in zip(true, envelope, strict=True):
        index = np.searchsorted(row, wanted, side="left")
        values.append(np.mean(np.where(index < len(row), best[np.minimum(index, len(row) - 1)], 0)))
    return np.asarray(values)


def metrics(matches: Matches, weights: np.ndarray | None = None) -> dict[str, float]:
    """Returns the mean over thresholds and classes, that at the first threshold, and every class.

    Args:
      matches: of an evaluation.
      weights: [images], how often every image counts; None for once.

    Returns:
      {`AP`: mean, `AP50`: at the first threshold, named after it, `class NAME`: mean of a class}.
    """
    rows = {one.name: average_precision(one, matches.method, weights) for one in matches.classes}
    # As the metric of the evaluation: PASCAL's mean counts a class without objects as 0, COCO's leaves
    # it out. In a resampled set a rare class may lose its objects, which is no zero.
    table = np.stack(list(rows.values())) if rows else np.full((1, len(matches.thresholds)), np.nan)
    if matches.method != "coco":
        nowhere = np.array([one.objects.sum() == 0 for one in matches.classes], bool)
        table[nowhere] = 0.0
    named = {"AP": _mean(table), first_name(matches): _mean(table[:, 0])}
    for name, row in rows.items():
        named[f"class {name}"] = _mean(row)
    return named


def first_name(matches: Matches) -> str:
    """Returns the name of AP at the first threshold: `AP50`."""
    return f"AP{matches.thresholds[0] * 100:.0f}"


def resamplings(images: int, seed: int = 0, replicates: int = REPLICATES) -> np.ndarray:
    """Returns i64[replicates images]: how often every image is in each resampled set."""
    rng = np.random.default_rng(seed)
    # Images, not detections: those of one image depend on each other.
    drawn = rng.integers(0, max(images, 1), (replicates, images))
    return np.stack([np.bincount(row, minlength=images) for row in drawn])


def intervals(matches: Matches, seed: int = 0) -> dict[str, Span]:
    """Returns every metric of `metrics` with its 95 % interval over resampled images."""
    values = metrics(matches)
    sampled = [metrics(matches, weights) for weights in resamplings(matches.images, seed)]
    return {name: span([row[name] for row in sampled], value) for name, value in values.items()}


def differences(one: Matches, other: Matches, seed: int = 0) -> dict[str, Span]:
    """Returns other minus one for every metric both have, with 95 % intervals.

    Both are resampled together, so what is hard for both models does not blur their difference.

    Args:
      one: matches of a model.
      other: those of another over the same images in the same order.
      seed: of the resampling.
    """
    before, after = metrics(one), metrics(other)
    names = [name for name in before if name in after]
    rows = [
        (metrics(one, weights), metrics(other, weights))
        for weights in resamplings(one.images, seed)
    ]
    return {
        name: span([b[name] - a[name] for a, b in rows], after[name] - before[name])
        for name in names
    }


def span(values: Sequence[float], value: float) -> Span:
    """Returns a value with the percentile interval of its resamplings."""
    finite = np.asarray(values)[np.isfinite(values)]
    if not len(finite):
        return Span(value, value, value)
    low, high = np.quantile(finite, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Span(float(low), value, float(high))


def _match_coco(evaluation: Evaluation, iou_type: IouType, most: int) -> Matches:
    evaluator = coco_evaluator(evaluation, iou_type, most)
    names = evaluation.class_names
    thresholds = tuple(float(value) for value in evaluator.params.iouThrs)
    parts: list[list[tuple[np.ndarray, ...]]] = [[] for _ in names]
    objects = np.zeros((len(names), len(evaluation.images)), np.int64)
    for entry in evaluator.evalImgs:
        if not entry:
            continue
        # `coco_view` numbers images and categories from 1.
        label, number = entry["category_id"] - 1, entry["image_id"] - 1
        objects[label, number] = np.sum(~np.asarray(entry["gtIgnore"], bool))
        scores = np.asarray(entry["dtScores"], np.float64)
        if len(scores):
            hits = np.asarray(entry["dtMatched"], bool)
            ignored = np.asarray(entry["dtIgnore"], bool)
            image_index = np.full(len(scores), number)
            parts[label].append((scores, image_index, hits & ~ignored, ignored))
    return Matches(
        method="coco",
        thresholds=thresholds,
        classes=_classes(names, parts, objects, len(thresholds)),
        images=len(evaluation.images),
    )


def _classes(
    names: Sequence[str],
    parts: Sequence[Sequence[tuple[np.ndarray, ...]]],
    objects: np.ndarray,
    thresholds: int,
) -> tuple[ClassMatches, ...]:
    """Returns the classes that occur, their detections best first, equal ones by image."""
    classes = []
    for label, name in enumerate(names):
        if not parts[label] and not objects[label].any():
            continue
        # A class with objects and no detection still has arrays of the right type.
        empty = (np.empty(0), np.empty(0, np.int64), *(np.empty((thresholds, 0), bool),) * 2)
        rows = [*parts[label], empty]
        scores, image, hits, ignored = (
            np.concatenate([row[i] for row in rows], -1) for i in range(4)
        )
        order = np.argsort(-scores, kind="stable")
        classes.append(
            ClassMatches(
                name=name,
                scores=scores[order],
                image=image[order],
                hits=hits[:, order],
                ignored=ignored[:, order],
                objects=objects[label],
            )
        )
    return tuple(classes)


def _class_of(fields: Mapping[str, Any], thresholds: int, images: int) -> ClassMatches:
    scores = np.asarray(fields["scores"], np.float64).reshape(-1)
    image = np.asarray(fields["image"], np.int64).reshape(-1)
    objects = np.asarray(fields["objects"], np.int64).reshape(-1)
    if len(image) != len(scores) or len(objects) != images:
        raise ValueError("lists of different lengths")
    if len(image) and not (image.min() >= 0 and image.max() < images):
        raise ValueError("an image beyond the last")
    if not np.isfinite(scores).all() or (objects < 0).any():
        raise ValueError("a score or count that is none")
    bits = [_of_bits(fields[name], thresholds, len(scores)) for name in ("hits", "ignored")]
    return ClassMatches(
        name=str(fields["name"]),
        scores=scores,
        image=image,
        hits=bits[0],
        ignored=bits[1],
        objects=objects,
    )


def _bits(rows: np.ndarray) -> list[int]:
    return (rows.astype(np.int64) << np.arange(len(rows))[:, None]).sum(axis=0).tolist()


def _of_bits(values: Any, thresholds: int, count: int) -> np.ndarray:
    numbers = np.asarray(values, np.int64).reshape(-1)
    if len(numbers) != count:
        raise ValueError("lists of different lengths")
    return (numbers[None, :] >> np.arange(thresholds)[:, None]) & 1 > 0


def _mean(values: np.ndarray) -> float:
    present = values[np.isfinite(values)]
    return float(np.mean(present)) if present.size else float("nan")
