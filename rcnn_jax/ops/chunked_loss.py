"""A loss summed over many rows, a chunk of them at a time, whose gradient is made on the way forward.

    rows [b r ..] -> chunks [b k ..] -> loop { loss of a chunk, and its gradient } -> sum

A loop that JAX derives stacks what each round keeps, and runs as often as its length says. This one
keeps nothing but sums of gradients, ends behind the last row that counts, and is one program whatever
the number of chunks.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Loss = Callable[..., jax.Array]
"""(inputs f[b k ..], other arrays [b k ..], weights f32[b k]) -> sum f32[]."""
Rows = tuple[jax.Array, tuple[jax.Array, ...], jax.Array]
"""Inputs, other arrays and weights."""


def chunked_loss(
    loss: Loss, size: int, inputs: jax.Array, others: tuple[jax.Array, ...], weights: jax.Array
) -> jax.Array:
    """Returns the sum f32[] of `loss` over all rows.

    Its gradient reaches `inputs` and the arrays that `loss` closes over. It is made before the factor is
    known by which the sum enters the whole loss, so no loss scale protects it in float16.

    Args:
      loss: of a chunk; a row of weight 0 must add nothing.
      size: rows of a chunk, in each image.
      inputs: f[b r ..].
      others: arrays [b r ..] that no gradient reaches.
      weights: f32[b r]; chunks behind the last row that weighs anything are spared.
    """
    count = weights.shape[1]
    size = min(size, count)
    missing = -count % size

    def pad(leaf: jax.Array) -> jax.Array:
        return jnp.pad(leaf, [(0, 0), (0, missing)] + [(0, 0)] * (leaf.ndim - 2))

    rows = inputs, others, weights
    if missing:
        rows = jax.tree.map(pad, rows)
    # What is closed over becomes arguments: those alone that `loss` reads, so that no gradient is summed
    # for the rest of a network.
    pure, read = jax.closure_convert(loss, *_leaves(_chunk(rows, 0, size)))
    return _summed(pure, size, read, rows)


def _sum(pure: Loss, size: int, read: list[jax.Array], rows: Rows) -> jax.Array:
    def add(index: jax.Array, total: jax.Array) -> jax.Array:
        return total + pure(*_leaves(_chunk(rows, index, size)), *read)

    return lax.fori_loop(0, _chunks(rows, size), add, jnp.float32(0.0))


def _forward(
    pure: Loss, size: int, read: list[jax.Array], rows: Rows
) -> tuple[jax.Array, tuple[list[jax.Array], jax.Array]]:
    """Returns the sum, and its gradients: of what is read, and of the inputs."""

    def add(index: jax.Array, carry: Any) -> Any:
        total, of_read, of_inputs = carry
        own, *rest = _leaves(_chunk(rows, index, size))
        value, (to_read, to_own) = jax.value_and_grad(
            lambda read, own: pure(own, *rest, *read), (0, 1)
        )(read, own)
        of_inputs = lax.dynamic_update_slice_in_dim(of_inputs, to_own, index * size, axis=1)
        return total + value, jax.tree.map(jnp.add, of_read, to_read), of_inputs

    start = jnp.float32(0.0), *jax.tree.map(jnp.zeros_like, (read, rows[0]))
    total, *gradients = lax.fori_loop(0, _chunks(rows, size), add, start)
    return total, tuple(gradients)


def _backward(
    _: Loss, size: int, gradients: tuple[list[jax.Array], jax.Array], factor: jax.Array
) -> Any:
    del size
    read, inputs = jax.tree.map(lambda leaf: (leaf * factor).astype(leaf.dtype), gradients)
    return read, (inputs, None, None)


_summed = jax.custom_vjp(_sum, nondiff_argnums=(0, 1))
_summed.defvjp(_forward, _backward)


def _chunk(rows: Rows, index: Any, size: int) -> Rows:
    return jax.tree.map(
        lambda leaf: lax.dynamic_slice_in_dim(leaf, index * size, size, axis=1), rows
    )


def _leaves(rows: Rows) -> tuple[jax.Array, ...]:
    """Returns the arguments of a loss."""
    inputs, others, weights = rows
    return inputs, *others, weights


def _chunks(rows: Rows, size: int) -> jax.Array:
    """Returns the number of chunks up to the last row that weighs anything, i32[]."""
    weighs = (rows[2] != 0).any(axis=0)
    return jnp.max(jnp.where(weighs, jnp.arange(weighs.size) // size + 1, 0))
