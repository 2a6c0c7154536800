"""Unfolding of batch norm: statistics for pretrained weights without any, from training images.

Folded weights enter a network with batch norm as gamma 1, beta = bias, mean 0, variance 1: right as
long as the statistics stay frozen, but batch norm that learns would push every channel to variance 1.
Here the network runs over training images and every batch norm takes the mean and variance of what it
sees; gamma and beta change so that the network computes what it did:

    gamma' = s sqrt(v + eps),  beta' = o + m s      for the old scale s and offset o of a channel
"""

import dataclasses
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.checkpoints.pretrained import apply_weights, load_weights
from rcnn_jax.data.loader.pipeline import training_batches
from rcnn_jax.data.sources.tiles import tiled
from rcnn_jax.models.batch_norm import BatchNorm
from rcnn_jax.models.variables import layer_order
from rcnn_jax.settings.data import LoaderSettings
from rcnn_jax.structures import Batch
from rcnn_jax.tasks.experiment import Experiment

Statistics = dict[str, tuple[Any, Any]]
"""{batch norm: (mean, mean square) f32[c]}."""


def unfolded_weights(experiment: Experiment, weights: Path, batches: int) -> dict[str, np.ndarray]:
    """Returns {group/layer/leaf: array} of the layers that a file fills, with statistics.

    Args:
      experiment: names the network and the training images.
      weights: file of pretrained weights.
      batches: of training images that are looked at.

    Raises:
      RcnnError: the file or the images cannot be used.
    """
    # With the stored statistics in use, every layer sees what it saw with folded weights; with
    # those of the batch, what a layer sees would depend on all before it that are being changed.
    experiment = with_frozen_statistics(experiment)
    task = experiment.task
    fresh = task.init(jax.random.key(experiment.seed))
    given = load_weights(weights, None, task.model.convention.bn_eps)
    order = layer_order(task.model, task.pixels.channels)
    filled = apply_weights(
        fresh["params"], fresh["batch_stats"], given, layers=order, expected=given
    )
    variables = {"params": filled.params, "batch_stats": filled.batch_stats}
    statistics = observe(experiment, variables, batches)
    unfolded = unfold(variables, statistics, task.model.convention.bn_eps)
    kept = {row.layer for row in filled.rows if row.status == "Yes"}
    return {
        f"{group}/{layer}/{leaf}": np.asarray(array)
        for group, tree in unfolded.items()
        for layer, leaves in tree.items()
        if layer in kept
        for leaf, array in leaves.items()
    }


def with_frozen_statistics(experiment: Experiment) -> Experiment:
    """Returns the experiment with batch norm in inference mode."""
    model = experiment.task.model
    options = dataclasses.replace(model.options, freeze_bn=True)
    task: Any = experiment.task
    # No axis: the observation runs outside of the mapped step, which alone binds one.
    task = dataclasses.replace(
        task,
        model=model.clone(options=options, bn_axis_name=None),
        settings=dataclasses.replace(task.settings, dynamic=None),
    )
    return dataclasses.replace(experiment, task=task)


def observe(experiment: Experiment, variables: Any, batches: int) -> Statistics:
    """Returns the input statistics of every batch norm in training, without augmentation."""
    loader = LoaderSettings(global_batch=experiment.batch_per_device or 1, seed=experiment.seed)
    stream = training_batches(
        tiled(experiment.train_source(), experiment.tiling),
        experiment.geometry,
        None,
        experiment.train_gt,
        experiment.task.pixels.channel_order,
        loader,
    )
    listen = _listening(experiment)
    keys = jax.random.split(jax.random.key(experiment.seed), batches)
    seen = [listen(variables, batch, key) for batch, key in zip(stream, keys, strict=False)]
    return jax.tree.map(lambda *parts: sum(parts) / batches, *seen)


def unfold(variables: Any, statistics: Statistics, eps: float) -> Any:
    """Returns variables of the same function, with the observed statistics in every batch norm.

    Args:
      variables: params and batch_stats.
      statistics: mean and mean square of the inputs of batch norms.
      eps: of batch norm.
    """
    params, stats = (dict(variables[group]) for group in ("params", "batch_stats"))
    for name, (mean, square) in statistics.items():
        # Two means in one pass over the images; their difference may fall below 0 by rounding.
        variance = jnp.maximum(square - mean**2, 0.0)
        old, moving = params[name], stats[name]
        scale = old["gamma"] / jnp.sqrt(moving["moving_variance"] + eps)
        offset = old["beta"] - moving["moving_mean"] * scale
        params[name] = {"gamma": scale * jnp.sqrt(variance + eps), "beta": offset + mean * scale}
        stats[name] = {"moving_mean": mean, "moving_variance": variance}
    return {"params": params, "batch_stats": stats}


def _listening(experiment: Experiment) -> Any:
    """Returns (variables, batch, key) -> input statistics of every batch norm in the losses."""

    def run(variables: Any, batch: Batch, key: jax.Array) -> Statistics:
        seen: Statistics = {}

        def listen(method, args, kwargs, context):
            if isinstance(context.module, BatchNorm) and context.method_name == "__call__":
                conv, x = kwargs.get("conv"), args[0]
                # Frozen norms are folded into the kernels before them: their own input is nowhere
                # computed, and comes from the convolution alone.
                x = (x if conv is None else conv(x)).astype(jnp.float32)
                axes = tuple(range(x.ndim - 1))
                seen[str(context.module.name)] = jnp.mean(x, axes), jnp.mean(x * x, axes)
            return method(*args, **kwargs)

        keys = jax.random.split(key, batch.images.shape[0])
        # The losses and not the forward pass: heads see the rois that training samples, and the
        # network needs no outputs of its own for this.
        with nn.intercept_methods(listen):
            experiment.task.losses(variables, batch, keys)
        return seen

    return jax.jit(run)
