"""Trains a detector from a config: steps from stop to stop (see `stop`) and leaves a model behind."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from rcnn_jax.checkpoints import fingerprint
from rcnn_jax.checkpoints.state import versions
from rcnn_jax.data.pipeline import training_batches, training_canvases
from rcnn_jax.models.variables import parameter_order
from rcnn_jax.reporter import Reporter
from rcnn_jax.settings import LoaderSettings
from rcnn_jax.structures import Batch, TrainState
from rcnn_jax.tasks.experiment import Kind
from rcnn_jax.train import parallel, tables
from rcnn_jax.train.ahead import compiled_ahead
from rcnn_jax.train.interrupt import sigterm_noted
from rcnn_jax.train.logging import MetricLogger
from rcnn_jax.train.run import Run, open_run
from rcnn_jax.train.run_state import RunState
from rcnn_jax.train.start import begin
from rcnn_jax.train.step import init_state, make_step
from rcnn_jax.train.stop import close_stop, has_stopped_early, save, validation_at
from rcnn_jax.train.validation import Drawer
from rcnn_jax.train.watch import LossWatch
from rcnn_jax.train.workdir import write_config

WORDS = {"faster_rcnn": tables.FASTER_RCNN, "mask_rcnn": tables.MASK_RCNN}


def train(
    config: ConfigDict,
    kind: Kind,
    workdir: Path,
    *,
    key: str | None,
    session: Reporter,
    fresh: bool = False,
    use_amp: bool = False,
    devices: int | None = None,
    draw: Drawer | None = None,
) -> None:
    """Trains until the end of the run, an early stop, or SIGTERM.

    A workdir that holds checkpoints is resumed; its config must agree in everything that touches
    weights or the order of data.

    Args:
      config: validated config of the detector.
      kind: which detector.
      workdir: folder of all outputs.
      key: seals the bundles; None leaves them open.
      session: console and status file.
      fresh: throw away the checkpoints of the workdir and start anew.
      use_amp: compute in bfloat16.
      devices: number of local devices; None for all.
      draw: draws detections on validation images for TensorBoard, where the config asks for them.

    Raises:
      RcnnError: anything the user can mend, see the tree in `errors`.
    """
    run = open_run(config, kind, workdir, key, session, use_amp, devices, draw)
    workdir.mkdir(parents=True, exist_ok=True)
    if fresh:
        run.store.clear()
    state, memory = _start(run)
    if memory.finished:
        session.note(
            f"the run in {workdir} is finished ({memory.step} steps): nothing to do. "
            "Raise the number of epochs to go on, or add --fresh to start anew"
        )
        return
    write_config(config, kind, workdir)
    _say_parameters(run)
    _run(run, state, memory)


def _start(run: Run) -> tuple[TrainState, RunState]:
    """Returns where to go on: the workdir's checkpoint, a bundle the config names, or step 0."""
    experiment = run.experiment
    stored = run.store.latest_run_state()
    if stored is not None:  # before any array is read: a list of settings says more than shapes
        fingerprint.check_resume(stored["fingerprint"], run.fingerprint, run.workdir)
    variables = experiment.task.init(jax.random.key(experiment.seed))
    template = init_state(
        experiment.task, variables, experiment.optimizer, run.schedule, experiment.seed
    )
    restored = run.store.restore(template)
    if restored is None:
        return begin(experiment, template, key=run.key, session=run.session)
    state, saved = restored
    memory = RunState.from_json(saved["run"])
    if memory.step < run.timetable.total_steps and not has_stopped_early(run, memory):
        memory = dataclasses.replace(memory, finished=False)
    if not memory.finished:
        run.session.note(f"resuming {run.workdir} after step {memory.step}")
        if saved["versions"] != versions():
            run.session.warn(
                "this run was started with other versions of JAX, NumPy or Python: it goes on, but "
                "its weights will not be bit for bit those of a run without a break"
            )
    return state, memory


def _say_parameters(run: Run) -> None:
    task = run.experiment.task
    parameters = [
        (name, shape, not task.is_frozen(name.split("/")[0]))
        for name, shape in parameter_order(task.model, task.pixels.channels)
    ]
    if run.experiment.kind == "mask_rcnn":
        for row in tables.trainable_variables(parameters):
            run.session.console.print(row, markup=False)
    run.session.console.print(tables.parameter_table(parameters))
    run.session.console.print(
        f"{len(run.source)} training images, {run.global_batch} per step, "
        f"{run.timetable.steps_per_epoch} steps per epoch, {run.timetable.num_epochs} epochs, "
        f"{len(run.devices)} {run.devices[0].platform} device(s)",
        markup=False,
    )


def _run(run: Run, state: TrainState, memory: RunState) -> None:
    experiment, timetable = run.experiment, run.timetable
    step_function = make_step(
        experiment.task,
        experiment.optimizer,
        run.schedule,
        steps_per_epoch=timetable.steps_per_epoch,
        axis_name=parallel.AXIS,
    )
    mapped = parallel.map_step(step_function, run.devices)
    replicas = parallel.replicate(state, run.devices)
    watch = LossWatch(run.source.name)
    with (
        contextlib.ExitStack() as stack,
        sigterm_noted() as signals,
        MetricLogger(
            run.workdir,
            words=WORDS[experiment.kind],
            steps_per_epoch=timetable.steps_per_epoch,
            total_steps=timetable.total_steps,
            start_step=memory.step,
            stop_is_due=memory.due,
            images_per_step=run.global_batch,
            every_steps=experiment.run.log_steps,
            tensorboard=experiment.run.tensorboard,
            console=run.session.console,
            status=run.session.status,
        ) as logger,
    ):
        if memory.due:
            memory = close_stop(run, state, memory, logger)
        if memory.finished:
            return
        batches = _batches(run, memory.step)
        _log_images(run, logger, memory.step)
        first = next(batches)
        canvases = training_canvases(run.source, experiment.geometry)
        stack.enter_context(compiled_ahead(mapped, replicas, first[1], canvases))
        batches = itertools.chain([first], batches)
        del first  # an image batch is not kept on the device longer than the others
        while not memory.finished:
            stop = timetable.next_stop(memory.step)
            for step in range(memory.step + 1, stop + 1):
                host, on_device = next(batches)
                replicas, metrics = mapped(replicas, on_device)
                metrics = parallel.on_first_device(metrics)
                watch.add(step, host.image_id, metrics)
                logger.step(step, metrics)
                if step % experiment.run.log_steps == 0:
                    watch.read_older()
                if signals.terminated:
                    break
            watch.read()
            logger.flush()
            memory = dataclasses.replace(memory, step=step, due=step == stop)
            state = parallel.first_replica(replicas)  # fetched once for all that is due
            leaves = signals.terminated  # read once: a signal between two looks must lose nothing
            if leaves or validation_at(run, step) is not None:
                save(run, state, memory)
            if not leaves:
                memory = close_stop(run, state, memory, logger)
            if signals.terminated and not memory.finished:
                run.session.warn(
                    f"SIGTERM: saved after step {memory.step}; the same command goes on from there"
                )
                return


def _batches(run: Run, start: int) -> Iterator[tuple[Batch, Batch]]:
    experiment = run.experiment
    loader = LoaderSettings(
        global_batch=run.global_batch,
        seed=experiment.seed,
        threads=experiment.threads,
        prefetch=experiment.prefetch,
    )
    batches = training_batches(
        run.source,
        experiment.geometry,
        experiment.augment,
        experiment.train_gt,
        experiment.task.pixels.channel_order,
        loader,
        start=start,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    return parallel.shards_ahead(iter(batches), run.devices)


def _log_images(run: Run, logger: MetricLogger, start: int) -> None:
    count = run.experiment.run.images_in_tensorboard
    if count and start == 0:
        host, _ = next(_batches(run, 0))
        images = np.asarray(host.images[:count])
        if run.experiment.task.pixels.channel_order == "bgr":
            images = images[..., ::-1]
        logger.images(0, "augmented_images", images)
