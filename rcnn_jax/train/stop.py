"""What is due at a stop: the end of an epoch, a validation, a bundle, the end of the run.

Order at a stop: store the steps where a validation will take its time, validate, write bundles, write
the checkpoint. A kill between any two of these repeats the work since the last checkpoint and writes
the same bytes again.
"""

import dataclasses
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict

from rcnn_jax.checkpoints import names
from rcnn_jax.checkpoints.bundle import write_bundle
from rcnn_jax.checkpoints.state import training_bundle, variables_of, versions
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
    saved = {
        "run": memory.to_json(),
        "fingerprint": run.fingerprint,
        "data": run.data.summary(),
        "versions": versions(),
    }
    run.store.save(memory.step, state, saved, is_best=memory.best_step == memory.step)


def validation_at(run: Run, step: int) -> Validation | None:
    """Returns what scores the weights at the stop after this step; None where nothing does."""
    return run.validate if run.timetable.evaluates(step) else None


def close_stop(run: Run, state: TrainState, memory: RunState, logger: MetricLogger) -> RunState:
    """Does what is due after `memory.step` steps, then writes the checkpoint.

    Args:
      run: the run.
      state: one replica on the host.
      memory: as the last step left it.
      logger: where metrics go.

    Returns:
      The memory with nothing due.
    """
    experiment, timetable, step = run.experiment, run.timetable, memory.step
    kpi = None
    validate = validation_at(run, step)
    if validate is not None:
        with logger.paused():
            kpi = validate(variables_of(state), step)
        logger.evaluation(step, kpi)
        shown = experiment.run.found_in_tensorboard
        if shown and run.draw is not None:
            with logger.paused():
                pictures = validate.pictures(variables_of(state), shown, run.draw)
                logger.images(step, "validation", pictures)
        memory = memory.after_evaluation(kpi[experiment.metrics.main_metric], step)
    if timetable.ends_epoch(step):
        means = _epoch_means(state)
        rate = float(run.schedule(np.int32(step - 1)))
        logger.epoch(timetable.epoch(step), step, {**means, "learning_rate": rate}, kpi)
        memory = memory.after_epoch(means["loss"], run.experiment.run.min_delta)
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
        _write_bundle(run, state, memory, _bundle_path(run, step))
    if kpi is not None and memory.best_step == step:
        _write_bundle(run, state, memory, run.workdir / names.BEST)
    save(run, state, memory)
    return memory


def _epoch_means(state: TrainState) -> dict[str, float]:
    return {name: float(total[0] / total[1]) for name, total in state.epoch_sums.items()}


def _bundle_path(run: Run, step: int) -> Path:
    if run.experiment.kind == "mask_rcnn":
        return names.step_bundle(run.workdir, step)
    stem = Path(run.config.training_config.output_model or "model.tlt").name
    return names.epoch_bundle(run.workdir / stem, run.timetable.epoch(step))


def newest_model(run: Run) -> Path | None:
    """Returns the last model file that the run wrote, or None."""
    progress = names.parse(_bundle_path(run, run.timetable.total_steps))
    return names.newest_bundle(run.workdir, progress.stem) if progress else None


def _write_bundle(run: Run, state: TrainState, memory: RunState, path: Path) -> None:
    bundle = training_bundle(run.experiment, run.config, state, memory.to_json())
    write_bundle(path, bundle, run.key)
