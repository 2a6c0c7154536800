"""Fake quantisation against NumPy written by hand: rounding, saturation, scales, straight-through."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.ops.fake_quant import fake_quant, fake_quant_weight, weight_scale, weight_steps


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def rounded(x, scale):
    """QuantizeLinear and DequantizeLinear of int8 with zero point 0."""
    return np.clip(np.rint(x / scale), -128, 127).astype(np.float32) * scale


def test_halves_go_to_even_and_large_values_saturate():
    """Scale 0.5: 0.25 lies half way and goes to 0, 0.75 to 1.0; on the negative side is one step more."""
    x = jnp.asarray([0.25, 0.75, -0.75, 100.0, -100.0, 3.2, 0.0], jnp.float32)
    values = fake_quant(x, jnp.float32(0.5))
    assert values.tolist() == [0.0, 1.0, -1.0, 63.5, -64.0, 3.0, 0.0]


@pytest.mark.parametrize("compiled", [False, True])
def test_rounding_is_that_of_numpy_bit_for_bit(rng, compiled):
    x = rng.normal(0, 3, (4, 5, 6, 7)).astype(np.float32)
    scale = np.float32(0.0371)
    function = jax.jit(fake_quant) if compiled else fake_quant
    np.testing.assert_array_equal(function(x, scale), rounded(x, scale))


def test_rounding_twice_changes_nothing(rng):
    once = fake_quant(rng.normal(0, 3, 1000).astype(np.float32), jnp.float32(0.0625))
    np.testing.assert_array_equal(fake_quant(once, jnp.float32(0.0625)), once)


def test_the_gradient_passes_where_nothing_is_clipped_and_scales_get_none():
    """Scale 1: 127.4 is rounded to 127 and lies inside, 127.6 and -128.6 are clipped."""
    x = jnp.asarray([0.3, -5.2, 127.4, 127.6, -128.4, -128.6], jnp.float32)
    weights = jnp.arange(1.0, 7.0, dtype=jnp.float32)
    grad_x, grad_scale = jax.grad(lambda x, s: jnp.sum(weights * fake_quant(x, s)), (0, 1))(
        x, jnp.float32(1.0)
    )
    assert grad_x.tolist() == [1.0, 2.0, 3.0, 0.0, 5.0, 0.0]
    assert grad_scale == 0.0


@pytest.mark.parametrize("compiled", [False, True])
def test_every_output_channel_has_the_scale_of_its_largest_weight(rng, compiled):
    kernel = rng.normal(0, 1, (3, 3, 8, 5)).astype(np.float32) * np.float32([1, 10, 0.1, 3, 1e-4])
    kernel[..., 3] = 0.0
    make = jax.jit(weight_scale) if compiled else weight_scale
    scale = np.asarray(make(kernel))
    exact = np.abs(kernel).max((0, 1, 2)) / 127
    kept = [0, 1, 2, 4]
    assert scale[3] == 1.0, "a channel of zeros"
    assert (scale[kept] >= exact[kept] * (1 - 1e-7)).all()
    assert (scale[kept] <= exact[kept] * (1 + 4e-5)).all()
    assert not (scale.view(np.int32) & 0xFF).any(), "16 significant bits"


def test_rounded_weights_are_whole_multiples_that_tell_their_scale(rng):
    kernel = rng.normal(0, 0.1, (3, 3, 16, 64)).astype(np.float32)
    steps, scale = np.asarray(weight_steps(kernel)), np.asarray(weight_scale(kernel))
    np.testing.assert_array_equal(steps, np.rint(kernel / scale).astype(np.int8))
    assert np.abs(steps).max((0, 1, 2)).tolist() == [127] * 64
    values = np.asarray(jax.jit(fake_quant_weight)(kernel))
    np.testing.assert_array_equal(values, steps * scale)
    np.testing.assert_array_equal(np.abs(values).max((0, 1, 2)) / np.float32(127), scale)


def test_gradients_pass_through_rounded_weights(rng):
    kernel = rng.normal(0, 1, (6, 4)).astype(np.float32)
    factors = rng.normal(0, 1, (6, 4)).astype(np.float32)
    values = jax.grad(lambda k: jnp.sum(factors * fake_quant_weight(k)))(kernel)
    np.testing.assert_array_equal(values, factors)


def test_the_dtype_of_the_computation_is_kept():
    x = jnp.asarray([0.3, 1.7], jnp.bfloat16)
    values = fake_quant(x, jnp.float32(0.5))
    assert values.dtype == jnp.bfloat16 and values.tolist() == [0.5, 1.5]
