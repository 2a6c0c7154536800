"""One optimisation step of one data shard: `(state, batch) -> (state, metrics)`.

The function uses collectives over `axis_name` only; which devices exist is the business of
`train/parallel.py`. Loss terms and gradients are summed over the axis before anything is divided, so the
result does not depend on how a global batch is cut.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from rcnn_jax.ops.over_devices import sum_over
from rcnn_jax.settings.training import OptimizerSettings
from rcnn_jax.structures import Batch, TrainState
from rcnn_jax.tasks.distillation import Teacher, begin_lesson
from rcnn_jax.tasks.task import Task
from rcnn_jax.train.loss_scale import adjusted, all_finite, first_loss_scale
from rcnn_jax.train.optimizer import (
    global_norm,
    join_params,
    layer_of,
    make_optimizer,
    penalty,
    rate_factors,
    split_params,
)
from rcnn_jax.train.schedules import Schedule
from rcnn_jax.train.sharding import Slices

Metrics = dict[str, jax.Array]
StepFunction = Callable[..., tuple[TrainState, Metrics]]
"""State, batch and, with a teacher, its variables -> state, metrics."""


def init_state(
    task: Task, variables: Any, settings: OptimizerSettings, schedule: Schedule, seed: int
) -> TrainState:
    """Returns the state before the first step, on the default device."""
    params = variables["params"]
    trainable, _ = split_params(params, task.is_frozen)
    names = (*task.loss_weights, "penalty", "loss")
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        collections={name: tree for name, tree in variables.items() if name != "params"}
        | task.training_collections(),
        # One program: op by op there was one for each shape of a leaf, two seconds of every start.
        opt_state=jax.jit(make_optimizer(settings, schedule).init)(trainable),
        # A copy: the state is donated, and a buffer that is given twice is refused by the runtime.
        ema=jax.tree.map(jnp.copy, params) if settings.ema_decay else None,
        loss_scale=first_loss_scale() if task.model.dtype == jnp.float16 else None,
        epoch_sums={name: jnp.zeros((2,), jnp.float32) for name in names},
        # Plain numbers, which checkpoints and `parallel.first_replica` handle as NumPy arrays.
        key=jax.random.key_data(jax.random.key(seed)),
    )


def at_tempo(schedule: Schedule, tempo: Any) -> Schedule:
    """Returns the schedule stretched or shortened to another length.

    Args:
      schedule: of the written length.
      tempo: f32[], steps of it per step; None leaves it as it is.
    """
    if tempo is None:
        return schedule
    return lambda step: schedule(jnp.floor(step.astype(jnp.float32) * tempo).astype(jnp.int32))


def image_keys(state: TrainState, batch: Batch) -> jax.Array:
    """Returns one key per image, [b], from the step and the position in the global batch."""
    # Folded, never split: nothing is carried from step to step, so a resumed run draws the same
    # numbers, and an image draws the same ones on whatever device it lies.
    step_key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(step_key, batch.example_index)


def make_step(
    task: Task,
    settings: OptimizerSettings,
    schedule: Schedule,
    *,
    steps_per_epoch: int,
    axis_name: str,
    accumulate: int = 1,
    slices: Slices | None = None,
    teacher: Teacher | None = None,
) -> StepFunction:
    """Returns the step function of one shard; call it under a map that binds axis_name.

    The sums of an epoch start anew with its first step. The metrics hold every loss term, `penalty`,
    `loss` and `learning_rate` as f32[], equal on all shards.

    Args:
      task: the detector.
      settings: of the optimizer.
      schedule: of the learning rate.
      steps_per_epoch: see above.
      axis_name: of the map.
      accumulate: parts into which a shard is cut, one after the other, to save memory.
      slices: how weights and optimizer state are divided among the devices; None where each has all.
      teacher: of distillation; the function then takes its variables as third argument.
    """
    weights = task.loss_weights
    whole = None
    if slices is not None:
        whole = jax.eval_shape(lambda: task.init(jax.random.key(0))["params"])
        shapes, _ = split_params(whole, task.is_frozen)

    def norm(gradients: Any) -> jax.Array:
        if slices is None:
            return global_norm(gradients)
        squares = {path: jnp.sum(jnp.square(leaf)) for path, leaf in gradients.items()}
        return jnp.sqrt(slices.total(squares, shapes))

    def step(state: TrainState, batch: Batch, known: Any = None) -> tuple[TrainState, Metrics]:
        rate = at_tempo(schedule, state.tempo)
        # Made in here, over a tempo that is data: a length that is known after the first steps needs no
        # second compilation.
        optimizer = make_optimizer(settings, rate, norm)
        keys = image_keys(state, batch)
        params = state.params if slices is None else slices.whole(state.params, whole)
        trainable, frozen = split_params(params, task.is_frozen)
        kept = frozen
        factor = 1.0 if state.loss_scale is None else state.loss_scale.factor

        def terms_of(leaves: Any, collections: Any, part: Any) -> tuple[Any, Any]:
            variables = {"params": join_params(leaves, kept), **collections}
            shown, drawn = part
            lesson = None if teacher is None else begin_lesson(teacher, known, shown.images)
            return task.losses(variables, shown, drawn, lesson)

        def objective(
            leaves: Any, collections: Any, part: Any, counts: Any
        ) -> tuple[jax.Array, Any]:
            # Each shard divides its own sum by the count of all shards, and the parts are not
            # summed in here: the sum over shards of their gradients is then the gradient of the
            # whole loss. A psum of the loss would be differentiated too, and the gradient
            # multiplied by the number of devices.
            terms, mutated = terms_of(leaves, collections, part)
            if counts is None:
                counts = sum_over(axis_name, {name: count for name, (_, count) in terms.items()})
            losses = {name: _ratio(terms[name][0], counts[name]) for name in terms}
            loss = sum(weights[name] * part_loss for name, part_loss in losses.items())
            return jnp.asarray(loss) * factor, (losses, mutated)

        gradient = jax.grad(objective, has_aux=True)
        if accumulate == 1:
            part = batch, keys
            gradients, (losses, mutated) = gradient(trainable, state.collections, part, None)
        else:
            gradients, losses, mutated = _accumulated(
                gradient,
                terms_of,
                trainable,
                state.collections,
                (batch, keys),
                accumulate,
                axis_name,
            )
        gradients, metrics = sum_over(axis_name, (gradients, losses))
        if state.loss_scale is not None:
            gradients = jax.tree.map(lambda g: g / factor, gradients)
        factors = _factors(task, settings, trainable, state.step)
        if settings.heads_only_steps:  # moments of the backbone begin when its training does
            begun = _begun(settings, state.step)
            gradients = {
                path: g * begun if task.is_backbone(layer_of(path)) else g
                for path, g in gradients.items()
            }
        # After the psum: the penalty is a function of weights that all shards have, and counts
        # once.
        metrics["penalty"] = penalty(trainable, settings)
        data_loss = sum(weights[name] * metrics[name] for name in weights)
        metrics["loss"] = data_loss + metrics["penalty"]

        if slices is not None:  # the rest is done on this device's slices
            gradients = slices.own(gradients)
            trainable, frozen = split_params(state.params, task.is_frozen)
        with jax.named_scope("stage(update)"):
            updates: Any
            updates, opt_state = optimizer.update(gradients, state.opt_state, trainable)
            for path, times in factors.items():
                updates[path] = updates[path] * times
            stepped: Any = optax.apply_updates(trainable, updates)
            params = join_params(stepped, frozen)
        # Cleared by the first step of an epoch and not after the last one: the milestone in between
        # reads the sums from the state, also when it is done by a later process.
        goes_on = (state.step % steps_per_epoch != 0).astype(jnp.float32)
        sums = {
            name: goes_on * total + jnp.stack([metrics[name], jnp.ones((), jnp.float32)])
            for name, total in state.epoch_sums.items()
        }
        # Steps taken before this one, as the optimizer counts: the rate that was just applied.
        metrics["learning_rate"] = rate(state.step)
        new_state = state.replace(
            step=state.step + 1,
            params=params,
            collections={**state.collections, **_keep_frozen(task, settings, state, mutated)},
            opt_state=opt_state,
            ema=_average(state.ema, params, settings.ema_decay, state.step),
            epoch_sums=sums,
        )
        if state.loss_scale is not None:
            finite = all_finite(gradients)
            if slices is not None:
                finite = lax.pmin(finite.astype(jnp.int32), axis_name) == 1
            new_state = _unless_overflown(state, new_state, finite)
        return new_state, metrics

    return step


def _accumulated(
    gradient: Any,
    terms_of: Any,
    trainable: Any,
    collections: Any,
    whole: tuple[Batch, jax.Array],
    count: int,
    axis_name: str,
) -> tuple[Any, Any, Any]:
    """Returns gradients, shares of the loss terms and changed collections of a batch cut into parts.

    A term is a sum over a count, and the count is that of the whole batch: each part knows only its
    own. So the counts come first, by a pass without gradients of which the compiler keeps what counts
    need: nothing where they are constants of the spec, the first stage where sampling decides. Parts
    follow each other; their gradients are added, so the result is that of the whole batch, with one
    exception: trained batch norm takes its statistics over a part.
    """
    parts = jax.tree.map(lambda leaf: leaf.reshape(count, -1, *leaf.shape[1:]), whole)

    def counted(total: Any, part: Any) -> tuple[Any, None]:
        terms, _ = terms_of(trainable, collections, part)
        return jax.tree.map(jnp.add, total, {name: term[1] for name, term in terms.items()}), None

    first = jax.tree.map(lambda leaf: leaf[0], parts)
    shapes = jax.eval_shape(terms_of, trainable, collections, first)
    zeros = {name: jnp.zeros(term[1].shape, term[1].dtype) for name, term in shapes[0].items()}
    counts = sum_over(axis_name, lax.scan(counted, zeros, parts)[0])

    def added(carry: Any, part: Any) -> tuple[Any, None]:
        total, losses, changing = carry
        gradients, (own, mutated) = gradient(trainable, {**collections, **changing}, part, counts)
        return (
            jax.tree.map(jnp.add, total, gradients),
            jax.tree.map(jnp.add, losses, own),
            mutated,
        ), None

    start = (
        jax.tree.map(jnp.zeros_like, trainable),
        {name: jnp.zeros((), jnp.float32) for name in shapes[0]},
        {name: collections[name] for name in shapes[1]},
    )
    return lax.scan(added, start, parts)[0]


def _unless_overflown(state: TrainState, stepped: TrainState, finite: jax.Array) -> TrainState:
    """Returns the new state; where gradients are not finite, the old one with a smaller loss scale.

    The step counts all the same: it is the position in the data.
    """
    kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), stepped, state)
    return kept.replace(
        step=stepped.step,
        epoch_sums=stepped.epoch_sums,
        loss_scale=adjusted(state.loss_scale, finite),
    )


def _ratio(total: jax.Array, count: jax.Array) -> jax.Array:
    """Returns total / count added up over parts; a part of which nothing was counted is 0."""
    # The maximum as well as the condition: both branches are differentiated, and 0 / 0 in the
    # branch that is not taken would make the gradient NaN.
    return jnp.sum(jnp.where(count > 0, total / jnp.maximum(count, 1e-12), 0.0))


def _begun(settings: OptimizerSettings, step: jax.Array) -> jax.Array:
    """Returns 1 where the backbone is trained, 0 in the first steps of the heads alone, f32[]."""
    return (step >= settings.heads_only_steps).astype(jnp.float32)


def _factors(
    task: Task, settings: OptimizerSettings, trainable: Any, step: jax.Array
) -> dict[str, Any]:
    """Returns {leaf: factor of its update} where there is any; none leave the program as it was.

    Adam divides a factor of the gradient out again, so that of the rate comes behind the optimizer.
    """
    layers = dict.fromkeys(layer_of(path) for path in trainable)
    factors: dict[str, Any] = rate_factors(layers, settings, task.is_backbone, task.block_of)
    if settings.heads_only_steps:
        begun = _begun(settings, step)
        factors = {
            layer: factor * begun if task.is_backbone(layer) else factor
            for layer, factor in factors.items()
        }
    return {
        path: factors[layer_of(path)]
        for path in trainable
        if not isinstance(factors[layer_of(path)], float) or factors[layer_of(path)] != 1.0
    }


def _keep_frozen(task: Task, settings: OptimizerSettings, state: TrainState, mutated: Any) -> Any:
    """Returns the changed collections with the statistics of frozen layers put back."""
    # Batch norm in training mode moves its statistics whether its layer learns or not, and frozen weights
    # are right for the stored ones only.
    alone = state.step < settings.heads_only_steps

    def kept(name: str, layer: str, leaves: Any) -> Any:
        old = state.collections[name][layer]
        if task.is_frozen(layer):
            return old
        if settings.heads_only_steps and task.is_backbone(layer):
            return jax.tree.map(lambda was, now: jnp.where(alone, was, now), old, leaves)
        return leaves

    return {
        name: {layer: kept(name, layer, leaves) for layer, leaves in tree.items()}
        for name, tree in mutated.items()
    }


def _average(ema: Any, params: Any, decay: float, step: jax.Array) -> Any:
    """Returns the moving average of the params, with a smaller decay in the first steps."""
    if ema is None:
        return None
    count = step.astype(jnp.float32) + 1.0
    # (1 + t) / (10 + t) for t steps taken, as TensorFlow's ExponentialMovingAverage: without it the
    # random start would weigh in for 1 / (1 - decay) steps.
    keep = jnp.minimum(decay, count / (count + 9.0))
    return jax.tree.map(lambda old, new: old * keep + new * (1.0 - keep), ema, params)
