"""RoIAlign sample by sample, in float64: ONNX `RoiAlign`, mode avg, half_pixel, or torchvision's
`roi_align` where not aligned."""

import math

import numpy as np


def taps(y, x, height, width):
    """Returns [(row, column, weight)] of one bilinear sample; empty where it is outside the map."""
    if y < -1.0 or y > height or x < -1.0 or x > width:
        return []
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, across = y - top, x - left
    return [
        (top, left, (1 - down) * (1 - across)),
        (top, right, (1 - down) * across),
        (bottom, left, down * (1 - across)),
        (bottom, right, down * across),
    ]


def cell_taps(box, stride, i, j, output_size, sampling_ratio, height, width, aligned=True):
    """Returns the taps of cell (i, j) of a crop, weighted by their share in the average.

    A sampling ratio of 0 takes as many samples as the cell has cells of the map, rounded up.
    """
    y1, x1, y2, x2 = (float(side) / stride for side in box)
    shift = 0.5 if aligned else 0.0
    if not aligned:
        y2, x2 = max(y2, y1 + 1.0), max(x2, x1 + 1.0)
    rows = sampling_ratio or math.ceil((y2 - y1) / output_size)
    columns = sampling_ratio or math.ceil((x2 - x1) / output_size)
    cells = []
    for a in range(rows):
        for b in range(columns):
            y = y1 - shift + (y2 - y1) * (i + (a + 0.5) / rows) / output_size
            x = x1 - shift + (x2 - x1) * (j + (b + 0.5) / columns) / output_size
            cells += taps(y, x, height, width)
    return [(row, column, weight / (rows * columns)) for row, column, weight in cells]


def roi_align(feature, box, stride, output_size, sampling_ratio, aligned=True):
    """Returns the crop [s s c] of one box from one map [h w c]."""
    height, width, channels = feature.shape
    crop = np.zeros((output_size, output_size, channels))
    for i, j in np.ndindex(output_size, output_size):
        for row, column, weight in cell_taps(
            box, stride, i, j, output_size, sampling_ratio, height, width, aligned
        ):
            crop[i, j] += weight * feature[row, column].astype(np.float64)
    return crop


def roi_align_transposed(shape, box, stride, gradient, sampling_ratio):
    """Returns what the gradient [s s c] of a crop says about the map of the shape [h w c]."""
    height, width, _ = shape
    feature_gradient = np.zeros(shape)
    size = gradient.shape[0]
    for i, j in np.ndindex(size, size):
        for row, column, weight in cell_taps(
            box, stride, i, j, size, sampling_ratio, height, width
        ):
            feature_gradient[row, column] += weight * gradient[i, j].astype(np.float64)
    return feature_gradient
