import numpy as np

from rcnn_jax.evaluate.palette import class_color


def test_the_first_eighty_class_colours_are_all_different():
    colors = [class_color(index) for index in range(80)]
    assert len(set(colors)) == 80
    assert all(0 <= channel <= 255 for color in colors for channel in color)


def test_the_first_ten_class_colours_are_far_apart():
    colors = np.array([class_color(index) for index in range(10)], float)
    distance = np.linalg.norm(colors[:, None] - colors[None], axis=-1)
    assert distance[~np.eye(10, dtype=bool)].min() > 50
