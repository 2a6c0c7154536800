"""The largest batch that a device holds, where a spec leaves the choice (`batch_size_per_gpu: 0`)."""

import dataclasses
from typing import Any

import jax
import numpy as np

from rcnn_jax.data.loader.pipeline import training_batches, training_canvases
from rcnn_jax.data.sources.boxes import Source
from rcnn_jax.hosts.team import team
from rcnn_jax.settings.data import LoaderSettings
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.train import parallel
from rcnn_jax.train.memory import device_limit, largest_batch, plan_memory
from rcnn_jax.train.schedules import make_schedule
from rcnn_jax.train.step import init_state, make_step
from rcnn_jax.train.teacher import Taught


def with_chosen_batch(
    experiment: Experiment,
    source: Source,
    devices: parallel.Devices,
    stored: dict[str, Any] | None,
    taught: Taught | None = None,
) -> tuple[Experiment, str]:
    """Returns the experiment with a batch for each device, and a sentence on where it comes from.

    A run that goes on keeps the batch it began with, whatever its memory would allow now.

    Args:
      experiment: whose batch may be 0.
      source: training images.
      devices: of the run.
      stored: what the newest checkpoint of the run remembers; None for a fresh run.
      taught: the teacher of the run, which takes memory too; None without one.

    Raises:
      TrainingError: one image does not fit.
    """
    if experiment.batch_per_device:
        return experiment, ""
    parts = experiment.run.accumulate_steps
    if stored is not None:
        # Another batch would be another run: its schedule, its epochs and its order of images.
        batch = max(int(stored["fingerprint"]["global_batch"]) // (devices.count * parts), 1)
        return dataclasses.replace(experiment, batch_per_device=batch), (
            f"batch of {batch} images per device, as this run began"
        )
    # Machines of a job need not be alike, and all must ask the compiler the same questions: the program
    # of a step is one over all of them.
    limit = min(team().gather_json(device_limit(devices.local[0])))
    if not limit:
        batch, why = 1, "nobody says how much memory the device has"
    else:
        batch = largest_batch(lambda size: _peak(experiment, source, devices, size, taught), limit)
        why = f"the most that fit into {limit / 1024**2:,.0f} MiB"
    batch = min(team().gather_json(batch))
    return dataclasses.replace(experiment, batch_per_device=batch), (
        f"batch of {batch} images per device: {why}"
    )


def _peak(
    experiment: Experiment,
    source: Source,
    devices: parallel.Devices,
    size: int,
    taught: Taught | None = None,
) -> int:
    """Computes the bytes that a step with so many images per device takes, on the largest canvas."""
    # The program of `pmap` takes as much, and cannot be lowered from shapes with a placement.
    devices = dataclasses.replace(devices, body="shard_map")
    schedule = make_schedule(experiment.schedule, 1000)
    task, parts = experiment.task, experiment.run.accumulate_steps
    state = jax.eval_shape(
        lambda: init_state(
            task, task.init(jax.random.key(0)), experiment.optimizer, schedule, experiment.seed
        )
    )
    step = make_step(
        task,
        experiment.optimizer,
        schedule,
        steps_per_epoch=1,
        axis_name=parallel.AXIS,
        accumulate=parts,
        slices=devices.slices,
        teacher=None if taught is None else taught.teacher,
    )

    def placed(tree: Any, spec: Any) -> Any:
        def put(leaf: Any, spec: Any) -> jax.ShapeDtypeStruct:
            where = devices.sharding(spec)
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

        if isinstance(spec, jax.sharding.PartitionSpec):
            return jax.tree.map(lambda leaf: put(leaf, spec), tree)
        return jax.tree.map(put, tree, spec)

    mapped = parallel.map_step(step, devices, state, taught=taught is not None)
    state = placed(state, devices.state_specs(state))
    batch = placed(_shapes(experiment, source, size * parts * devices.count), parallel.ROWS)
    known = () if taught is None else (placed(taught.variables, parallel.WHOLE),)
    # Of shapes alone: nothing is allocated, so a batch that does not fit costs a compilation and no
    # crash.
    compiled = mapped.lower(state, batch, *known).compile()
    return plan_memory(compiled, _on_one(state), batch, devices.count, 0, known).peak


def _on_one(tree: Any) -> Any:
    """Returns the shapes of what one device holds of placed arrays."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.sharding.shard_shape(leaf.shape), leaf.dtype), tree
    )


def _shapes(experiment: Experiment, source: Source, size: int) -> Any:
    """Returns a batch of so many images on the largest canvas, as shapes."""
    # A real record for the shapes of the ground truth, which the task decides.
    loader = LoaderSettings(global_batch=1, seed=experiment.seed, threads=1, prefetch=1)
    one = next(
        iter(
            training_batches(
                source,
                experiment.geometry,
                None,
                experiment.train_gt,
                experiment.task.pixels.channel_order,
                loader,
            )
        )
    )
    # The largest one: a run that fits at first and fails at its first tall image is the worst
    # answer.
    canvas = training_canvases(source, experiment.geometry)[-1]
    one = one.replace(images=np.zeros((1, *canvas, one.images.shape[-1]), np.uint8))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape[1:]), leaf.dtype), one)
