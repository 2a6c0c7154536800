"""Differences between two backends: stage by stage, and detection by detection.

Detections are matched, not compared row by row: two scores that differ in the last bit may come in
either order, and that is no difference.
"""

from dataclasses import dataclass

import numpy as np

from rcnn_jax.structures import Detections


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """Tolerances of a comparison.

    Attributes:
      box: largest distance of two edges, in pixels.
      score: largest difference of scores.
      mask: largest difference of mask probabilities.
      stage: largest difference of a stage, as a fraction of its largest number.
      unmatched: largest fraction of detections without a partner.
    """

    # Far above what sound graphs show (1.5e-4 pixels and 7e-8 in scores for a Faster R-CNN), far
    # below what a wrong coordinate convention costs (half a pixel): only mistakes fail.
    box: float = 0.05
    score: float = 1e-3
    mask: float = 2e-2
    stage: float = 1e-3
    unmatched: float = 0.01


FP32 = Tolerance()


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Differences between matched detections.

    Attributes:
      images: compared.
      detections: of the reference.
      unmatched: detections of either side without a partner of their class within the tolerance.
      box: largest distance of two edges of partners, in pixels.
      score: largest difference of their scores.
      mask: largest difference of their masks; 0 without masks.
    """

    images: int
    detections: int
    unmatched: int
    box: float
    score: float
    mask: float

    def within(self, tolerance: Tolerance) -> bool:
        """Returns whether the differences are within the tolerance."""
        return (
            self.box <= tolerance.box
            and self.score <= tolerance.score
            and self.mask <= tolerance.mask
            and self.unmatched <= tolerance.unmatched * max(self.detections, 1)
        )


def compare_detections(a: Detections, b: Detections, tolerance: Tolerance = FP32) -> Parity:
    """Compares the detections of a batch [b d] with the reference `a`.

    Partners are of one class, each used once, closest boxes first, within ten times the tolerance.
    """
    box = score = mask = 0.0
    unmatched = total = 0
    for row in range(a.scores.shape[0]):
        ours, theirs = (np.flatnonzero(np.asarray(d.valid)[row]) for d in (a, b))
        total += len(ours)
        pairs = _partners(a, b, row, ours, theirs, tolerance)
        unmatched += len(ours) + len(theirs) - 2 * len(pairs)
        for i, j, distance in pairs:
            box = max(box, distance)
            score = max(score, abs(float(a.scores[row, i]) - float(b.scores[row, j])))
            if a.masks is not None and b.masks is not None:
                difference = np.asarray(a.masks[row, i]) - np.asarray(b.masks[row, j])
                mask = max(mask, float(np.abs(difference).max()))
    return Parity(
        images=a.scores.shape[0],
        detections=total,
        unmatched=unmatched,
        box=box,
        score=score,
        mask=mask,
    )


def relative_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Returns max |a - b| / max |a|."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.size == 0:
        return 0.0
    # Of the whole array and not per number: next to zero any rounding is a large fraction.
    return float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-12))


def _partners(a, b, row, ours, theirs, tolerance) -> list[tuple[int, int, float]]:
    """Returns (index in a, index in b, distance of boxes in pixels)."""
    if not len(ours) or not len(theirs):
        return []
    boxes_a, boxes_b = np.asarray(a.boxes)[row][ours], np.asarray(b.boxes)[row][theirs]
    distance = np.abs(boxes_a[:, None] - boxes_b[None, :]).max(axis=-1)
    same = np.asarray(a.classes)[row][ours][:, None] == np.asarray(b.classes)[row][theirs][None, :]
    scores_a, scores_b = np.asarray(a.scores)[row][ours], np.asarray(b.scores)[row][theirs]
    score_gap = np.abs(scores_a[:, None] - scores_b[None, :])
    # Ten times the tolerance: a pair beyond it is still reported with its distance, instead of as
    # two detections without a partner.
    near = same & (distance <= 10 * tolerance.box) & (score_gap <= 10 * tolerance.score)
    pairs, taken_a, taken_b = [], set(), set()
    # equal boxes may have several partners: the closest score decides
    cost = distance / tolerance.box + score_gap / tolerance.score
    for flat in np.argsort(np.where(near, cost, np.inf), axis=None, kind="stable"):
        i, j = divmod(int(flat), len(theirs))
        if not near[i, j]:
            break
        if i not in taken_a and j not in taken_b:
            taken_a.add(i)
            taken_b.add(j)
            pairs.append((int(ours[i]), int(theirs[j]), float(distance[i, j])))
    return pairs
