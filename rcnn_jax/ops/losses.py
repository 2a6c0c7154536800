"""Losses as (sum, count): two float32 scalars, so that devices can add both before dividing.

A weight of 0 takes an element out of both; counts are sums of weights times the elements counted.
Everything is computed in float32.
"""

import jax
import jax.numpy as jnp

from rcnn_jax.structures import Array

SumCount = tuple[jax.Array, jax.Array]


def sigmoid_cross_entropy(logits: Array, labels: Array, weight: Array) -> SumCount:
    """Returns the binary cross-entropy of independent logits.

    Args:
      logits: [...].
      labels: f32[...] in [0, 1].
      weight: f32[...].
    """
    logits = jnp.asarray(logits).astype(jnp.float32)
    # softplus(x) = -log(1 - sigmoid(x)) neither overflows nor loses its slope at 0
    loss = labels * jax.nn.softplus(-logits) + (1.0 - labels) * jax.nn.softplus(logits)
    return jnp.sum(loss * weight), jnp.sum(weight)


def softmax_cross_entropy(logits: Array, classes: Array, weight: Array) -> SumCount:
    """Returns the cross-entropy of exclusive classes.

    Args:
      logits: [... n].
      classes: i32[...] in [0, n).
      weight: f32[...].
    """
    loss = softmax_cross_entropies(logits, classes)
    return jnp.sum(loss * weight), jnp.sum(weight)


def softmax_cross_entropies(logits: Array, classes: Array) -> jax.Array:
    """Returns the cross-entropy f32[...] of every element; the arguments of `softmax_cross_entropy`."""
    # log_softmax rather than the logarithm of a softmax: where a mistake is confident enough for
    # the softmax to underflow, that is log(0), and its gradient NaN.
    log_p = jax.nn.log_softmax(jnp.asarray(logits).astype(jnp.float32), axis=-1)
    return -jnp.take_along_axis(log_p, jnp.asarray(classes)[..., None], axis=-1)[..., 0]


def smooth_l1(predictions: Array, targets: Array, weight: Array, beta: float | Array) -> SumCount:
    """Returns the smooth L1 distance: e^2 / (2 beta) below beta, |e| - beta / 2 above.

    TAO Faster R-CNN's sigma is 1 / sqrt(beta): sigma 3 is beta 1/9.

    Args:
      predictions: [... 4].
      targets: f32[... 4].
      weight: f32[...], per box.
      beta: where the loss turns linear, > 0.

    Returns:
      (sum over the coordinates, 4 times the sum of weights).

    Source: Girshick 2015, equation 3; docs/reference/faster_rcnn.md, "Losses".
    """
    loss = smooth_l1_losses(predictions, targets, beta)
    weight = jnp.broadcast_to(jnp.asarray(weight)[..., None], loss.shape)
    return jnp.sum(loss * weight), jnp.sum(weight)


def smooth_l1_losses(predictions: Array, targets: Array, beta: float | Array) -> jax.Array:
    """Returns the smooth L1 distance f32[... 4] of every coordinate; the arguments of `smooth_l1`."""
    error = jnp.abs(jnp.asarray(predictions).astype(jnp.float32) - targets)
    # Both branches are finite wherever the other is taken: `where` derives both, and a NaN of the
    # unused one would pass through. At beta they meet with equal slope.
    return jnp.where(error < beta, 0.5 / beta * error * error, error - 0.5 * beta)


def huber(predictions: Array, targets: Array, weight: Array, delta: float) -> SumCount:
    """Returns the Huber distance: e^2 / 2 below delta, delta (|e| - delta / 2) above.

    It is delta times `smooth_l1` with beta = delta; shapes and count are those of `smooth_l1`.

    Source: docs/reference/mask_rcnn.md, "Losses".
    """
    total, count = smooth_l1(predictions, targets, weight, delta)
    return delta * total, count


def mask_cross_entropy(logits: Array, targets: Array, weight: Array) -> SumCount:
    """Returns the binary cross-entropy over the cells of masks.

    Args:
      logits: [... s s], of the true class.
      targets: f32[... s s] in {0, 1}.
      weight: f32[...], per mask.

    Returns:
      (sum over cells, s*s times the sum of weights).
    """
    per_cell = jnp.broadcast_to(jnp.asarray(weight)[..., None, None], logits.shape)
    return sigmoid_cross_entropy(logits, targets, per_cell)
