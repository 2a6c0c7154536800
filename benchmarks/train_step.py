"""The training step of rcnn_jax, ready to be measured: state, mapped step, and a side that runs it."""

from typing import Any

import jax
import numpy as np

from benchmarks.detectors import Subject
from benchmarks.jax_side import compiled, device_peak, temp_bytes
from benchmarks.measure import Side
from rcnn_jax.structures import Batch, TrainState
from rcnn_jax.train import parallel
from rcnn_jax.train.schedules import make_schedule
from rcnn_jax.train.step import init_state, make_step

TOTAL_STEPS = 1000  # of the schedule; nothing is trained for so long


def _schedule(subject: Subject) -> Any:
    return make_schedule(subject.experiment.schedule, TOTAL_STEPS)


def fresh_state(subject: Subject) -> TrainState:
    """Returns a state on the host, so that every side begins with an empty device."""
    experiment = subject.experiment
    variables = experiment.task.init(jax.random.key(0))
    state = init_state(experiment.task, variables, experiment.optimizer, _schedule(subject), 0)
    # On the host: the first side's arrays would otherwise count in the device's peak of all others.
    return jax.tree.map(np.asarray, state)


def mapped_step(subject: Subject, devices: parallel.Devices | None = None) -> Any:
    """Returns the step as the training loop maps it, on the first device or on those given."""
    experiment = subject.experiment
    step = make_step(
        experiment.task,
        experiment.optimizer,
        _schedule(subject),
        steps_per_epoch=TOTAL_STEPS,
        axis_name=parallel.AXIS,
    )
    return parallel.map_step(step, devices or parallel.choose_devices(1))


def on_device(state: TrainState, batch: Batch) -> tuple[TrainState, Batch]:
    """Returns both as `mapped_step` takes them."""
    devices = parallel.choose_devices(1)
    return parallel.replicate(state, devices), parallel.shard(batch, devices)


def stepping(subject: Subject, state: TrainState, batch: Batch) -> Side:
    """Returns the side that takes one step after the other on a batch."""
    replicas, batch = on_device(state, batch)
    executable, seconds = compiled(mapped_step(subject), replicas, batch)

    def run() -> Any:
        # The state is donated: the old one is gone after the call, and each call takes the last
        # result.
        nonlocal replicas
        replicas, metrics = executable(replicas, batch)
        return replicas, metrics

    return Side(
        run=run,
        wait=jax.block_until_ready,
        compile_seconds=seconds,
        temp_bytes=temp_bytes(executable),
        device_peak=device_peak,
    )
