"""A few steps on a few images, timed: whether a spec can learn anything at all.

The steps are those of training, with the optimizer of the spec. The rate rises to the spec's highest
within some steps, so that a rate that is too high shows in seconds instead of after the warm-up.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.data.loader.pipeline import training_batches
from rcnn_jax.data.sources.boxes import Source
from rcnn_jax.reporter import SILENT, Reporter
from rcnn_jax.settings.data import LoaderSettings
from rcnn_jax.structures import Batch, TrainState
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.train import parallel
from rcnn_jax.train.calendar import Milestones
from rcnn_jax.train.schedules import make_schedule
from rcnn_jax.train.start import begin, widths_to_train
from rcnn_jax.train.step import init_state, make_step

RISE = 20
"""Steps in which the rate rises. Every schedule of a spec rises at least as slowly."""
EXPLODED = 3.0
"""A loss so many times that of the first steps has exploded, once the rate is up."""
_LAST = 5  # steps whose mean is called the loss


@dataclass(frozen=True, eq=False, kw_only=True)
class Course:
    """Result of a few steps.

    Attributes:
      rate: the highest learning rate.
      losses: of every step; NaN or infinite where the run broke.
      terms: means of the loss terms over the last steps, by name.
      seconds: of a step, the first ones left out.
      compile_seconds: of the program.
      memory: bytes of the program: arguments, results and what it holds between; None where unknown.
      batch: images of a step.
      state: after the last step, on the host.
    """

    rate: float
    losses: tuple[float, ...]
    terms: dict[str, float]
    seconds: float
    compile_seconds: float
    memory: int | None
    batch: int
    state: TrainState

    @property
    def first(self) -> float:
        """Mean loss of the first steps."""
        return float(np.mean(self.losses[:_LAST]))

    @property
    def last(self) -> float:
        """Mean loss of the last steps; NaN where it is not finite."""
        return float(np.mean(self.losses[-_LAST:]))

    @property
    def exploded(self) -> bool:
        """Whether the loss is not finite, or far above where it began."""
        return not np.isfinite(self.losses).all() or self.last > EXPLODED * self.first


def prepare(
    experiment: Experiment, *, key: str | None = None, reporter: Reporter = SILENT
) -> tuple[Experiment, TrainState]:
    """Returns the experiment with the widths it starts from, and the state a run of it begins with.

    Args:
      experiment: of the spec.
      key: of encrypted weights to start from.
      reporter: told what is loaded.

    Raises:
      CheckpointError: weights that the spec names cannot be used.
    """
    experiment = widths_to_train(experiment, key)
    variables = experiment.task.init(jax.random.key(experiment.seed))
    template = init_state(
        experiment.task,
        variables,
        experiment.optimizer,
        lambda step: jnp.float32(0),
        experiment.seed,
    )
    state, _ = begin(experiment, template, key=key, reporter=reporter)
    return experiment, jax.tree.map(np.asarray, state.replace(step=np.int32(0)))


def highest_rate(experiment: Experiment, images: int) -> tuple[float, int, int]:
    """Returns (highest learning rate, steps until it is reached, steps of the run).

    Args:
      experiment: of the spec.
      images: of the training set.
    """
    per_epoch = -(-images // experiment.batch_per_device)
    total = Milestones.of(experiment.run, per_epoch).total_steps
    schedule = make_schedule(experiment.schedule, total)
    steps = np.unique(np.linspace(0, max(total - 1, 0), 2000).astype(np.int32))
    rates = np.asarray(jax.vmap(schedule)(jnp.asarray(steps)))
    return float(rates.max()), int(steps[rates.argmax()]), total


def batches_of(experiment: Experiment, source: Source, batch: int) -> Iterator[Batch]:
    """Returns endless batches of a few images without random changes.

    Args:
      experiment: geometry and padding.
      source: the images.
      batch: images of a step; more than there are repeats them.
    """
    loader = LoaderSettings(global_batch=batch, seed=experiment.seed, threads=1, prefetch=2)
    return training_batches(
        source,
        experiment.geometry,
        None,
        experiment.train_gt,
        experiment.task.pixels.channel_order,
        loader,
    )


def overfit(
    experiment: Experiment,
    state: TrainState,
    source: Source,
    *,
    rate: float,
    batch: int,
    goes_on: Callable[[int, float], bool],
    most: int = 600,
) -> Course:
    """Takes steps on a few images.

    Args:
      experiment: of `prepare`.
      state: to begin with, on the host.
      source: the images.
      rate: the highest learning rate.
      batch: images of a step.
      goes_on: (steps taken, seconds of a step) -> whether there is time for more.
      most: steps.
    """
    devices = parallel.choose_devices(1)
    step = make_step(
        experiment.task,
        experiment.optimizer,
        lambda step: rate * jnp.minimum((step.astype(jnp.float32) + 1.0) / RISE, 1.0),
        steps_per_epoch=most + 1,
        axis_name=parallel.AXIS,
    )
    mapped = parallel.map_step(step, devices)
    batches = batches_of(experiment, source, batch)
    replicas = parallel.replicate(state, devices)
    first = parallel.shard(next(batches), devices)
    began = time.monotonic()
    memory = _memory(mapped.lower(replicas, first).compile())
    losses, rows, times = [], [], []
    compile_seconds = 0.0
    sharded = first
    while len(losses) < most:
        before = time.monotonic()
        replicas, metrics = mapped(replicas, sharded)
        # Read at once, unlike in training: a loss that explodes must end this, and there is no host work
        # to overlap with.
        row = {
            name: float(value) for name, value in parallel.first_replica(metrics, devices).items()
        }
        rows.append(row)
        losses.append(row["loss"])
        if len(losses) == 1:
            compile_seconds = time.monotonic() - began
        else:
            times.append(time.monotonic() - before)
        if not np.isfinite(losses[-1]) or _far_up(losses):
            break
        if len(losses) > _LAST and not goes_on(len(losses), float(np.median(times))):
            break
        sharded = parallel.shard(next(batches), devices)
    names = [name for name in rows[-1] if name not in ("loss", "learning_rate")]
    return Course(
        rate=rate,
        losses=tuple(losses),
        terms={name: float(np.mean([row[name] for row in rows[-_LAST:]])) for name in names},
        seconds=float(np.median(times)) if times else compile_seconds,
        compile_seconds=compile_seconds,
        memory=memory,
        batch=batch,
        state=parallel.first_replica(replicas, devices),
    )


def settled(experiment: Experiment, state: TrainState, batch: Batch) -> Any:
    """Returns the collections of a state with the statistics that batch norm has on a batch.

    After a few steps the moving averages are still near their start, and a prediction with them says
    nothing about the weights.

    Args:
      experiment: of the state.
      state: on the host.
      batch: the images.
    """
    stored = state.collections.get("batch_stats")
    if not stored:
        return state.collections
    statistics = statistics_function(experiment, state)(batch)
    return {**state.collections, "batch_stats": statistics}


def statistics_function(experiment: Experiment, state: TrainState) -> Callable[[Batch], Any]:
    """Returns a function from a batch to the mean and variance of every batch norm on it.

    Those of frozen ones are as stored. An update is m s + (1 - m) b with the stored s and the batch's b:
    two forward passes, from s = 0 and s = 1, give m and b of every layer, whatever its momentum.

    Args:
      experiment: of the state.
      state: on the host.
    """
    stored = state.collections["batch_stats"]
    key = jax.random.wrap_key_data(jnp.asarray(state.key))

    def updated(params: Any, statistics: Any, batch: Batch) -> Any:
        variables = {"params": params, **state.collections, "batch_stats": statistics}
        keys = jax.random.split(key, batch.images.shape[0])
        _, changed = experiment.task.losses(variables, batch, keys)
        return changed["batch_stats"]

    # A map over one: batch norm averages over the axis of the devices.
    run = jax.jit(jax.vmap(updated, in_axes=(None, None, 0), axis_name=parallel.AXIS))
    starts = [jax.tree.map(fill, stored) for fill in (np.zeros_like, np.ones_like)]

    def of_batch(old: np.ndarray, at_zero: np.ndarray, at_one: np.ndarray) -> np.ndarray:
        kept = float(np.median(at_one - at_zero))
        return old if kept > 1 - 1e-6 else (at_zero / (1 - kept)).astype(old.dtype)

    def measure(batch: Batch) -> Any:
        # In floats: images prepared otherwise are no whole numbers, and one program serves all.
        batch = batch.replace(images=np.asarray(batch.images, np.float32))
        one = jax.tree.map(lambda leaf: np.asarray(leaf)[None], batch)
        low, high = (
            jax.tree.map(lambda leaf: np.asarray(leaf)[0], run(state.params, start, one))
            for start in starts
        )
        changed = jax.tree.map(of_batch, {name: stored[name] for name in low}, low, high)
        return {**stored, **changed}

    return measure


def _far_up(losses: list[float]) -> bool:
    """Says whether the loss has been far above its start for some steps, after the rate is up."""
    if len(losses) < RISE + _LAST:
        return False
    return bool(min(losses[-_LAST:]) > EXPLODED * np.mean(losses[:_LAST]))


def _memory(compiled: Any) -> int | None:
    try:
        analysis = compiled.memory_analysis()
    except (AttributeError, NotImplementedError, RuntimeError):  # backends that do not say
        return None
    if analysis is None:
        return None
    parts = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes")
    # The state is donated: its results lie where its arguments were.
    shared = getattr(analysis, "alias_size_in_bytes", 0)
    return sum(int(getattr(analysis, part, 0)) for part in parts) - int(shared)
