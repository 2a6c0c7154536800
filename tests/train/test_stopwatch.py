"""The stopwatch leaves out the first steps and times at least twenty steps and five seconds."""

import numpy as np
import pytest

from rcnn_jax.train.stopwatch import Stopwatch


def laps(seconds_per_step, start=0, most=400):
    """Returns (step at which the time is known, the time) with a clock of our own."""
    now = [100.0]
    timer = Stopwatch(start, clock=lambda: now[0])
    for step in range(start + 1, start + most):
        now[0] += 30.0 if step == start + 1 else seconds_per_step  # the first one compiles
        seconds = timer.lap(step, np.zeros(()))
        if seconds is not None:
            return step - start, seconds
    raise AssertionError("never known")


@pytest.mark.parametrize("start", [0, 1000])
def test_slow_steps_are_known_after_twenty(start):
    assert laps(0.5, start) == (20, pytest.approx(0.5))


def test_fast_steps_are_timed_for_five_seconds():
    step, seconds = laps(0.05)
    assert 103 <= step <= 105  # 4 warm steps and 100 of 0.05 s
    assert seconds == pytest.approx(0.05)


def test_the_fastest_steps_are_known_after_two_hundred():
    assert laps(0.001) == (200, pytest.approx(0.001))


def test_breaks_between_steps_are_left_out():
    now = [0.0]
    timer = Stopwatch(0, clock=lambda: now[0])
    for step in range(1, 30):
        now[0] += 0.5
        seconds = timer.lap(step, np.zeros(()))
        if seconds is not None:
            break
        if step % 5 == 0:
            now[0] += 7.0
            timer.skip(7.0)
    assert (step, seconds) == (20, pytest.approx(0.5))
