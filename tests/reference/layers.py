"""Slow NumPy readings of convolution, transposed convolution and pooling, one loop per axis."""

import numpy as np


def conv(x, kernel, strides, pads, groups=1):
    """x [b h w c], kernel [k k c/groups o], pads ((top, bottom), (left, right))."""
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    side, outputs = kernel.shape[0], kernel.shape[-1]
    rows = (x.shape[1] - side) // strides + 1
    columns = (x.shape[2] - side) // strides + 1
    result = np.zeros((x.shape[0], rows, columns, outputs))
    for i in range(rows):
        for j in range(columns):
            patch = x[:, i * strides : i * strides + side, j * strides : j * strides + side]
            for o in range(outputs):
                group = o // (outputs // groups)
                width = kernel.shape[2]
                part = patch[..., group * width : (group + 1) * width]
                result[:, i, j, o] = np.sum(part * kernel[..., o], axis=(1, 2, 3))
    return result


def transposed_conv(x, kernel):
    """x [b h w c], kernel [k k c o], stride k: every cell paints a k x k patch."""
    side = kernel.shape[0]
    b, h, w, _ = x.shape
    result = np.zeros((b, h * side, w * side, kernel.shape[-1]))
    for i in range(h):
        for j in range(w):
            for di in range(side):
                for dj in range(side):
                    result[:, i * side + di, j * side + dj] = x[:, i, j] @ kernel[di, dj]
    return result


def max_pool(x, window, strides, pads):
    """x [b h w c]; padding is minus infinity."""
    x = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-np.inf)
    rows = (x.shape[1] - window) // strides + 1
    columns = (x.shape[2] - window) // strides + 1
    result = np.zeros((x.shape[0], rows, columns, x.shape[3]))
    for i in range(rows):
        for j in range(columns):
            patch = x[:, i * strides : i * strides + window, j * strides : j * strides + window]
            result[:, i, j] = patch.max(axis=(1, 2))
    return result
