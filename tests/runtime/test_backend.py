"""Predictors of anything that runs a graph: preprocessing, and batches of other sizes."""

import numpy as np
import pytest

from rcnn_jax.export.contracts import make_header
from rcnn_jax.runtime.backend import predictor_of, preprocess
from tests.export.tiny import CANVAS, faster_rcnn, images

HEADER = make_header(faster_rcnn(), "plain", None)


class Graph:
    """A graph whose score of an image is the mean of its first channel; it keeps its batch sizes."""

    def __init__(self):
        self.sizes = []

    def __call__(self, batch):
        self.sizes.append(len(batch))
        count = len(batch)
        return {
            "boxes": np.zeros((count, 1, 4), np.float32),
            "scores": batch[:, 0].mean((1, 2), keepdims=False)[:, None],
            "classes": np.zeros((count, 1), np.int32),
            "valid": np.ones((count, 1), bool),
        }


def test_pixels_are_normalised_per_channel_and_channels_come_first():
    pixels = images(2)
    batch = preprocess(pixels, HEADER)
    assert batch.shape == (2, 3, *CANVAS) and batch.dtype == np.float32
    assert batch.flags.c_contiguous
    expected = (pixels[1, 5, 7].astype(np.float64) - HEADER.mean) / HEADER.std
    np.testing.assert_allclose(batch[1, :, 5, 7], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("count", "least", "most", "sizes"),
    [
        (3, 1, None, [3]),
        (5, 1, 2, [2, 2, 1]),
        (5, 2, 2, [2, 2, 2]),
        (1, 4, 8, [4]),
        (9, 4, 8, [8, 4]),
    ],
)
def test_any_number_of_images_goes_through_a_graph_of_limited_batches(count, least, most, sizes):
    graph, pixels = Graph(), images(count, seed=3)
    detections, proposals = predictor_of(graph, HEADER, least, most)(pixels)
    assert graph.sizes == sizes and proposals is None
    means = preprocess(pixels, HEADER)[:, 0].mean((1, 2))
    np.testing.assert_array_equal(detections.scores[:, 0], means)
