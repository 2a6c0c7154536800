"""Fake quantisation: values rounded to the int8 grid of the exported graph, in floats.

    q = clip(round(x / scale), -128, 127),   x' = q * scale,   dx = dx' where x was not clipped

Symmetric, zero point 0, halves round to even: QuantizeLinear followed by DequantizeLinear. The derivative
is the straight-through estimator. Scales get none: ranges are calibrated and frozen, not learnt.

Source: Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013;
Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", 2017, section 3; docs/reference/tensorrt.md, "Placement of Q/DQ".
"""

import jax
import jax.numpy as jnp
from jax import lax

LEVELS = 127
"""Steps of int8 on either side of zero; -128 occurs only at saturation."""
_STEP = 1.0 / LEVELS
_DROPPED = 0xFF
"""Low bits of a float32 that scales of weights do without."""


@jax.custom_vjp
def fake_quant(x: jax.Array, scale: jax.Array) -> jax.Array:
    """Rounds values to multiples of a scale, at most 127 of them.

    Args:
      x: [... c]; computed in float32 and returned in its own dtype.
      scale: f32[], or f32[1 ... 1 c] of the rank of x; positive.
    """
    return (_steps(x, scale) * scale).astype(x.dtype)


def _forward(x: jax.Array, scale: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    rounded = jnp.round(x.astype(jnp.float32) / scale)
    inside = (rounded >= -LEVELS - 1) & (rounded <= LEVELS)
    return fake_quant(x, scale), (inside, scale)


def _backward(
    residuals: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    inside, scale = residuals
    return jnp.where(inside, gradient, jnp.zeros_like(gradient)), jnp.zeros_like(scale)


fake_quant.defvjp(_forward, _backward)


def weight_scale(kernel: jax.Array) -> jax.Array:
    """Returns the scale of every output channel, f32[out]: its largest weight divided by 127.

    Rounded up to 16 significant bits (3e-5 at most), so that every multiple of up to 127 is a float32
    without rounding: whoever reads the rounded weights finds exactly this scale and these integers. A
    channel of zeros has scale 1.

    Args:
      kernel: [... out].
    """
    largest = jnp.max(jnp.abs(kernel.astype(jnp.float32)), axis=tuple(range(kernel.ndim - 1)))
    # A product: XLA may turn a quotient by a constant into one, and then the last bit would depend on
    # whether the function is compiled as a whole.
    bits = lax.bitcast_convert_type(largest * jnp.float32(_STEP), jnp.int32)
    scale = lax.bitcast_convert_type((bits + _DROPPED) & ~_DROPPED, jnp.float32)
    return jnp.where(largest > 0, scale, jnp.float32(1))


def weight_steps(kernel: jax.Array) -> jax.Array:
    """Returns the integers of a kernel [... out] as i8, in [-127, 127]."""
    return _steps(kernel, _per_channel(weight_scale(kernel), kernel)).astype(jnp.int8)


def fake_quant_weight(kernel: jax.Array) -> jax.Array:
    """Rounds a kernel [... out] to int8 with one scale per output channel, that of the moment."""
    scale = _per_channel(weight_scale(kernel), kernel)
    return fake_quant(kernel, lax.stop_gradient(scale))


def _per_channel(scale: jax.Array, kernel: jax.Array) -> jax.Array:
    return scale.reshape((1,) * (kernel.ndim - 1) + (-1,))


def _steps(x: jax.Array, scale: jax.Array) -> jax.Array:
    return jnp.clip(jnp.round(x.astype(jnp.float32) / scale), -LEVELS - 1, LEVELS)
