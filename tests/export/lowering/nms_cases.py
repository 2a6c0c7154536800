"""Sets of boxes that suppress one another, for comparisons of NMS with NMS."""

import numpy as np

CASES = ("uniform", "clustered", "chains", "at the threshold", "empty boxes", "turned corners")


def boxes_of(case: str, rng: np.random.Generator, rows: int, count: int):
    """Returns f32[rows count 4] (y1 x1 y2 x2) and scores f32[rows 1 count] in [0, 1]."""
    scores = rng.uniform(0, 1, (rows, 1, count))
    if case == "uniform":
        centre, size = (
            rng.uniform(0, 800, (rows, count, 2)),
            rng.lognormal(4, 0.7, (rows, count, 2)),
        )
    elif case == "clustered":  # as of a detector: few objects, many boxes on each
        objects = max(3, count // 40)
        which = rng.integers(0, objects, (rows, count))[..., None]
        centres = np.take_along_axis(rng.uniform(0, 800, (rows, objects, 2)), which, 1)
        side = np.take_along_axis(rng.lognormal(4, 0.5, (rows, objects, 2)), which, 1)
        centre = centres + rng.normal(0, 0.15, centres.shape) * side
        size = side * rng.lognormal(0, 0.15, side.shape)
    elif case == "chains":  # each overlaps the next alone: as many rounds as boxes
        centre = np.stack([np.full(count, 50.0), np.arange(count) * 25.0], -1)[None].repeat(rows, 0)
        size = np.full((rows, count, 2), 100.0)
        scores = np.linspace(1, 0.5, count)[None, None].repeat(rows, 0)
    elif case == "at the threshold":  # whole numbers: halves, thirds and equal IoUs
        centre = rng.integers(0, 40, (rows, count, 2)) * 16.0
        size = 2.0 ** rng.integers(4, 8, (rows, count, 2))
    elif case == "empty boxes":
        centre = rng.uniform(0, 100, (rows, count, 2))
        size = rng.choice([0.0, 0.0, 1e-20, 10.0, 50.0], (rows, count, 2))
    else:
        centre, size = rng.uniform(0, 90, (rows, count, 2)), rng.normal(0, 30, (rows, count, 2))
    boxes = np.concatenate([centre - size / 2, centre + size / 2], -1)
    return boxes.astype(np.float32), scores.astype(np.float32)


def disturbed(boxes, scores, seed):
    """Returns the same with many ties, absent boxes, or every second box twice, by the seed."""
    boxes, scores = boxes.copy(), scores.copy()
    if seed % 3 == 1:
        scores = np.round(scores, 1).astype(np.float32)
    if seed % 3 == 2:
        scores[:, :, ::5] = -1.0
    if seed % 4 == 3:
        boxes[:, 1::2] = boxes[:, ::2][:, : boxes.shape[1] // 2]
    return boxes, scores
