"""Stopwatch of the first steps of a run, for its time plan."""

import time
from collections.abc import Callable
from typing import Any

import jax

from rcnn_jax.train.time_plan import FIRST_STEPS, LEAST_SECONDS, MOST_STEPS, WARM_STEPS


class Stopwatch:
    """Times steps until enough of them are known."""

    def __init__(self, start: int, clock: Callable[[], float] = time.monotonic):
        """Takes the number of steps that were taken before, and a clock in seconds."""
        self._start = start
        self._clock = clock
        self._warm: tuple[int, float] | None = None

    def skip(self, seconds: float) -> None:
        """Leaves out a break between two steps."""
        if self._warm is not None:
            self._warm = (self._warm[0], self._warm[1] + seconds)

    def lap(self, step: int, metrics: Any) -> float | None:
        """Returns the seconds of a step once they are known, before that None.

        Args:
          step: steps taken so far.
          metrics: of that step; waited for when the time is read, and only then.
        """
        count = step - self._start
        if count < WARM_STEPS or (self._warm is not None and count < FIRST_STEPS):
            return None
        jax.block_until_ready(metrics)
        now = self._clock()
        if self._warm is None:
            self._warm = (step, now)
            return None
        first, begun = self._warm
        if now - begun < LEAST_SECONDS and count < MOST_STEPS:
            return None
        return (now - begun) / (step - first)
