"""What is due at a stop: the end of an epoch, a validation, a bundle, the end of the run.

Order at a stop: store the steps where a validation will take its time, validate, write bundles, write
the checkpoint. A kill between any two of these repeats the work since the last checkpoint and writes
the same bytes again.
"""

import dataclasses
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict

from rcnn_jax.checkpoints.bundle import write_bundle
from rcnn_jax.checkpoints.state import training_bundle, variables_of, versions
from rcnn_jax.interrupt import Interrupts
from rcnn_jax.structures import TrainState
from rcnn_jax.train.logging import MetricLogger
from rcnn_jax.train.run import Run
from rcnn_jax.train.run_state import RunState
from rcnn_jax.train.validation import Validation


def has_stopped_early(run: Run, memory: RunState) -> bool:
    """Tells whether the loss has not improved for as many epochs as the config allows."""
    patience = run.experiment.run.patience
    return bool(patience) and memory.epochs_without_gain >= patience


def save(run: Run, state: TrainState, memory: RunState) -> None:
    """Writes the checkpoint of `memory.step`, in place of an earlier one of this step."""
    if run.lock is not None:
        run.lock.check()
    saved = {
        "run": memory.to_json(),
        "fingerprint": run.fingerprint,
        "data": run.data.summary(),
        "versions": versions(),
    }
    run.store.save(memory.step, state, saved, is_best=memory.best_step == memory.step)


def validation_at(run: Run, state: TrainState, memory: RunState) -> Validation | None:
    """Returns what scores the weights at the stop after `memory.step`; None where nothing does.

    The end of a run is scored, whether it was planned or comes early.
    """
    due = run.timetable.evaluates(memory.step)
    return run.validate if due or has_stopped_early(run, _after_epoch(run, state, memory)) else None


def close_stop(
    run: Run, state: TrainState, memory: RunState, logger: MetricLogger, signals: Interrupts
) -> RunState:
    """Does what is due after `memory.step` steps, then writes the checkpoint.

    Args:
      run: the run.
      state: one replica on the host.
      memory: as the last step left it.
      logger: where metrics go.
      signals: may interrupt a validation, before which the steps were stored.

    Returns:
      The memory with nothing due.
    """
    experiment, timetable, step = run.experiment, run.timetable, memory.step
    kpi = None
    validate = validation_at(run, state, memory)
    if validate is not None:
        with logger.paused(), signals.at_once():
            kpi = validate(variables_of(state), step)
        logger.evaluation(step, kpi)
        shown = experiment.run.found_in_tensorboard
        if shown and run.draw is not None:
            with logger.paused(), signals.at_once():
                pictures = validate.pictures(variables_of(state), shown, run.draw)
                logger.images(step, "validation", pictures)
        memory = memory.after_evaluation(kpi[experiment.metrics.main_metric], step)
    if timetable.ends_epoch(step):
        means = _epoch_means(state)
        rate = float(run.schedule(np.int32(step - 1)))
        logger.epoch(timetable.epoch(step), step, {**means, "learning_rate": rate}, kpi)
        memory = _after_epoch(run, state, memory)
        if run.experiment.run.weight_histograms:
            params = flatten_dict(state.params)
            logger.histograms(step, {"/".join(path): leaf for path, leaf in params.items()})
    early = has_stopped_early(run, memory)
    if early:
        run.session.note(
            f"early stopping: the loss has not improved for {memory.epochs_without_gain} epochs"
        )
    finished = early or step == timetable.total_steps
    memory = dataclasses.replace(memory, finished=finished, due=False)
    if timetable.saves(step) or memory.finished:
        _write_bundle(run, state, memory, run.files.model(step, timetable.epoch(step)))
    if kpi is not None and memory.best_step == step:
        _write_bundle(run, state, memory, run.files.best)
    if memory.finished:
        leave_best(run, state, memory)
    save(run, state, memory)
    return memory


def leave_best(run: Run, state: TrainState, memory: RunState) -> None:
    """Sees to it that a run which is over leaves `best.tlt`, and says which step that is.

    Args:
      run: the run.
      state: of the last step.
      memory: of the run.
    """
    best, step, why = run.files.best, memory.best_step, "the best validation"
    if step is None:
        step, why = memory.step, "the last one: there was no validation to choose by"
    elif not best.exists():
        step, why = memory.step, f"the last one: the model of step {step}, the best, is gone"
    if step == memory.step and (step != memory.best_step or not best.exists()):
        _write_bundle(run, state, memory, best)
    run.session.console.print(f"{best}: step {step}, {why}", markup=False)


def _after_epoch(run: Run, state: TrainState, memory: RunState) -> RunState:
    """Returns the memory after the epoch that ends with this step; the same where none does."""
    if not run.timetable.ends_epoch(memory.step):
        return memory
    return memory.after_epoch(_epoch_means(state)["loss"], run.experiment.run.min_delta)


def _epoch_means(state: TrainState) -> dict[str, float]:
    return {name: float(total[0] / total[1]) for name, total in state.epoch_sums.items()}


def newest_model(run: Run) -> Path | None:
    """Returns the last model file that the run wrote, or None."""
    models = list(run.files.models())
    return max(models, key=lambda model: model[1].count)[0] if models else None


def _write_bundle(run: Run, state: TrainState, memory: RunState, path: Path) -> None:
    if run.lock is not None:
        run.lock.check()
    bundle = training_bundle(run.experiment, run.config, state, memory.to_json())
    write_bundle(path, bundle, run.key)
