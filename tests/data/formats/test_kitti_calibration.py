"""Calibration files: the two matrices, and messages that name the damaged one."""

import numpy as np
import pytest

from rcnn_jax.data.formats.kitti_calibration import read_calibration
from rcnn_jax.errors import DataError


def write(tmp_path, text):
    path = tmp_path / "000001.txt"
    path.write_text(text)
    return path


def calibration(r0="1 0 0 0 1 0 0 0 1"):
    identity = "1 0 0 0 0 1 0 0 0 0 1 0"
    camera = "700 0 600 0 0 700 180 0 0 0 1 0"
    lidar = "0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27"
    lines = [f"P0: {identity}", f"P2: {camera}", f"R0_rect: {r0}", f"Tr_velo_to_cam: {lidar}"]
    return "\n".join(lines)


def test_calibration_projects_a_lidar_point_to_its_pixel(tmp_path):
    to_camera, to_image = read_calibration(write(tmp_path, calibration()))
    point = np.array([10.27, 1.0, -1.0, 1.0])  # 10 m in front, 1 m left and below
    np.testing.assert_allclose(to_camera @ point, [-1.0, 0.92, 10.0, 1.0], atol=1e-6)
    u, v, depth = to_image @ point
    np.testing.assert_allclose([u / depth, v / depth], [600 - 70, 180 + 64.4], rtol=1e-5)


def test_damaged_calibration_names_the_matrix(tmp_path):
    with pytest.raises(DataError, match="000001.txt: R0_rect has 2 values; expected 9"):
        read_calibration(write(tmp_path, calibration("1 0")))
    with pytest.raises(DataError, match="R0_rect holds something that is not a number"):
        read_calibration(write(tmp_path, calibration("one")))
