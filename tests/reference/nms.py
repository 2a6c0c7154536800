"""Greedy non-maximum suppression as it is told: take the best, drop what it covers, repeat."""

import numpy as np

from tests.reference.boxes import iou_matrix


def nms(boxes, scores, valid, threshold, max_keep):
    """Returns the list of kept indices, best first; equal scores in the order of indices."""
    overlap = iou_matrix(boxes, boxes)
    waiting = [int(i) for i in np.argsort(-scores, kind="stable") if valid[i]]
    kept = []
    while waiting and len(kept) < max_keep:
        best = waiting.pop(0)
        kept.append(best)
        waiting = [i for i in waiting if not overlap[best, i] > np.float32(threshold)]
    return kept
