"""Agreement of the detections of two models: the measure for lower precisions.

    agreement = sum over pairs of 2 min(score, score') / sum over all detections of their scores

1 means the same detections with the same scores, 0 that nothing agrees. A detection counts as
much as its score, so the many weak ones near the threshold, which any rounding reshuffles, decide
nothing. Pairs are of one class and overlap by half or more; the best overlap is taken first.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

from rcnn_jax.structures import Detections

LEAST_IOU = 0.5


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Agreement of two models.

    Attributes:
      images: compared.
      detections: of the reference.
      pairs: matches between the two.
      score: the agreement in [0, 1].
      iou: mean overlap of pairs, weighted by score; 1 without pairs.
      mask: mean difference of the masks of pairs; 0 without masks.
    """

    images: int
    detections: int
    pairs: int
    score: float
    iou: float
    mask: float

    def to_json(self) -> dict[str, float]:
        """Returns JSON values; the score is called `share`, as in reports of earlier versions."""
        fields = dataclasses.asdict(self)
        return {"share" if name == "score" else name: value for name, value in fields.items()}


def agreement(reference: Detections, other: Detections) -> Agreement:
    """Returns the agreement of the detections [b d] of two models."""
    total = shared = overlap = 0.0
    masks: list[float] = []
    pairs = 0
    for row in range(reference.scores.shape[0]):
        ours, theirs = (_of_image(detections, row) for detections in (reference, other))
        total += float(ours.scores.sum(dtype=np.float64) + theirs.scores.sum(dtype=np.float64))
        for i, j, iou in _pairs(ours, theirs):
            weight = 2.0 * min(float(ours.scores[i]), float(theirs.scores[j]))
            shared += weight
            overlap += weight * iou
            pairs += 1
            if ours.masks is not None and theirs.masks is not None:
                masks.append(float(np.abs(ours.masks[i] - theirs.masks[j]).mean()))
    return Agreement(
        images=reference.scores.shape[0],
        detections=int(np.asarray(reference.valid).sum()),
        pairs=pairs,
        # Two models that detect nothing agree.
        score=shared / total if total else 1.0,
        iou=overlap / shared if shared else 1.0,
        mask=float(np.mean(masks)) if masks else 0.0,
    )


def _of_image(detections: Detections, row: int) -> Detections:
    keep = np.asarray(detections.valid)[row]
    return Detections(
        boxes=np.asarray(detections.boxes)[row][keep],
        scores=np.asarray(detections.scores)[row][keep],
        classes=np.asarray(detections.classes)[row][keep],
        valid=keep[keep],
        masks=None if detections.masks is None else np.asarray(detections.masks)[row][keep],
    )


def _pairs(a: Detections, b: Detections) -> list[tuple[int, int, float]]:
    """Returns (index in a, index in b, IoU), each index once, best overlaps first."""
    overlap = _iou(a.boxes, b.boxes)
    # Classes before overlaps: the best overlap of another class is no pair, and must not use up a
    # box.
    overlap = np.where(a.classes[:, None] == b.classes[None, :], overlap, 0.0)
    pairs, used_a, used_b = [], set(), set()
    for flat in np.argsort(-overlap, axis=None, kind="stable"):
        i, j = divmod(int(flat), overlap.shape[1])
        if overlap[i, j] < LEAST_IOU:
            break
        if i not in used_a and j not in used_b:
            used_a.add(i)
            used_b.add(j)
            pairs.append((i, j, float(overlap[i, j])))
    return pairs


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns f[n m] of boxes (y1, x1, y2, x2); 0 where both are empty."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inside = np.prod(np.maximum(high - low, 0.0), axis=-1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1) for boxes in (a, b)]
    union = areas[0][:, None] + areas[1][None, :] - inside
    return np.divide(inside, union, out=np.zeros_like(inside), where=union > 0)
