"""NumPy reference implementations of losses of boxes and weights of samples: loops over single boxes."""

import math

import numpy as np


def iou_loss(prediction, target, kind):
    """Returns the loss of one pair of boxes (y1, x1, y2, x2), after the papers' formulas."""
    top, left, bottom, right = (float(v) for v in prediction)
    y1, x1, y2, x2 = (float(v) for v in target)
    inter = max(min(bottom, y2) - max(top, y1), 0.0) * max(min(right, x2) - max(left, x1), 0.0)
    union = (bottom - top) * (right - left) + (y2 - y1) * (x2 - x1) - inter
    iou = inter / union
    if kind == "iou":
        return 1.0 - iou
    height, width = max(bottom, y2) - min(top, y1), max(right, x2) - min(left, x1)
    if kind == "giou":
        return 1.0 - iou + (height * width - union) / (height * width)
    away = ((top + bottom - y1 - y2) / 2) ** 2 + ((left + right - x1 - x2) / 2) ** 2
    diou = 1.0 - iou + away / (height**2 + width**2)
    if kind == "diou":
        return diou
    angle = math.atan((x2 - x1) / (y2 - y1)) - math.atan((right - left) / (bottom - top))
    v = 4 / math.pi**2 * angle**2
    return diou + (v * v / (1.0 - iou + v) if v else 0.0)


def importance(overlap, gt_index, classes, foreground, loss):
    """Returns the weights of ISR: sorted lists of the rois of every object and every class."""
    rows = [i for i in range(len(overlap)) if foreground[i]]
    weights = np.ones(len(overlap))
    if not rows:
        return weights
    local = {}
    for truth in {gt_index[i] for i in rows}:
        own = sorted((i for i in rows if gt_index[i] == truth), key=lambda i: (-overlap[i], i))
        local |= {i: rank for rank, i in enumerate(own)}
    most = max(sum(classes[j] == classes[i] for j in rows) for i in rows)
    for name in {classes[i] for i in rows}:
        own = [i for i in rows if classes[i] == name]
        own.sort(key=lambda i: (local[i], -overlap[i], i))
        for rank, i in enumerate(own):
            weights[i] = ((most - rank) / most) ** 2
    factor = sum(loss[i] for i in rows) / sum(loss[i] * weights[i] for i in rows)
    for i in rows:
        weights[i] *= factor
    return weights


def classification_weights(logits, classes, foreground):
    """Returns the weights of CARL."""
    weights = np.zeros(len(classes))
    for i in range(len(classes)):
        if foreground[i]:
            exponents = np.exp(logits[i] - max(logits[i]))
            weights[i] = 0.2 + 0.8 * exponents[classes[i]] / exponents.sum()
    return weights * (sum(foreground) / weights.sum()) if any(foreground) else weights
