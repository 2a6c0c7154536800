"""Mask targets: instance masks cropped to their box at a fixed size, from polygons or pixels.

Polygons are filled directly in the grid of the box after their vertices went through the same
matrix as the image, so nothing of full size is ever drawn. A cell is inside when its centre is.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Polygons:
    """A mask as the union of polygons, each filled by the even-odd rule.

    Attributes:
      rings: f64[n 2] each, (x, y) in source pixels, continuous coordinates.
    """

    rings: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Raster:
    """A mask as pixels.

    Attributes:
      decode: returns u8[h w] of the source image, not 0 inside.
    """

    decode: Callable[[], np.ndarray]


Mask = Polygons | Raster


def crop_mask(mask: Mask, matrix: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """Returns the part of a mask inside a box, as u8[size size] in {0, 1}.

    Args:
      mask: in source pixels.
      matrix: f64[2 3], maps source (x, y, 1) to the canvas.
      box: f32[4], (y1, x1, y2, x2) on the canvas, with an area.
      size: cells per side; cell i of a side L covers [i, i + 1) L / size.
    """
    return sample_mask(mask, matrix, box, (size, size))


def sample_mask(
    mask: Mask, matrix: np.ndarray, box: np.ndarray, cells: tuple[int, int]
) -> np.ndarray:
    """Returns the part of a mask inside a box, as u8[cells] in {0, 1}.

    Args:
      mask: in source pixels.
      matrix: f64[2 3], maps source (x, y, 1) to the canvas.
      box: (y1, x1, y2, x2) on the canvas, with an area.
      cells: (rows, columns) that the box is divided into; one per pixel gives a mask of the canvas.
    """
    y1, x1, y2, x2 = np.asarray(box, np.float64)
    rows, columns = cells
    scale = np.array([columns / (x2 - x1), rows / (y2 - y1)])
    to_cells = matrix * scale[:, None]
    to_cells[:, 2] -= scale * (x1, y1)
    match mask:
        case Polygons(rings):
            inside = np.zeros(cells, bool)
            # A union, as COCO draws them: by the even-odd rule over all rings, parts that overlap
            # would cut each other out.
            for ring in rings:
                inside |= fill_polygon(ring @ to_cells[:, :2].T + to_cells[:, 2], cells)
            return inside.astype(np.uint8)
        case Raster(decode):
            return _warp(decode(), to_cells, cells)


def fill_polygon(points: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    """Returns bool[cells]: cells whose centre is inside a polygon, by the even-odd rule.

    For every edge and every row of centres: the column behind the crossing is toggled, and the
    running parity along the row fills it.

    Args:
      points: f64[n 2], (x, y), cell i covers [i, i + 1).
      cells: (rows, columns).
    """
    rows, columns = cells
    centers = np.arange(rows) + 0.5
    (x, y), (next_x, next_y) = points.T[:, :, None], np.roll(points, -1, axis=0).T[:, :, None]
    # Half open: a vertex exactly on a row of centres counts for one of its edges, not for both.
    # Horizontal edges never cross, so the slope below divides by nothing that is 0.
    crosses = (y <= centers) != (next_y <= centers)  # [n rows]
    edge, row = np.nonzero(crosses)
    y0, x0 = y[edge, 0], x[edge, 0]
    slope = (next_x[edge, 0] - x0) / (next_y[edge, 0] - y0)
    crossing = x0 + (centers[row] - y0) * slope
    column = np.clip(np.ceil(crossing - 0.5), 0, columns).astype(int)
    # One column more than cells: crossings right of the box toggle there, where nothing is read.
    # np.add.at, because two edges may toggle the same cell; `toggles[row, column] += 1` would not.
    toggles = np.zeros((rows, columns + 1), np.int64)
    np.add.at(toggles, (row, column), 1)
    return np.cumsum(toggles[:, :columns], axis=1) % 2 == 1


def _warp(pixels: np.ndarray, to_cells: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    """Samples a full-size mask bilinearly at the centres of the cells; one half or more is inside."""
    inverse = np.linalg.inv(np.vstack([to_cells, (0.0, 0.0, 1.0)]))[:2]
    inverse[:, 2] += inverse[:, :2] @ (0.5, 0.5) - 0.5  # OpenCV counts from centres
    inside = np.where(pixels, np.uint8(255), np.uint8(0))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    # the edge of the image is continued: an object that touches it does not fade there
    warped = cv2.warpAffine(
        inside, inverse, cells[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return (warped >= 128).astype(np.uint8)
