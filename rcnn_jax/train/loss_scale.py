"""Dynamic loss scaling for float16: gradients are computed times a factor that keeps them in range.

The factor doubles after many steps without an overflow. A step whose gradients overflow is left out, and
halves it. bfloat16 has the range of float32 and needs none of this.

Source: Micikevicius et al., Mixed Precision Training, 2018, section 3.2; docs/reference/specs.md.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

FIRST = 2.0**15
GROWS_AFTER = 2000
"""Good steps in a row, as in the original."""


class LossScale(flax.struct.PyTreeNode):
    """Attributes: factor f32[]; good i32[], steps without overflow since it last changed."""

    factor: Any
    good: Any


def first_loss_scale() -> LossScale:
    """Returns the scale of the first step."""
    return LossScale(factor=jnp.float32(FIRST), good=jnp.zeros((), jnp.int32))


def all_finite(tree: Any) -> jax.Array:
    """Returns bool[]: every number of the tree is finite."""
    leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    return jnp.stack(leaves).all()


def adjusted(scale: LossScale, finite: jax.Array) -> LossScale:
    """Returns the scale after a step.

    Args:
      scale: of the step.
      finite: bool[], its gradients were finite.
    """
    good = jnp.where(finite, scale.good + 1, 0)
    grows = good >= GROWS_AFTER
    factor = jnp.where(grows, scale.factor * 2.0, scale.factor)
    # At 1 there is nothing left to gain: what overflows then is not the scale's fault.
    factor = jnp.where(finite, factor, jnp.maximum(scale.factor * 0.5, 1.0))
    return LossScale(factor=factor, good=jnp.where(grows, 0, good).astype(jnp.int32))
