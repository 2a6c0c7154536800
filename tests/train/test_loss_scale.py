"""The scale of float16 losses: halved by an overflow, doubled after many good steps."""

import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.train.loss_scale import GROWS_AFTER, adjusted, all_finite, first_loss_scale


def after(scale, *finite):
    for one in finite:
        scale = adjusted(scale, jnp.asarray(one))
    return float(scale.factor), int(scale.good)


def test_an_overflow_halves_it_and_starts_the_count_anew():
    scale = first_loss_scale()
    assert after(scale, True, True) == (2.0**15, 2)
    assert after(scale, True, False) == (2.0**14, 0)
    assert after(scale, False, False, True) == (2.0**13, 1)


def test_it_doubles_after_two_thousand_good_steps():
    scale = first_loss_scale().replace(good=jnp.int32(GROWS_AFTER - 2))
    assert after(scale, True) == (2.0**15, GROWS_AFTER - 1)
    assert after(scale, True, True) == (2.0**16, 0)


def test_it_never_falls_below_one():
    assert after(first_loss_scale(), *[False] * 40)[0] == 1.0


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_one_number_that_is_not_finite_is_enough(value):
    tree = {"a": jnp.zeros((2, 3)), "b": jnp.asarray([0.0, value])}
    assert not all_finite(tree)
    assert all_finite({"a": jnp.zeros(3)})
