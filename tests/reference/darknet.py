"""A slow reading of DarkNet 19 and 53, row by row of the tables of the papers.

Nobody we can ask publishes them, so these lists are typed from Redmon and Farhadi, YOLO9000, 2017,
table 6, and YOLOv3, 2018, table 1. Every convolution has batch norm and a leaky ReLU of slope 0.1;
it pads half its kernel. A residual row adds what entered the row before the last two convolutions.
"""

import numpy as np

from tests.reference import layers as slow

# (layer, kernel side, stride), "max" or "add"
TRUNK_19 = (
    ("conv1", 3, 1),
    "max",
    ("b1_conv1", 3, 1),
    "max",
    ("b2_conv1", 3, 1),
    ("b2_conv2", 1, 1),
    ("b2_conv3", 3, 1),
    "max",
    ("b3_conv1", 3, 1),
    ("b3_conv2", 1, 1),
    ("b3_conv3", 3, 1),
    "max",
    ("b4_conv1", 3, 1),
    ("b4_conv2", 1, 1),
    ("b4_conv3", 3, 1),
    ("b4_conv4", 1, 1),
    ("b4_conv5", 3, 1),
)
TAIL_19 = (
    ("b5_conv1", 3, 2),
    ("b5_conv2", 1, 1),
    ("b5_conv3", 3, 1),
    ("b5_conv4", 1, 1),
    ("b5_conv5", 3, 1),
)


def residual(group: int, units: int) -> tuple:
    """One 1x1 and one 3x3 convolution around a shortcut, `units` times."""
    rows: list = []
    for unit in range(1, units + 1):
        rows += [(f"b{group}_conv{unit}_1", 1, 1), (f"b{group}_conv{unit}_2", 3, 1), "add"]
    return tuple(rows)


TRUNK_53 = (
    ("conv1", 3, 1),
    ("conv2", 3, 2),
    *residual(1, 1),
    ("conv3", 3, 2),
    *residual(2, 2),
    ("conv4", 3, 2),
    *residual(3, 8),
    ("conv5", 3, 2),
    *residual(4, 8),
)
TAIL_53 = (("conv6", 3, 2), *residual(5, 4))


def run(rows: tuple, variables: dict, x: np.ndarray) -> np.ndarray:
    """What the rows make of x f64[b h w c]."""
    results = [x]
    for row in rows:
        x = results[-1]
        if row == "max":
            results.append(slow.max_pool(x, 2, 2, ((0, 0), (0, 0))))
        elif row == "add":
            results.append(x + results[-3])
        else:
            results.append(_conv(variables, *row, x))
    return results[-1]


def _conv(variables: dict, name: str, side: int, stride: int, x: np.ndarray) -> np.ndarray:
    params, stats = variables["params"], variables["batch_stats"][f"{name}_bn"]
    kernel = np.asarray(params[name]["kernel"], np.float64)
    assert kernel.shape[0] == side
    pads = ((side // 2, side // 2),) * 2
    x = slow.conv(x, kernel, stride, pads)
    deviation = np.sqrt(np.asarray(stats["moving_variance"], np.float64) + 1e-3)
    x = (x - np.asarray(stats["moving_mean"])) / deviation
    x = x * np.asarray(params[f"{name}_bn"]["gamma"]) + np.asarray(params[f"{name}_bn"]["beta"])
    return np.where(x > 0, x, 0.1 * x)
