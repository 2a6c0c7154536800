"""Trains a detector from a config: prepares, runs from stop to stop, and leaves a model behind.

A stop is the end of an epoch, a validation, a bundle or the end of the run. Order at a stop: read the
losses, validate, write bundles, write the checkpoint. A kill between any two of these repeats the work
since the last checkpoint and writes the same bytes again.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from rcnn_jax.checkpoints import fingerprint, names
from rcnn_jax.checkpoints.bundle import write_bundle
from rcnn_jax.checkpoints.state import training_bundle, variables_of, versions
from rcnn_jax.checkpoints.store import CheckpointStore
from rcnn_jax.data.batching import check_object_counts
from rcnn_jax.data.pipeline import batches_per_epoch, training_batches, training_canvases
from rcnn_jax.data.sources import Source
from rcnn_jax.models.variables import parameter_order
from rcnn_jax.reporter import Reporter
from rcnn_jax.settings import LoaderSettings
from rcnn_jax.structures import Batch, TrainState
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.tasks.experiment import Config, Experiment, Kind
from rcnn_jax.train import parallel, tables
from rcnn_jax.train.ahead import compiled_ahead
from rcnn_jax.train.interrupt import sigterm_noted
from rcnn_jax.train.logging import MetricLogger
from rcnn_jax.train.run_state import RunState
from rcnn_jax.train.schedules import make_schedule
from rcnn_jax.train.start import begin, widths_to_train
from rcnn_jax.train.step import init_state, make_step
from rcnn_jax.train.timetable import Timetable
from rcnn_jax.train.validation import Drawer, Validation
from rcnn_jax.train.watch import LossWatch
from rcnn_jax.train.workdir import write_config

WORDS = {"faster_rcnn": tables.FASTER_RCNN, "mask_rcnn": tables.MASK_RCNN}


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything of one training run that does not change from step to step.

    Attributes:
      config: the validated config.
      experiment: the same in the words of the field.
      workdir: folder of all outputs.
      key: key that seals bundles, or None.
      devices: local devices of the run.
      source: training images.
      validate: scores weights on the validation images; None without such images.
      timetable: when what is due.
      store: resumable checkpoints.
      session: console and status file.
      draw: draws detections for TensorBoard; None leaves such pictures out.
      use_amp: compute in bfloat16 on top of what the config says.
    """

    config: Config
    experiment: Experiment
    workdir: Path
    key: str | None
    devices: list[parallel.Device]
    source: Source
    validate: Validation | None
    timetable: Timetable
    store: CheckpointStore
    session: Reporter
    draw: Drawer | None
    use_amp: bool

    @property
    def global_batch(self) -> int:
        """Images per step over all devices and processes."""
        return self.experiment.batch_per_device * len(self.devices) * jax.process_count()


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
    run = _prepare(config, kind, workdir, key, session, use_amp, devices, draw)
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


def _prepare(
    config: ConfigDict,
    kind: Kind,
    workdir: Path,
    key: str | None,
    session: Reporter,
    use_amp: bool,
    devices: int | None,
    draw: Drawer | None,
) -> Run:
    chosen = parallel.choose_devices(devices)
    experiment = build_experiment(config, kind, bf16=use_amp)
    experiment = widths_to_train(experiment, key)
    # All data is opened and checked before anything is written.
    source = experiment.train_source()
    check_object_counts(source, experiment.train_gt)
    for note in (*experiment.notes, *source.notes):
        session.note(note)
    validate = _validation(experiment, workdir, session)
    global_batch = experiment.batch_per_device * len(chosen) * jax.process_count()
    steps_per_epoch = batches_per_epoch(source, global_batch)
    return Run(
        config=config,
        experiment=experiment,
        workdir=workdir,
        key=key,
        devices=chosen,
        source=source,
        validate=validate,
        timetable=Timetable.of(experiment.run, steps_per_epoch),
        store=CheckpointStore(workdir / "checkpoints", keep=experiment.run.keep_checkpoints),
        session=session,
        draw=draw,
        use_amp=use_amp,
    )


def _rate_scale(run: Run) -> int:
    devices = len(run.devices) * jax.process_count()
    return devices if run.experiment.run.lr_scaling == "devices" else 1


def _schedule(run: Run) -> Any:
    return make_schedule(run.experiment.schedule, run.timetable.total_steps, _rate_scale(run))


def _start(run: Run) -> tuple[TrainState, RunState]:
    """Returns where to go on: the workdir's checkpoint, a bundle the config names, or step 0."""
    experiment = run.experiment
    stored = run.store.latest_run_state()
    if stored is not None:  # before any array is read: a list of settings says more than shapes
        fingerprint.check_resume(stored["fingerprint"], _fingerprint(run), run.workdir)
    variables = experiment.task.init(jax.random.key(experiment.seed))
    template = init_state(
        experiment.task, variables, experiment.optimizer, _schedule(run), experiment.seed
    )
    restored = run.store.restore(template)
    if restored is None:
        return begin(experiment, template, key=run.key, session=run.session)
    state, saved = restored
    memory = RunState.from_json(saved["run"])
    if memory.step < run.timetable.total_steps and not _stopped_early(run, memory):
        memory = dataclasses.replace(memory, finished=False)
    if not memory.finished:
        run.session.note(f"resuming {run.workdir} after step {memory.step}")
        if saved["versions"] != versions():
            run.session.warn(
                "this run was started with other versions of JAX, NumPy or Python: it goes on, but "
                "its weights will not be bit for bit those of a run without a break"
            )
    return state, memory


def _stopped_early(run: Run, memory: RunState) -> bool:
    patience = run.experiment.run.patience
    return bool(patience) and memory.epochs_without_gain >= patience


def _fingerprint(run: Run) -> dict[str, Any]:
    values = fingerprint.fingerprint(run.config, run.experiment.kind)
    return {**values, "use_amp": run.use_amp, "global_batch": run.global_batch}


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
        _schedule(run),
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
            images_per_step=run.global_batch,
            every_steps=experiment.run.log_steps,
            console=run.session.console,
            status=run.session.status,
        ) as logger,
    ):
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
            memory = dataclasses.replace(memory, step=step)
            state = parallel.first_replica(replicas)  # fetched once for all that is due
            if step == stop:
                memory = _at_stop(run, state, memory, logger)
            logger.flush()
            _checkpoint(run, state, memory)
            if signals.terminated and not memory.finished:
                run.session.warn(
                    f"SIGTERM: saved after step {step}; the same command goes on from there"
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


def _at_stop(
    run: Run,
    state: TrainState,
    memory: RunState,
    logger: MetricLogger,
) -> RunState:
    """Does what is due after `memory.step` steps with the host state; returns the new memory."""
    experiment, timetable, step = run.experiment, run.timetable, memory.step
    kpi = None
    if run.validate is not None and timetable.evaluates(step):
        with logger.paused():
            kpi = run.validate(variables_of(state), step)
        logger.evaluation(step, kpi)
        shown = experiment.run.found_in_tensorboard
        if shown and run.draw is not None:
            with logger.paused():
                pictures = run.validate.pictures(variables_of(state), shown, run.draw)
                logger.images(step, "validation", pictures)
        memory = memory.after_evaluation(kpi[experiment.metrics.main_metric], step)
    if timetable.ends_epoch(step):
        means = _epoch_means(state)
        rate = float(_schedule(run)(np.int32(step - 1)))
        logger.epoch(timetable.epoch(step), step, {**means, "learning_rate": rate}, kpi)
        memory = memory.after_epoch(means["loss"], run.experiment.run.min_delta)
        if run.experiment.run.weight_histograms:
            params = flatten_dict(state.params)
            logger.histograms(step, {"/".join(path): leaf for path, leaf in params.items()})
    early = _stopped_early(run, memory)
    if early:
        run.session.note(
            f"early stopping: the loss has not improved for {memory.epochs_without_gain} epochs"
        )
    memory = dataclasses.replace(memory, finished=early or step == timetable.total_steps)
    if timetable.saves(step) or memory.finished:
        _write_bundle(run, state, memory, _bundle_path(run, step))
    if kpi is not None and memory.best_step == step:
        _write_bundle(run, state, memory, run.workdir / names.BEST)
    return memory


def _epoch_means(state: TrainState) -> dict[str, float]:
    return {name: float(total[0] / total[1]) for name, total in state.epoch_sums.items()}


def _bundle_path(run: Run, step: int) -> Path:
    if run.experiment.kind == "mask_rcnn":
        return names.step_bundle(run.workdir, step)
    stem = Path(run.config.training_config.output_model or "model.tlt").name
    return names.epoch_bundle(run.workdir / stem, run.timetable.epoch(step))


def _write_bundle(run: Run, state: TrainState, memory: RunState, path: Path) -> None:
    bundle = training_bundle(run.experiment, run.config, state, memory.to_json())
    write_bundle(path, bundle, run.key)


def _checkpoint(run: Run, state: TrainState, memory: RunState) -> None:
    saved = {
        "run": memory.to_json(),
        "fingerprint": _fingerprint(run),
        "versions": versions(),
    }
    run.store.save(
        memory.step,
        state,
        saved,
        is_best=memory.best_step == memory.step,
    )


def _validation(experiment: Experiment, workdir: Path, session: Reporter) -> Validation | None:
    if experiment.eval_source is None:
        return None
    source = experiment.eval_source()
    for note in source.notes:
        session.note(note)
    return Validation(experiment, source, workdir, session)


def _log_images(run: Run, logger: MetricLogger, start: int) -> None:
    count = run.experiment.run.images_in_tensorboard
    if count and start == 0:
        host, _ = next(_batches(run, 0))
        images = np.asarray(host.images[:count])
        if run.experiment.task.pixels.channel_order == "bgr":
            images = images[..., ::-1]
        logger.images(0, "augmented_images", images)
