"""Training as a function: from an experiment and a folder to model files and a result."""

import contextlib
import dataclasses
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rcnn_jax.checkpoints.atomic import FULL
from rcnn_jax.checkpoints.data_file import write_data
from rcnn_jax.checkpoints.names import BEST
from rcnn_jax.compress.qat import is_calibrated
from rcnn_jax.errors import CheckpointError
from rcnn_jax.hosts.team import team
from rcnn_jax.interrupt import Stopped
from rcnn_jax.models.variables import parameter_order
from rcnn_jax.reporter import SILENT, Reporter
from rcnn_jax.structures import TrainState
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.families import family
from rcnn_jax.train import tables
from rcnn_jax.train.lock import held
from rcnn_jax.train.loop import train_until
from rcnn_jax.train.milestones import ensure_best
from rcnn_jax.train.quantisation import calibrate, quantised_run
from rcnn_jax.train.resume import resume_or_begin
from rcnn_jax.train.run import Run, TrainOptions, open_run, planned
from rcnn_jax.train.run_folder import METRICS_FILE, write_spec
from rcnn_jax.train.run_state import RunState
from rcnn_jax.train.writers import last_validation


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The outcome of a run.

    Attributes:
      finished: the run is over, by its length or by early stopping.
      stopped_early: it is over before its length, because loss or metric got no better.
      step: steps taken, those of earlier calls included.
      best_step: step of the best validation, which `best.tlt` is of; None without validation.
      best_metric: its main metric.
      models: the model files of the run, `best.tlt` last.
      metrics: of the last validation, {name: value}; empty without validation.
    """

    finished: bool
    stopped_early: bool
    step: int
    best_step: int | None
    best_metric: float | None
    models: tuple[Path, ...]
    metrics: dict[str, float]

    @property
    def best(self) -> Path:
        """The model of the best validation, or of the last step where there was none.

        Raises:
          CheckpointError: the run is not finished and no validation has written one yet.
        """
        if not self.models or self.models[-1].name != BEST:
            raise CheckpointError(f"no {BEST} yet after {self.step} steps: the run is not finished")
        return self.models[-1]


def train(
    experiment: Experiment,
    workdir: Path,
    options: TrainOptions = TrainOptions(),  # noqa: B008  (frozen)
    reporter: Reporter = SILENT,
) -> RunResult:
    """Trains until the end of the run or an early stop.

    A workdir that holds checkpoints of the run is resumed; its settings must agree in everything that
    touches weights or the order of data, and the training images and their objects must be the same. A
    signal ends the run after the step at hand, which is saved.

    Args:
      experiment: what is trained, from `tasks.build.build_experiment`.
      workdir: folder of all outputs; a further run in a folder has one of its own in it.
      options: how to train.
      reporter: console and status file; silent by default.

    Raises:
      RcnnError: anything the user can mend, see the tree in `errors`.
      Stopped: a signal or a closed pipe ended the run; it says from which step it goes on.
    """
    if options.minutes is not None and options.deadline is None:
        deadline = time.monotonic() + options.minutes * 60
        options = dataclasses.replace(options, deadline=deadline)
    with contextlib.ExitStack() as stack:
        # Before `open_run`: the store cleans up after killed runs when it is opened, and in a
        # folder that somebody else trains in it would delete the checkpoint that is being written.
        if options.lock is None and team().is_chief:
            workdir.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(held(workdir, "train", reporter.note))
            options = dataclasses.replace(options, lock=lock)
        run = open_run(experiment, workdir, options, reporter)
        try:
            progress = _train(run)
        except (Stopped, BrokenPipeError) as error:
            # Who reads a pipe and goes away ends the run as a signal does: Python ignores SIGPIPE.
            stop = error if isinstance(error, Stopped) else Stopped(signal.SIGPIPE)
            stop.advice = _how_to_go_on(run)
            raise stop from error.__cause__
        return RunResult(
            finished=progress.finished,
            stopped_early=progress.stopped_early,
            step=progress.step,
            best_step=progress.best_step,
            best_metric=progress.best_metric,
            models=tuple(run.files.all_models()),
            metrics=last_validation(run.workdir / METRICS_FILE),
        )


def _train(run: Run) -> RunState:
    files, reporter, together = run.files, run.reporter, team()
    together.agree("where the run lies", [files.name, str(files.folder)])
    together.agree("the training data", run.data.summary())
    if together.is_chief:
        run.workdir.mkdir(parents=True, exist_ok=True)
        # Under the lock, so that no later training starts beside the files that are looked at; those
        # of living processes stay, since evaluation may write here at the same time.
        for path in files.sweep():
            reporter.note(f"{path}: left half written by a process that is gone; deleted")
    if files.folder != files.root:
        reporter.note(
            f"{files.root} holds another run: the models of this one, {files.name}, are written there "
            f"too, everything else to {files.folder}"
        )
    state, progress = resume_or_begin(run)
    run = planned(run, progress.plan)
    if is_calibrated(state.collections):
        run = quantised_run(run)
    if progress.finished:
        reporter.note(
            f"the run {files.name} in {files.root} is finished ({progress.step} steps): nothing to do. "
            "Raise the number of epochs to go on, or add --fresh to start this run anew"
        )
        # It may be missing: deleted since, or the run began at a model that has all its steps already.
        ensure_best(run, state, progress)
        return progress
    # After `resume_or_begin`: a resume that is refused must leave the data list of the old run, by
    # which the next attempt says what has changed.
    if together.is_chief:
        write_spec(run.workdir, run.experiment.kind, run.experiment.spec)
        write_data(run.workdir, run.data)
    _print_parameters(run)
    with _full_disk_reported(run, state):
        if run.quant.sites and not is_calibrated(state.collections):
            begins = run.milestones.quantised_from
            if progress.step < begins or progress.pending:
                state, progress = train_until(run, state, progress, begins)
            run, state, progress = calibrate(run, state, progress)
        return train_until(run, state, progress)[1]


def _how_to_go_on(run: Run) -> str:
    """Returns how a run that was ended goes on; one that began anew must not do so again."""
    steps = run.store.all_steps()
    if not steps:
        return "no step was saved yet, the same command starts again"
    without = " without --fresh" if run.options.fresh else ""
    stored = run.store.latest_run_state()
    plan = None if stored is None else RunState.from_json(stored["run"]).plan
    return (
        f"step {steps[-1]} of {planned(run, plan).milestones.total_steps} is saved, the same "
        f"command{without} goes on from there"
    )


@contextlib.contextmanager
def _full_disk_reported(run: Run, state: TrainState) -> Iterator[None]:
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
            f"much. Free some space; {_how_to_go_on(run)}"
        ) from error


def _print_parameters(run: Run) -> None:
    """Prints the tables of parameters and the size of the run."""
    task, console = run.experiment.task, run.reporter.console
    parameters = [
        (name, shape, not task.is_frozen(name.split("/")[0]))
        for name, shape in parameter_order(task.model, task.pixels.channels)
    ]
    if family(run.experiment.kind).log.lists_variables:
        for row in tables.trainable_variables(parameters):
            console.print(row, markup=False)
    console.print(tables.parameter_table(parameters))
    console.print(
        f"{len(run.source)} training images, {run.global_batch} per step, "
        f"{run.milestones.steps_per_epoch} steps per epoch, {run.milestones.num_epochs} epochs, "
        f"{_devices(run)}",
        markup=False,
    )
    first = max(int(run.milestones.total_steps * 0.5), 1)
    rate = float(run.schedule(np.int32(first)))
    scaled = f", that of the spec times {run.rate_scale}" if run.rate_scale > 1 else ""
    console.print(
        f"effective batch {run.global_batch} images; learning rate in the middle of the run {rate:.4g}"
        f"{scaled}: {rate / run.global_batch:.4g} per image",
        markup=False,
    )
    note = _alone_statistics(run)
    if note:
        run.reporter.note(note)


def _devices(run: Run) -> str:
    each, kind = len(run.devices.local), run.devices.local[0].platform
    processes = team().count
    many = f" in each of {processes} processes" if processes > 1 else ""
    return f"{each} {kind} device(s){many}, {run.devices.body}"


def _alone_statistics(run: Run) -> str:
    """Returns a sentence where trained batch norm sees less than a step's images; else nothing."""
    model: Any = run.experiment.task.model
    parts = run.experiment.run.accumulate_steps
    if model.options.freeze_bn:
        return ""
    if parts > 1:
        return (
            f"batch norm is trained on each of the {parts} parts of a step (accumulate_steps), not on "
            "all of its images at once"
        )
    if run.devices.count == 1 or model.bn_axis_name is not None:
        return ""
    return (
        f"batch norm is trained on the {run.experiment.batch_per_device} images of each device alone "
        "(sync_bn: False): results depend on how many devices share a batch"
    )
