"""Trains a detector from a config: steps from stop to stop (see `stop`) and leaves a model behind."""

import contextlib
import dataclasses
import itertools
import signal
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from rcnn_jax.checkpoints import fingerprint
from rcnn_jax.checkpoints.atomic import FULL
from rcnn_jax.checkpoints.data_file import write_data
from rcnn_jax.checkpoints.state import versions
from rcnn_jax.data.loader.pipeline import training_batches, training_canvases
from rcnn_jax.errors import CheckpointError, RcnnError, TrainingError
from rcnn_jax.interrupt import Stopped, interrupts
from rcnn_jax.kinds import Kind
from rcnn_jax.models.variables import parameter_order
from rcnn_jax.reporter import Reporter
from rcnn_jax.settings.data import LoaderSettings
from rcnn_jax.structures import Batch, TrainState
from rcnn_jax.train import parallel, tables
from rcnn_jax.train.ahead import compiled_ahead
from rcnn_jax.train.lock import WorkdirLock
from rcnn_jax.train.logging import MetricLogger
from rcnn_jax.train.run import Run, open_run
from rcnn_jax.train.run_state import RunState
from rcnn_jax.train.start import begin, check_data, keep_sealed, say_passed_over
from rcnn_jax.train.step import init_state, make_step
from rcnn_jax.train.stop import (
    close_stop,
    has_stopped_early,
    leave_best,
    newest_model,
    save,
    validation_at,
)
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
    accept_data_changes: bool = False,
    use_amp: bool = False,
    devices: int | None = None,
    draw: Drawer | None = None,
    lock: WorkdirLock | None = None,
) -> list[Path]:
    """Trains until the end of the run or an early stop.

    A workdir that holds checkpoints of the run is resumed; its config must agree in everything that
    touches weights or the order of data, and the training images and their objects must be the same. A
    signal ends the run after the step at hand, which is saved.

    Args:
      config: validated config of the detector.
      kind: which detector.
      workdir: folder of all outputs; a further run in a folder has one of its own in it.
      key: seals the bundles; None leaves them open.
      session: console and status file.
      fresh: throw away what the run has left in the workdir and start anew.
      accept_data_changes: resume although training images or their objects have changed.
      use_amp: compute in bfloat16.
      devices: number of local devices; None for all.
      draw: draws detections on validation images for TensorBoard, where the config asks for them.
      lock: of the workdir; the run ends when somebody else takes it over.

    Returns:
      The model files of the run.

    Raises:
      RcnnError: anything the user can mend, see the tree in `errors`.
      Stopped: a signal or a closed pipe ended the run; it says from which step it goes on.
    """
    run = open_run(config, kind, workdir, key, session, use_amp, devices, draw, lock)
    try:
        _train(run, fresh, accept_data_changes)
    except (Stopped, BrokenPipeError) as error:
        stop = error if isinstance(error, Stopped) else Stopped(signal.SIGPIPE)
        stop.advice = _how_to_go_on(run, fresh)
        raise stop from error.__cause__
    return run.files.all_models()


def _train(run: Run, fresh: bool, accept_data_changes: bool) -> None:
    files, session = run.files, run.session
    run.workdir.mkdir(parents=True, exist_ok=True)
    for path in files.sweep():
        session.note(f"{path}: left half written by a process that is gone; deleted")
    if files.folder != files.root:
        session.note(
            f"{files.root} holds another run: the models of this one, {files.name}, are written there "
            f"too, everything else to {files.folder}"
        )
    state, memory = _start(run, fresh, accept_data_changes)
    if memory.finished:
        session.note(
            f"the run {files.name} in {files.root} is finished ({memory.step} steps): nothing to do. "
            "Raise the number of epochs to go on, or add --fresh to start this run anew"
        )
        leave_best(run, state, memory)
        return
    write_config(run.config, run.experiment.kind, run.workdir)
    write_data(run.workdir, run.data)
    _say_parameters(run)
    with _full_disk_told(run, state):
        _run(run, state, memory)


def _how_to_go_on(run: Run, fresh: bool) -> str:
    steps = run.store.all_steps()
    if not steps:
        return "no step was saved yet, the same command starts again"
    without = " without --fresh" if fresh else ""
    return (
        f"step {steps[-1]} of {run.timetable.total_steps} is saved, the same command{without} goes on "
        "from there"
    )


@contextlib.contextmanager
def _full_disk_told(run: Run, state: TrainState) -> Iterator[None]:
    """Turns a disk that is full into one message with the space that the run needs.

    Raises:
      CheckpointError: the disk is full.
    """
    needed = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(state))
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise CheckpointError(
            f"{error.filename or run.workdir}: {error.strerror}. A checkpoint of this run takes "
            f"{needed:,} bytes, {run.store.keep + 1} of them are kept, and each model file about as "
            f"much. Free some space; {_how_to_go_on(run, fresh=False)}"
        ) from error


def _start(run: Run, fresh: bool, accept_data_changes: bool) -> tuple[TrainState, RunState]:
    """Returns where to go on: the workdir's checkpoint, a bundle the config names, or step 0."""
    experiment = run.experiment
    stored = None if fresh else run.store.latest_run_state()
    if stored is not None:  # before any array is read: a list of settings says more than shapes
        fingerprint.check_resume(stored["fingerprint"], run.fingerprint, run.workdir)
        check_data(stored, run.data, run.workdir, accept_data_changes, run.session)
        keep_sealed(run.store, newest_model(run), run.session)
    variables = experiment.task.init(jax.random.key(experiment.seed))
    template = init_state(
        experiment.task, variables, experiment.optimizer, run.schedule, experiment.seed
    )
    restored = None if fresh else run.store.restore(template)
    if restored is None:
        state, memory = begin(experiment, template, key=run.key, session=run.session)
        if fresh:  # not before the weights to start from are read: they may lie among these files
            _clear(run, memory)
        if memory.step >= run.timetable.total_steps:
            memory = dataclasses.replace(memory, finished=True)
        return state, memory
    state, saved = restored
    memory = RunState.from_json(saved["run"])
    say_passed_over(experiment, memory, key=run.key, session=run.session)
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


def _clear(run: Run, memory: RunState) -> None:
    """Deletes what the run has left, but for what comes before the step it goes back to."""
    start = run.experiment.start
    named = (start.resume_from, start.pruned, start.pretrained)
    stored = None
    with contextlib.suppress(CheckpointError):  # sealed with another key, for example
        stored = run.store.latest_run_state()
    run.store.clear()
    run.files.clear(
        memory.step,
        memory.step // run.timetable.steps_per_epoch,
        {Path(name) for name in named if name},
        same_run=stored is not None and stored["run"]["run_id"] == memory.run_id,
    )


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
        interrupts() as signals,
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
            memory = close_stop(run, state, memory, logger, signals)
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
            done, stop = memory.step, timetable.next_stop(memory.step)
            try:
                while done < stop and signals.noted is None:
                    host, on_device = next(batches)
                    replicas, metrics = mapped(replicas, on_device)
                    done += 1
                    signals.postponed = True  # from here on there is something to save
                    metrics = parallel.on_first_device(metrics)
                    watch.add(done, host.image_id, metrics)
                    logger.step(done, metrics)
                    if done % experiment.run.log_steps == 0:
                        watch.read_older()
                watch.read()
                logger.flush()
            except Exception as error:
                if done > memory.step and not isinstance(error, TrainingError):
                    memory = dataclasses.replace(memory, step=done, due=done == stop)
                    _rescue(run, replicas, memory, watch, logger)
                if not isinstance(error, RcnnError):
                    signals.look()  # a terminal that hangs up refuses what is printed, too
                raise
            memory = dataclasses.replace(memory, step=done, due=done == stop)
            state = parallel.first_replica(replicas)  # fetched once for all that is due
            saved = not memory.due or validation_at(run, state, memory) is not None
            if saved:
                save(run, state, memory)
            if not memory.due:
                signals.look()
            try:
                memory = close_stop(run, state, memory, logger, signals)
            except Exception:
                if not saved:
                    with contextlib.suppress(Exception):
                        save(run, state, memory)
                raise
            signals.postponed = False
            if not memory.finished:
                signals.look()


def _rescue(
    run: Run, replicas: TrainState, memory: RunState, watch: LossWatch, logger: MetricLogger
) -> None:
    """Saves the steps that were taken before an error, where the error leaves something to save.

    A failed step may have given up its state, a full disk takes no checkpoint: what ended the run is
    what the user hears of, in any case.
    """
    with contextlib.suppress(Exception):
        watch.read()  # a state that is not finite is not saved
        with contextlib.suppress(BrokenPipeError):
            logger.flush()
        save(run, parallel.first_replica(replicas), memory)
        run.session.warn(
            f"stopped by an error after step {memory.step}, which is saved: once its cause is mended, "
            "the same command goes on from there"
        )


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
