"""What is read out of compiled programs: donated buffers, types of convolutions."""

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.compile import convolution_types, donated_buffers


def test_donated_buffers_are_counted():
    def function(a, b):
        return a + 1.0, b.sum()

    arguments = jnp.ones((4, 4)), jnp.ones((4, 4))
    for donated, count in (((), 0), ((0,), 1)):
        lowered = jax.jit(function, donate_argnums=donated).lower(*arguments)
        assert donated_buffers(lowered.compile().as_text()) == count


def test_convolutions_are_counted_by_type():
    def function(x, kernel):
        wide = lax.conv(x, kernel, (1, 1), "SAME")
        half = lax.conv(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16), (1, 1), "SAME")
        return wide + half

    x, kernel = jnp.ones((1, 2, 4, 4)), jnp.ones((2, 2, 3, 3))
    assert convolution_types(jax.jit(function).lower(x, kernel).as_text()) == {"bf16": 1, "f32": 1}
