"""Optimizer: one Optax transformation over the trainable leaves, made from settings.

Trainable leaves are a flat dict {"layer/leaf": array}; frozen leaves are not in it, so the
optimizer keeps no state for them and no gradient is computed for them.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from rcnn_jax.settings.training import OptimizerSettings

Flat = dict[str, Any]

UNPENALISED = frozenset({"bias", "beta", "gamma"})
"""Leaf names outside the weight penalty of Faster R-CNN, and outside decoupled decay."""

OFFSETS = frozenset({"bias", "beta"})
"""Leaf names whose gradients TAO's Mask R-CNN doubles."""


def layer_of(path: str) -> str:
    """Returns the name of the top-level layer of a leaf."""
    return path.split("/")[0]


def split_params(params: Any, is_frozen: Callable[[str], bool]) -> tuple[Flat, Flat]:
    """Splits nested params into (trainable, frozen) flat dicts by the name of the top-level layer."""
    flat: Flat = flatten_dict(params, sep="/")
    trainable = {path: leaf for path, leaf in flat.items() if not is_frozen(layer_of(path))}
    frozen = {path: leaf for path, leaf in flat.items() if is_frozen(layer_of(path))}
    return trainable, frozen


def join_params(trainable: Flat, frozen: Flat) -> Any:
    """Returns the nested params; the inverse of `split_params`."""
    return unflatten_dict({**frozen, **trainable}, sep="/")


def is_penalised(path: str, settings: OptimizerSettings) -> bool:
    """Returns whether the weight penalty applies to a leaf."""
    if settings.regularize == "kernels_and_gamma":
        return _leaf_of(path) not in OFFSETS
    return _leaf_of(path) not in UNPENALISED


def penalty(trainable: Flat, settings: OptimizerSettings) -> jax.Array:
    """Returns the value of the weight penalty, f32[]; its gradient is added by the optimizer."""
    leaves = [leaf for path, leaf in trainable.items() if is_penalised(path, settings)]
    total = jnp.zeros((), jnp.float32)
    if settings.l2:
        # Keras penalises l2 |w|^2, TensorFlow's l2_loss half of that: l2_factor is 2 or 1.
        total += 0.5 * settings.l2_factor * settings.l2 * _square_sum(leaves)
    if settings.l1:
        total += settings.l1 * sum(jnp.sum(jnp.abs(leaf)) for leaf in leaves)
    return total


def global_norm(tree: Any) -> jax.Array:
    """Returns the Euclidean norm of all leaves together, f32[]."""
    return jnp.sqrt(_square_sum(jax.tree.leaves(tree)))


def _square_sum(leaves: list[jax.Array]) -> jax.Array:
    """Returns the sum of the squares of all leaves, f32[]."""
    # By columns, and one sum of them all: a sum over all axes of every leaf was three to five kernels for
    # each, a seventh of those of a step of Mask R-CNN R50-FPN, and took twice as long.
    vectors = [leaf for leaf in leaves if leaf.ndim < 2]
    columns = [
        jnp.sum(jnp.square(leaf.reshape(-1, leaf.shape[-1])), axis=0)
        for leaf in leaves
        if leaf.ndim > 1
    ]
    if vectors:
        columns.append(jnp.square(jnp.concatenate([leaf.reshape(-1) for leaf in vectors])))
    return jnp.sum(jnp.concatenate(columns)) if columns else jnp.zeros((), jnp.float32)


def rate_factors(
    layers: Iterable[str],
    settings: OptimizerSettings,
    is_backbone: Callable[[str], bool],
    block_of: Callable[[str], int | None],
) -> dict[str, float]:
    """Learning rate factors by layer: `backbone_factor`, and `layer_decay` by the block.

    Args:
      layers: names.
      settings: `backbone_factor` and `layer_decay`.
      is_backbone: layer -> whether it belongs to the backbone.
      block_of: layer -> its block, None for one without; such a one counts to the last block.
    """
    names = list(layers)
    last = max((block_of(name) or 0 for name in names), default=0)
    factors = dict.fromkeys(names, 1.0)
    for name in filter(is_backbone, names):
        block = block_of(name)
        distance = 1 + last - (last if block is None else block)
        factors[name] = settings.backbone_factor * settings.layer_decay**distance
    return factors


def make_optimizer(
    settings: OptimizerSettings,
    schedule: Callable[[jax.Array], jax.Array],
    norm: Callable[[Any], jax.Array] = global_norm,
) -> optax.GradientTransformation:
    """Returns clip -> bias factor -> penalty gradient -> optimizer -> decoupled decay -> learning rate.

    `norm` is that of all gradients, for an optimizer that sees only slices of them.

    Clipping comes first so that it bounds the data term; the penalty enters before the momentum, as in
    Keras and TensorFlow, where it is part of the loss.
    """

    def rate(step: Any) -> jax.Array:
        value = schedule(step)
        return value / (1.0 + settings.decay * step) if settings.decay else value

    steps: list[optax.GradientTransformation] = []
    if settings.clip_norm:
        steps.append(_clip(settings.clip_norm, norm))
    if settings.bias_gradient_factor != 1.0:
        steps.append(_scale_offsets(settings.bias_gradient_factor))
    if settings.l1 or settings.l2:
        steps.append(_add_penalty_gradient(settings))
    steps.append(_direction(settings))
    if settings.weight_decay:
        steps.append(_add_decay(settings.weight_decay))
    steps.append(optax.scale_by_learning_rate(rate))
    return optax.chain(*steps)


def _clip(most: float, norm: Callable[[Any], jax.Array]) -> optax.GradientTransformation:
    """Optax's clip by the global norm as one factor: a program of fewer kernels and less traffic."""

    def update(updates: Any, params: Any) -> Any:
        del params
        # The maximum instead of a condition: the factor is exactly 1 up to the limit, and a gradient of
        # zeros divides by the limit. Optax selects leaf by leaf between two arrays; one factor that the
        # update reads spared 200 kernels and a copy of all gradients, and the compilation of Mask R-CNN
        # R50-FPN 4 of 29 seconds.
        factor = most / jnp.maximum(norm(updates), most)
        return jax.tree.map(lambda g: g * factor.astype(g.dtype), updates)

    return optax.stateless(update)


def _leaf_of(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _direction(settings: OptimizerSettings) -> optax.GradientTransformation:
    if settings.kind == "sgd":
        if not settings.momentum:
            return optax.identity()
        # The velocity holds gradients and not steps: the rate is applied after it, so a change of
        # the rate acts at once on what has been gathered. Source: docs/reference/mask_rcnn.md,
        # "Optimizer".
        return optax.trace(decay=settings.momentum, nesterov=settings.nesterov)
    if settings.kind in ("adam", "adamw"):
        make = optax.scale_by_amsgrad if settings.amsgrad else optax.scale_by_adam
        return make(b1=settings.beta_1, b2=settings.beta_2, eps=settings.epsilon)
    return optax.scale_by_rms(decay=settings.rho, eps=settings.epsilon)


def _add_decay(weight_decay: float) -> optax.GradientTransformation:
    """Adds a part of every kernel to its direction, behind the moments.

    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019 (arXiv:1711.05101).
    """

    # As the penalty a function of leaf names: `optax.add_decayed_weights` takes a mask of the whole tree
    # and keeps masked nodes in the state, which checkpoints would have to know.
    def update(updates: Any, params: Any) -> Any:
        return {
            path: u if _leaf_of(path) in UNPENALISED else u + weight_decay * params[path]
            for path, u in updates.items()
        }

    return optax.stateless(update)


def _scale_offsets(factor: float) -> optax.GradientTransformation:
    def update(updates: Any, params: Any) -> Any:
        del params
        # Source: docs/reference/mask_rcnn.md, "Optimizer".
        return {path: g * factor if _leaf_of(path) in OFFSETS else g for path, g in updates.items()}

    return optax.stateless(update)


def _add_penalty_gradient(settings: OptimizerSettings) -> optax.GradientTransformation:
    # Written out, not differentiated as a term of the loss: gradients are summed over the devices,
    # and every device would add the penalty once more.
    def gradient(path: str, g: jax.Array, w: jax.Array) -> jax.Array:
        if not is_penalised(path, settings):
            return g
        g = g + settings.l2_factor * settings.l2 * w if settings.l2 else g
        return g + settings.l1 * jnp.sign(w) if settings.l1 else g

    def update(updates: Any, params: Any) -> Any:
        return {path: gradient(path, g, params[path]) for path, g in updates.items()}

    return optax.stateless(update)
