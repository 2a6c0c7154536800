"""Resume: state and progress from the workdir's checkpoint, from a bundle of the spec, or of step 0.

Comparisons come before use: settings, then data, then arrays. A run with other settings is refused
with the list of them, where arrays would only show that a shape differs.
"""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rcnn_jax.checkpoints import fingerprint
from rcnn_jax.checkpoints.state import versions
from rcnn_jax.compress.qat import COLLECTION, collection
from rcnn_jax.errors import CheckpointError, UsageError
from rcnn_jax.hosts.team import team
from rcnn_jax.structures import TrainState
from rcnn_jax.train.milestones import has_stopped_early, newest_model
from rcnn_jax.train.run import Run, planned
from rcnn_jax.train.run_state import RunState
from rcnn_jax.train.start import begin, check_data, keep_encrypted, report_skipped_start
from rcnn_jax.train.step import init_state
from rcnn_jax.train.time_plan import TimePlan


def resume_or_begin(run: Run) -> tuple[TrainState, RunState]:
    """Returns the state and the progress that a run goes on from, on the host.

    Raises:
      CheckpointError: what lies in the workdir is of other settings or data, or damaged.
    """
    experiment, options, reporter = run.experiment, run.options, run.reporter
    stored = None if options.fresh else run.store.latest_run_state()
    # First of all: from here on the processes of a job do the same, or they would wait for ever.
    team().agree("the checkpoint to go on from", stored and stored["run"])
    plan = _plan(run, stored)
    run = planned(run, plan)
    if stored is not None:
        fingerprint.check_resume(stored["fingerprint"], run.fingerprint, run.workdir)
        check_data(stored, run.data, run.workdir, options.accept_data_changes, reporter)
        keep_encrypted(run.store, newest_model(run), reporter)
    # Weights are made even for a resume, which replaces all of them: `restore` needs the structure,
    # and only it tells whether `begin` needs the values.
    variables = experiment.task.init(jax.random.key(experiment.seed))
    if run.quant.sites:  # from the first step on: a state has one structure throughout the run
        variables = {**variables, COLLECTION: collection(run.quant)}
    template = init_state(
        experiment.task, variables, experiment.optimizer, run.schedule, experiment.seed
    )
    if plan is not None:
        template = template.replace(tempo=np.float32(plan.tempo))
    restored = None if options.fresh else run.store.restore(template)
    if restored is None:
        state, progress = begin(experiment, template, key=options.key, reporter=reporter)
        progress = dataclasses.replace(progress, plan=plan)
        # Not before the weights to start from are read: they may lie among the files that go.
        if options.fresh:
            _clear(run, progress)
        if progress.step >= run.milestones.total_steps:
            progress = dataclasses.replace(progress, finished=True)
        # An id is drawn anew by every process: that of the chief counts.
        return state, dataclasses.replace(progress, run_id=team().gather_json(progress.run_id)[0])
    # `restored` may be of an older step than `stored`: a damaged newest step is skipped. Its own
    # run state counts, the settings are the same for all steps of a run.
    state, saved = restored
    team().agree("the step to go on from", saved["run"])
    progress = RunState.from_json(saved["run"])
    report_skipped_start(experiment, progress, key=options.key, reporter=reporter)
    # A finished run whose spec now asks for more epochs, or more patience, goes on.
    if progress.step < run.milestones.total_steps and not has_stopped_early(run, progress):
        progress = dataclasses.replace(progress, finished=False, stopped_early=False)
    if not progress.finished:
        reporter.note(f"resuming {run.workdir} after step {progress.step}")
        # A warning, no error: other releases of XLA round differently, which no run notices but the
        # one that wants the same bits.
        if saved["versions"] != versions():
            reporter.warn(
                "this run was started with other versions of JAX, NumPy or Python: it goes on, but "
                "its weights will not be bit for bit those of a run without a break"
            )
        before = saved.get("layout", run.layout)
        if before != run.layout:
            changes = ", ".join(
                f"{name} {before[name]} -> {now}"
                for name, now in run.layout.items()
                if before[name] != now
            )
            reporter.warn(
                f"this run was cut in another way ({changes}): it goes on with the same batches, equal "
                "up to the order of sums and no longer bit for bit"
            )
    return state, progress


def _plan(run: Run, stored: dict[str, Any] | None) -> TimePlan | None:
    """Returns the time plan that a run goes on by, None where its spec states its length.

    Args:
      run: the run.
      stored: run state of its newest checkpoint, if any.

    Raises:
      CheckpointError: a run that began without a plan is to get one.
      UsageError: several processes train together, or with fake quantisation.
    """
    minutes, reporter = run.options.minutes, run.reporter
    if minutes is not None and team().count > 1:
        raise UsageError(
            "--minutes plans the run of one process, and several train together here: each would plan "
            "another length. State the length in the spec"
        )
    if minutes is not None and run.quant.sites:
        raise UsageError(
            "--minutes and enable_qat do not go together: where fake quantisation begins is a part of "
            "the length. Leave the flag out"
        )
    if stored is None:
        if minutes is None:
            return None
        return TimePlan(minutes=minutes, written_steps=run.written.total_steps)
    plan = RunState.from_json(stored["run"]).plan
    if plan is None and minutes is not None:
        raise CheckpointError(
            f"{run.workdir}: the run there began without --minutes, with the length of its spec. Leave "
            "the flag out to go on with it, choose another folder for the results, or add --fresh to "
            "start anew"
        )
    if plan is not None and plan.total_steps:
        reporter.note(
            f"the length of this run was planned for {plan.minutes:g} minutes when it began: "
            f"{plan.total_steps} steps; it goes on by that"
        )
    return plan


def _clear(run: Run, progress: RunState) -> None:
    """Deletes the files of the run after the step it goes back to."""
    start = run.experiment.start
    named = (start.resume_from, start.pruned, start.pretrained)
    stored = None
    with contextlib.suppress(CheckpointError):  # encrypted with another key, for example
        stored = run.store.latest_run_state()
    # The checkpoints go first: of a run that is killed here the models stay, which nothing resumes
    # from unasked; models without their checkpoints are no danger, old checkpoints would be
    # resumed.
    run.store.clear()
    if team().is_chief:
        run.files.clear(
            progress.step,
            progress.step // run.milestones.steps_per_epoch,
            {Path(name) for name in named if name},
            same_run=stored is not None and stored["run"]["run_id"] == progress.run_id,
        )
    team().wait("cleared")
