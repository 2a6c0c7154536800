"""Duties of a milestone: the end of an epoch, a validation, a model file, the end of the run.

    state, progress --- DUTIES, one after the other ---> progress with nothing pending

The order keeps a kill harmless. Everything that a duty writes follows from the state and the progress
before the milestone, both of which an earlier checkpoint holds or repeats; the checkpoint that says that
the milestone is over is written last. A kill between any two duties repeats the work since the last
checkpoint and writes the same bytes again.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from rcnn_jax.checkpoints.bundle import write_bundle
from rcnn_jax.checkpoints.state import training_bundle, variables_of, versions
from rcnn_jax.hosts.team import team
from rcnn_jax.interrupt import Interrupts
from rcnn_jax.structures import TrainState
from rcnn_jax.train.metrics_page import write_metrics_page
from rcnn_jax.train.run import Run
from rcnn_jax.train.run_state import RunState
from rcnn_jax.train.sink import MetricSink
from rcnn_jax.train.step import at_tempo
from rcnn_jax.train.validation import Validation


@dataclass(frozen=True, kw_only=True)
class Milestone:
    """Input of the duties of one milestone.

    Attributes:
      run: the run.
      state: one replica on the host.
      sink: where metrics go.
      signals: may interrupt a validation.
    """

    run: Run
    state: TrainState
    sink: MetricSink
    signals: Interrupts

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """While inside, a signal ends the run at once; of several processes, at the next batch."""
        together = team()
        with self.sink.paused():
            if together.is_many:  # the place is agreed on, see `hosts.monitor`
                self.signals.look()
                yield
                return
            with self.signals.at_once():
                yield


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Result of the duties so far.

    Attributes:
      progress: of the run.
      metrics: of the validation at this milestone; None where there is none.
    """

    progress: RunState
    metrics: Mapping[str, float] | None = None


Duty = Callable[[Milestone, Outcome], Outcome]


def run_milestone(milestone: Milestone, progress: RunState) -> RunState:
    """Runs the duties of the milestone after `progress.step` steps; the last one writes the checkpoint.

    Args:
      milestone: input of the duties.
      progress: as the last step left it.

    Returns:
      The progress with nothing pending.
    """
    outcome = Outcome(progress=progress)
    team().rest(f"what is due after step {progress.step}")
    for duty in DUTIES:
        outcome = duty(milestone, outcome)
    return outcome.progress


def validate(milestone: Milestone, outcome: Outcome) -> Outcome:
    """Scores the weights, where a validation is due."""
    run, progress = milestone.run, outcome.progress
    validation = validation_at(run, milestone.state, progress)
    if validation is None:
        return outcome
    # A validation may take as long as an epoch. The steps are saved (`loop`): a signal ends it at once.
    with milestone.interruptible():
        metrics = validation(variables_of(milestone.state), progress.step)
    milestone.sink.evaluation(progress.step, metrics)
    main = metrics[run.experiment.metrics.main_metric]
    settings = run.experiment.run
    least = settings.min_delta if settings.monitor == "map" else 0.0
    return Outcome(progress=progress.after_evaluation(main, progress.step, least), metrics=metrics)


def show_detections(milestone: Milestone, outcome: Outcome) -> Outcome:
    """Draws detections on validation images for TensorBoard, after a validation."""
    run, step = milestone.run, outcome.progress.step
    count, draw = run.experiment.run.detections_in_tensorboard, run.options.draw
    if not team().is_chief:
        return outcome
    if outcome.metrics is not None and run.validate is not None and count and draw is not None:
        # Pictures are made here, while a writer takes them one by one, and are part of no
        # checkpoint: a signal may end this as it may end the validation.
        with milestone.interruptible():
            pictures = run.validate.pictures(variables_of(milestone.state), count, draw)
            milestone.sink.images(step, "validation", pictures)
    return outcome


def close_epoch(milestone: Milestone, outcome: Outcome) -> Outcome:
    """Logs the means of the epoch and counts epochs without gain, where an epoch ends."""
    run, state, step = milestone.run, milestone.state, outcome.progress.step
    if not run.milestones.ends_epoch(step):
        return outcome
    # Of the last step that was taken.
    schedule: Any = at_tempo(run.schedule, state.tempo)  # it takes numbers of the host too
    rate = float(schedule(np.int32(step - 1)))
    # The means come from sums in the state and not from logged steps: a run that was resumed within
    # the epoch writes the same line, and no step is left out.
    means = {**_epoch_means(state), "learning_rate": rate}
    milestone.sink.epoch(step, means, outcome.metrics)
    if run.experiment.run.weight_histograms:
        params = flatten_dict(state.params)
        milestone.sink.histograms(step, {"/".join(path): leaf for path, leaf in params.items()})
    return dataclasses.replace(outcome, progress=_after_epoch(run, state, outcome.progress))


def decide_end(milestone: Milestone, outcome: Outcome) -> Outcome:
    """Decides whether the run is over; from here on nothing is pending.

    This comes before the first file is written, because model files hold the progress: a model of the
    last step must say that its run is finished.
    """
    run, progress = milestone.run, outcome.progress
    early = has_stopped_early(run, progress)
    if early:
        run.reporter.note(_why_early(run, progress))
    at_end = progress.step == run.milestones.total_steps
    progress = dataclasses.replace(
        progress, finished=early or at_end, stopped_early=early and not at_end, pending=False
    )
    return dataclasses.replace(outcome, progress=progress)


def write_model(milestone: Milestone, outcome: Outcome) -> Outcome:
    """Writes the model file of this step, where one is due and at the end of the run."""
    run, progress = milestone.run, outcome.progress
    if run.milestones.saves(progress.step) or progress.finished:
        epoch = run.milestones.epoch(progress.step)
        _write_bundle(run, milestone.state, progress, run.files.model(progress.step, epoch))
    return outcome


def write_best_model(milestone: Milestone, outcome: Outcome) -> Outcome:
    """Writes best.tlt after a validation that was the best so far."""
    progress = outcome.progress
    if outcome.metrics is not None and progress.best_step == progress.step:
        run = milestone.run
        _write_bundle(run, milestone.state, progress, run.files.best)
    return outcome


def leave_best_model(milestone: Milestone, outcome: Outcome) -> Outcome:
    """Makes sure that a run which is over leaves a best.tlt."""
    if outcome.progress.finished:
        ensure_best(milestone.run, milestone.state, outcome.progress)
    return outcome


def show_curves(milestone: Milestone, outcome: Outcome) -> Outcome:
    """Writes the page of curves, for good where the run is over."""
    run, progress = milestone.run, outcome.progress
    milestone.sink.flush()
    if team().is_chief:
        epochs = f"{run.milestones.epoch(progress.step)} of {run.milestones.num_epochs}"
        write_metrics_page(
            run.workdir,
            run.experiment.metrics.main_metric,
            f"Step {progress.step}, epoch {epochs}",
            finished=progress.finished,
        )
    return outcome


def store_checkpoint(milestone: Milestone, outcome: Outcome) -> Outcome:
    """Writes the checkpoint, which completes the milestone."""
    save(milestone.run, milestone.state, outcome.progress)
    return outcome


DUTIES: tuple[Duty, ...] = (
    # First: its metric decides the best step, which the epoch, the models and the checkpoint carry.
    validate,
    show_detections,
    close_epoch,
    # Before the first file: see the function.
    decide_end,
    write_model,
    write_best_model,
    # Models before the checkpoint: with the checkpoint the milestone is over, and nobody would come
    # back to write a file that a kill prevented.
    leave_best_model,
    show_curves,
    store_checkpoint,
)
"""In order; see the top of the file."""


def has_stopped_early(run: Run, progress: RunState) -> bool:
    """Tells whether loss or metric has not improved for as long as the config allows."""
    settings = run.experiment.run
    patience = settings.patience
    if run.quant.sites and not run.experiment.task.model.quant.sites:
        return False  # the float part of a run with fake quantisation is no end of its own
    if settings.monitor == "map":
        return bool(patience) and progress.validations_without_gain >= patience
    return bool(patience) and progress.epochs_without_gain >= patience


def _why_early(run: Run, progress: RunState) -> str:
    """Log line of a run that is stopped early."""
    if run.experiment.run.monitor == "loss":
        return (
            f"early stopping: the loss has not improved for {progress.epochs_without_gain} epochs"
        )
    name = run.experiment.metrics.main_metric
    return (
        f"early stopping: {name} has not improved for {progress.validations_without_gain} validations; "
        f"the best, {progress.best_metric:.4f}, is that of step {progress.best_step}"
    )


def validation_at(run: Run, state: TrainState, progress: RunState) -> Validation | None:
    """Returns the validation of the milestone after `progress.step`; None where none is due.

    The end of a run is scored, whether it was planned or comes early. Whether it comes early is known
    only with the epoch that ends here, which `close_epoch` counts after the validation: hence the look
    ahead.
    """
    due = run.milestones.evaluates(progress.step)
    return (
        run.validate if due or has_stopped_early(run, _after_epoch(run, state, progress)) else None
    )


def save(run: Run, state: TrainState, progress: RunState) -> None:
    """Writes the checkpoint of `progress.step`; replaces an earlier one of this step."""
    _check_lock(run)
    saved = {
        "run": progress.to_json(),
        "fingerprint": run.fingerprint,
        "data": run.data.summary(),
        "versions": versions(),
        "layout": run.layout,
    }
    # The mark keeps the best step in the store when newer steps push the others out.
    run.store.save(progress.step, state, saved, is_best=progress.best_step == progress.step)


def ensure_best(run: Run, state: TrainState, progress: RunState) -> None:
    """Writes best.tlt where a run that is over has none, and reports which step it is.

    Args:
      run: the run.
      state: of the last step.
      progress: of the run.
    """
    if not team().is_chief:
        return
    # Without a validation the file follows the last step, so a run that was lengthened writes it
    # anew. After one it is left alone where it exists, `write_best_model` has written it.
    best, step, why = run.files.best, progress.best_step, "the best validation"
    if step is None:
        step, why = progress.step, "the last one: there was no validation to choose by"
    elif not best.exists():
        step, why = progress.step, f"the last one: the model of step {step}, the best, is gone"
    if step == progress.step and (step != progress.best_step or not best.exists()):
        _write_bundle(run, state, progress, best)
    run.reporter.console.print(f"{best}: step {step}, {why}", markup=False)


def newest_model(run: Run) -> Path | None:
    """Returns the last model file that the run wrote, or None."""
    models = list(run.files.models())
    return max(models, key=lambda model: model[1].count)[0] if models else None


def _after_epoch(run: Run, state: TrainState, progress: RunState) -> RunState:
    """Returns the progress after the epoch that ends with this step; the same where none does."""
    if not run.milestones.ends_epoch(progress.step):
        return progress
    return progress.after_epoch(_epoch_means(state)["loss"], run.experiment.run.min_delta)


def _epoch_means(state: TrainState) -> dict[str, float]:
    return {name: float(total[0] / total[1]) for name, total in state.epoch_sums.items()}


def _write_bundle(run: Run, state: TrainState, progress: RunState, path: Path) -> None:
    if not team().is_chief:
        return
    _check_lock(run)
    bundle = training_bundle(run.experiment, state, progress.to_json())
    write_bundle(path, bundle, run.options.key)


def _check_lock(run: Run) -> None:
    """Stops before something is overwritten in a folder that another process has taken over."""
    if run.options.lock is not None:
        run.options.lock.check()
