"""Measured time of a prediction, since fewer parameters are not always less time."""

import statistics
import time

import jax
import numpy as np

from rcnn_jax.runtime.bundle import jax_predictor
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.task import Variables

# Enough for a median that one pause of the machine does not move.
ROUNDS = 10


def latency(experiment: Experiment, variables: Variables, canvas: tuple[int, int]) -> float:
    """Returns the median seconds of a prediction of one image on the first device of JAX.

    Args:
      experiment: with the widths of the variables.
      variables: of the network.
      canvas: (height, width) of the image, which is noise: the time hardly depends on what it shows.
    """
    predict = jax_predictor(experiment, experiment.inference)(variables)
    shape = (1, *canvas, experiment.task.pixels.channels)
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    jax.block_until_ready(predict(image))  # compiles
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        jax.block_until_ready(predict(image))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
