import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.settings.training import (
    CosineSchedule,
    SoftStartSchedule,
    StepSchedule,
    WarmupSchedule,
)
from rcnn_jax.train.schedules import make_schedule

SOFT = SoftStartSchedule(
    base_lr=0.02,
    start_lr=0.002,
    soft_start=0.1,
    annealing_points=(0.8, 0.9),
    annealing_divider=10.0,
)


def rates(settings, steps, total, scale=1.0):
    rate = make_schedule(settings, total, scale)
    return np.array([float(rate(jnp.int32(step))) for step in steps])


def test_soft_start_rises_stays_and_is_divided_at_each_point():
    seen = rates(SOFT, [0, 50, 100, 500, 800, 801, 901], 1000)
    expected = [0.002, 0.011, 0.02, 0.02, 0.02, 0.002, 0.0002]
    np.testing.assert_allclose(seen, expected, rtol=1e-5)


def test_rate_is_multiplied_by_the_scale_throughout():
    steps = [0, 30, 500, 950]
    np.testing.assert_allclose(
        rates(SOFT, steps, 1000, 4.0), 4 * rates(SOFT, steps, 1000), rtol=1e-6
    )


def test_step_is_a_staircase():
    settings = StepSchedule(base_lr=0.1, gamma=0.5, step_size=30)
    np.testing.assert_allclose(
        rates(settings, [0, 29, 30, 59, 60, 99], 100),
        [0.1, 0.1, 0.05, 0.05, 0.025, 0.0125],
        rtol=1e-6,
    )


def test_cosine_starts_at_start_peaks_at_base_and_ends_at_end():
    settings = CosineSchedule(base_lr=1.0, start_lr=0.1, soft_start=0.1, end_lr=0.01)
    seen = rates(settings, [0, 100, 550, 1000], 1000)
    np.testing.assert_allclose(seen, [0.1, 1.0, 0.505, 0.01], rtol=1e-5)


def test_warmup_is_linear_and_levels_multiply_the_initial_rate():
    settings = WarmupSchedule(
        init_lr=0.02, warmup_lr=0.0, warmup_steps=10, boundaries=(60, 80), levels=(0.1, 0.02)
    )
    seen = rates(settings, [0, 5, 10, 59, 60, 79, 80, 500], 100)
    np.testing.assert_allclose(
        seen, [0.0, 0.01, 0.02, 0.02, 0.002, 0.002, 0.0004, 0.0004], rtol=1e-5, atol=1e-9
    )


def test_no_warmup_steps_start_at_the_initial_rate():
    settings = WarmupSchedule(
        init_lr=0.02, warmup_lr=0.0, warmup_steps=0, boundaries=(5,), levels=(0.1,)
    )
    assert rates(settings, [0], 10)[0] == pytest.approx(0.02)


def test_cosine_after_the_warm_up_ends_at_zero_with_the_run():
    settings = WarmupSchedule(init_lr=0.2, warmup_lr=0.0, warmup_steps=10, fall="cosine")
    rate = make_schedule(settings, total_steps=110)
    expected = {5: 0.1, 10: 0.2, 60: 0.1, 110: 0.0}
    for step, value in expected.items():
        np.testing.assert_allclose(rate(jnp.int32(step)), value, atol=1e-7)
