"""KITTI calibration files: camera matrices that the records carry for other networks.

The detectors here never read them. They are written so that the records serve every reader of the
original's records.
"""

from pathlib import Path

import numpy as np

from rcnn_jax.errors import DataError
from rcnn_jax.printable import shown
from rcnn_jax.text_file import read_text

_SHAPES = {"P2": (3, 4), "R0_rect": (3, 3), "Tr_velo_to_cam": (3, 4)}
_LARGEST = 1e9  # products of three matrices must fit 32-bit numbers


def read_calibration(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns the two matrices of the records from a calibration file `name: numbers` a line.

    Returns:
      T f32[4 4], lidar to rectified camera coordinates: R0_rect Tr_velo_to_cam, and
      P f32[3 4], lidar to pixels of the left colour camera: P2 T.

    Raises:
      DataError: the file is missing, or a matrix is missing or has another number of values.
    """
    lines = read_text(path, "calibration file").splitlines()
    texts = {name.strip(): values for name, _, values in (line.partition(":") for line in lines)}
    matrices = {name: _matrix(texts.get(name, ""), name, path) for name in _SHAPES}
    rectify, to_camera = np.eye(4), np.eye(4)
    rectify[:3, :3] = matrices["R0_rect"]
    to_camera[:3, :] = matrices["Tr_velo_to_cam"]
    # In float64, and rounded once, where the records take it.
    transform = rectify @ to_camera
    return transform.astype(np.float32), (matrices["P2"] @ transform).astype(np.float32)


def _matrix(text: str, name: str, path: Path) -> np.ndarray:
    rows, columns = _SHAPES[name]
    try:
        values = [float(value) for value in text.split()]
    except ValueError as error:
        raise DataError(
            f"{path}: {name} holds something that is not a number: {shown(str(error)[:80])}"
        ) from error
    if len(values) != rows * columns:
        raise DataError(f"{path}: {name} has {len(values)} values; expected {rows * columns}.")
    if not np.isfinite(values).all() or np.abs(values).max() > _LARGEST:
        raise DataError(f"{path}: {name} holds a value that is not finite or is too large.")
    return np.array(values).reshape(rows, columns)
