"""Check of the losses: ends a run at a NaN or an infinity, without making the device wait."""

import math
from collections.abc import Callable

import numpy as np

from rcnn_jax.errors import TrainingError
from rcnn_jax.train.step import Metrics


class NonFiniteCheck:
    """Collects the loss terms of steps on the device and fails when one is not finite.

    Attributes:
      name_of: from a record index to the name of the image, for the message.
    """

    def __init__(self, name_of: Callable[[int], str]):
        """Takes the naming of images."""
        self.name_of = name_of
        # Record numbers instead of batches: a batch would keep its images in memory until the next
        # poll.
        self._waiting: list[tuple[int, np.ndarray, Metrics]] = []

    def add(self, step: int, image_ids: np.ndarray, metrics: Metrics) -> None:
        """Adds the device metrics of a step."""
        self._waiting.append((step, image_ids, metrics))

    def poll(self) -> None:
        """Checks all steps but the newest.

        The device may still be working on the newest one, and reading it would leave the device idle
        until the host has sent the next step.

        Raises:
          TrainingError: as `finish`.
        """
        self._check(self._waiting[:-1])
        self._waiting = self._waiting[-1:]

    def finish(self) -> None:
        """Waits for all steps and checks them.

        Raises:
          TrainingError: a term is NaN or infinite; names the step, the term and the images.
        """
        waiting, self._waiting = self._waiting, []
        self._check(waiting)

    def _check(self, steps: list[tuple[int, np.ndarray, Metrics]]) -> None:
        for step, image_ids, metrics in steps:
            values = {name: float(value) for name, value in metrics.items()}
            broken = [name for name, value in values.items() if not math.isfinite(value)]
            if broken:
                # All images of the step are named: which one spoilt the sum can no longer be told.
                images = ", ".join(self.name_of(int(i)) for i in image_ids)
                terms = ", ".join(f"{name} = {values[name]}" for name in sorted(broken))
                raise TrainingError(
                    f"step {step}: the loss is not finite ({terms}); images of the step: {images}. "
                    "The last checkpoint is kept. Lower the learning rate, lengthen its soft "
                    "start or limit the gradient (clip_norm: 10), and check the boxes of these images"
                )
