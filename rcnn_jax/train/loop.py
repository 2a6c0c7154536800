"""The loop: steps from milestone to milestone, until the run is finished.

    batches ---> step on the devices ---> metrics to the sink
                 milestone, signal or error ---> state to the host ---> checkpoint, duties of `milestones`

Three things are at work at once: the device computes a step, the next batch is on its way to it, and the
host logs the step before. So nothing in the inner loop may read what the device has just been asked for.
And nothing that was computed may be lost: from the first step after a checkpoint on, signals wait until
the steps are saved, and an error of the host saves them before it is raised.
"""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from rcnn_jax.data.loader.pipeline import training_batches, training_canvases
from rcnn_jax.errors import RcnnError, TrainingError
from rcnn_jax.hosts.team import Team, team
from rcnn_jax.interrupt import Interrupts, interrupts
from rcnn_jax.settings.data import LoaderSettings
from rcnn_jax.structures import Batch, TrainState
from rcnn_jax.tasks.families import family
from rcnn_jax.train import parallel
from rcnn_jax.train.ahead import compiled_ahead
from rcnn_jax.train.course import Course
from rcnn_jax.train.memory import advice, device_limit, plan_memory
from rcnn_jax.train.milestones import Milestone, run_milestone, save, validation_at
from rcnn_jax.train.non_finite import NonFiniteCheck
from rcnn_jax.train.planning import correct_length, plan_length
from rcnn_jax.train.run import Run
from rcnn_jax.train.run_state import RunState
from rcnn_jax.train.sink import MetricSink, open_sink
from rcnn_jax.train.step import make_step
from rcnn_jax.train.stopwatch import Stopwatch
from rcnn_jax.train.trackers import Tracker


def train_until(
    run: Run, state: TrainState, progress: RunState, end_step: int | None = None
) -> tuple[TrainState, RunState]:
    """Takes the steps that a run still has to take, up to a milestone.

    Args:
      run: the run.
      state: to go on from, on the host.
      progress: of that state.
      end_step: the milestone, which is done too; the run may end before it. None is the end of the run,
        which a planned one learns of on the way.

    Returns:
      State and progress after the last step.

    Raises:
      RcnnError: the run ends early; its steps are saved where they can be.
      Stopped: a signal ends the run; its steps are saved.
    """
    experiment, milestones, together = run.experiment, run.milestones, team()
    step_function = make_step(
        experiment.task,
        experiment.optimizer,
        run.schedule,
        steps_per_epoch=milestones.steps_per_epoch,
        axis_name=parallel.AXIS,
        accumulate=experiment.run.accumulate_steps,
        slices=run.devices.slices,
        teacher=None if run.taught is None else run.taught.teacher,
    )
    mapped = parallel.map_step(step_function, run.devices, state, taught=run.taught is not None)
    # Copies: `state` stays whole on the host for a milestone that is still pending, whatever the
    # steps do with the memory of their own states.
    replicas = parallel.replicate(state, run.devices)
    known = () if run.taught is None else (parallel.replicate(run.taught.variables, run.devices),)
    check = NonFiniteCheck(run.source.name)
    # The stack is left last: it may wait for a compilation, and the files of the sink are closed by then.
    with (
        contextlib.ExitStack() as stack,
        interrupts() as signals,
        together.heeding(signals),
        _open_sink(run, progress) as sink,
    ):
        # The sink has cut metrics.jsonl back to the step by now, so the lines of the milestone are
        # written once. Nothing is unsaved here: signals are not postponed.
        if progress.pending:  # the run was ended in the middle of a milestone
            milestone = Milestone(run=run, state=state, sink=sink, signals=signals)
            progress = run_milestone(milestone, progress)
        if progress.finished or (end_step is not None and progress.step >= end_step):
            return state, progress
        batches = _batches(run, progress)
        _log_images(run, sink, progress)
        first = next(batches)
        canvases = training_canvases(run.source, experiment.geometry)
        _say_memory(run, mapped, replicas, first[1], *known)
        stack.enter_context(compiled_ahead(mapped, replicas, first[1], canvases, *known))
        batches = itertools.chain([first], batches)
        del first  # an image batch is not kept on the device longer than the others
        watch, seconds, course = _stopwatch(progress), None, None
        while not progress.finished and (end_step is None or progress.step < end_step):
            step, end = progress.step, run.milestones.next(progress.step)
            try:
                # A signal is looked at between steps only: a step that has been sent cannot be
                # recalled.
                while step < end and not _stops(together, signals, step):
                    host, on_device = next(batches)
                    # The old state is donated: its memory holds the new one. After an error in here
                    # `replicas` may name memory that is gone, and `_rescue` finds nothing to save.
                    replicas, metrics = mapped(replicas, on_device, *known)
                    step += 1
                    # At the first step after a checkpoint a signal before this line costs that step.
                    signals.postponed = True  # from here on there is something to save
                    metrics = parallel.on_first_device(metrics, run.devices)
                    check.add(step, host.image_id, metrics)
                    sink.step(step, metrics)
                    # Not after every step: it waits for the step before, and the host would never
                    # be more than one step ahead of the device.
                    if step % experiment.run.log_steps == 0:
                        check.poll()
                    if watch is not None:
                        seconds = watch.lap(step, metrics)
                        # At a milestone later: its duties belong to the length before.
                        if seconds is not None and step < end:
                            check.finish()
                            here = dataclasses.replace(progress, step=step)
                            run, progress, replicas, course = _learn_length(
                                run, here, replicas, seconds, sink
                            )
                            watch, end = None, run.milestones.next(step)
                            batches = _with_known_length(run, progress, batches)
                    elif course is not None and step < end and course.is_due(step):
                        run, progress, replicas = correct_length(
                            run, progress, replicas, course, step, metrics
                        )
                        sink.replan(run.milestones)
                        end = run.milestones.next(step)
                        here = dataclasses.replace(progress, step=step)
                        batches = _with_known_length(run, here, batches)
                # Both wait for the device. They come before anything is saved: a checkpoint must not hold
                # a state that is not finite, nor a step whose line is not yet in metrics.jsonl.
                check.finish()
                sink.flush()
            except Exception as error:
                together.blame(error)  # another process may be the cause
                # A TrainingError says that the state is not finite: the last checkpoint is the
                # better one. A second signal is no Exception: it ends the run at once, unsaved, as the
                # message at the first one says.
                if step > progress.step and not isinstance(error, TrainingError):
                    progress = dataclasses.replace(progress, step=step, pending=step == end)
                    _rescue(run, replicas, progress, check, sink)
                if not isinstance(error, RcnnError):
                    # A terminal that hangs up sends a signal and refuses what is printed: the signal is
                    # what ended the run, the error only its first effect.
                    signals.look()
                raise
            progress = dataclasses.replace(progress, step=step, pending=step == end)
            stopped = time.monotonic()
            # Fetched once for all that is due, not once for each file, and before the next step, which
            # gives up the memory of `replicas`.
            state = parallel.first_replica(replicas, run.devices)
            # A validation takes long, so the steps are stored before it with the milestone pending; a
            # kill costs the validation and no step. Without one the checkpoint of the milestone follows
            # within a second, and the same arrays need not be written twice.
            validates = progress.pending and validation_at(run, state, progress) is not None
            saved = not progress.pending or validates
            if saved:
                save(run, state, progress)
            if not progress.pending:  # a signal came between two milestones: raises
                signals.look()
            try:
                milestone = Milestone(run=run, state=state, sink=sink, signals=signals)
                progress = run_milestone(milestone, progress)
            except Exception as error:
                together.blame(error)
                if not saved and not together.is_many:  # the duties failed, the steps are good
                    with contextlib.suppress(Exception):
                        save(run, state, progress)
                raise
            # Only now: the checkpoint with nothing pending is the last duty of a milestone.
            signals.postponed = False
            # A signal during the last milestone comes too late: the run is finished and ends well.
            if not progress.finished:
                signals.look()
            if watch is not None and seconds is not None and not progress.finished:
                run, progress, replicas, course = _learn_length(
                    run, progress, replicas, seconds, sink
                )
                watch = None
                batches = _with_known_length(run, progress, batches)
            elif watch is not None:
                watch.skip(time.monotonic() - stopped)
            elif course is not None:
                course.leave_out(time.monotonic() - stopped, validated=validates)
    return state, progress


def _say_memory(run: Run, mapped: Any, replicas: TrainState, batch: Batch, *known: Any) -> None:
    """Compiles the step and says what it takes; a GPU on which it does not fit ends the run here.

    Raises:
      TrainingError: it does not fit; the message says what helps.
    """
    compiled = mapped.lower(replicas, batch, *known).compile()  # the loop finds this program again
    one = parallel.on_first_device(replicas, run.devices)
    limit = device_limit(run.devices.local[0])
    plan = plan_memory(compiled, one, batch, run.devices.count, limit, known)
    run.reporter.console.print(plan.text(), markup=False)
    if not plan.fits:
        fields = family(run.experiment.kind).memory_fields
        model: Any = run.experiment.task.model
        batch_size, parts = run.experiment.batch_per_device, run.experiment.run.accumulate_steps
        text = advice(plan, batch_size, parts, model.remat, fields)
        # A CPU can swap, and what its machine gives changes: there the figure is only a warning.
        if run.devices.local[0].platform != "cpu":
            raise TrainingError(text)
        run.reporter.warn(text)


def _stops(together: Team, signals: Interrupts, step: int) -> bool:
    """Says whether to stop before another step; several processes say so after the same one."""
    stop = together.tick(f"step {step + 1}")
    return stop if together.is_many else signals.noted is not None


def _rescue(
    run: Run, replicas: TrainState, progress: RunState, check: NonFiniteCheck, sink: MetricSink
) -> None:
    """Saves the steps that were taken before an error, where the error leaves something to save.

    A failed step may have given up its state, a full disk takes no checkpoint: what ended the run is
    what the user hears of, in any case. Of several processes none saves alone: the others are at other
    steps, or wait for this one.
    """
    if team().is_many:
        return
    with contextlib.suppress(Exception):
        # In this order for the reasons of the loop: no state that is not finite, no step without
        # its line. A console that is gone is no reason to lose steps, so its error is passed over.
        check.finish()
        with contextlib.suppress(BrokenPipeError):
            sink.flush()
        save(run, parallel.first_replica(replicas, run.devices), progress)
        run.reporter.warn(
            f"stopped by an error after step {progress.step}, which is saved: once its cause is mended, "
            "the same command goes on from there"
        )


def _stopwatch(progress: RunState) -> Stopwatch | None:
    """Stopwatch of the steps of a run whose length is not planned yet; None for others."""
    if progress.plan is None or progress.plan.total_steps:
        return None
    return Stopwatch(progress.step)


def _learn_length(
    run: Run, progress: RunState, replicas: TrainState, seconds: float, sink: MetricSink
) -> tuple[Run, RunState, TrainState, Course]:
    """Returns run, progress and state with the length that the time of a step leaves room for."""
    with sink.paused():
        run, progress, replicas, course = plan_length(run, progress, replicas, seconds)
    sink.replan(run.milestones)
    return run, progress, replicas, course


def _with_known_length(
    run: Run, progress: RunState, batches: Iterator[tuple[Batch, Batch]]
) -> Iterator[tuple[Batch, Batch]]:
    """Returns the batches of a run that has just learnt its length, on which mosaics depend."""
    augment = run.experiment.augment
    if augment is None or not augment.mosaic_probability:
        return batches
    # Those made ahead know another length. A resume from here would not, and must see the same.
    return _batches(run, progress)


def _batches(run: Run, progress: RunState) -> Iterator[tuple[Batch, Batch]]:
    """Yields (host batch, batch on the devices) from a step on."""
    experiment = run.experiment
    timing = progress.plan is not None and not progress.plan.total_steps
    loader = LoaderSettings(
        global_batch=run.global_batch,
        seed=experiment.seed,
        threads=experiment.threads,
        prefetch=experiment.prefetch,
        repeat_threshold=experiment.repeat_threshold,
    )
    batches = training_batches(
        run.source,
        experiment.geometry,
        experiment.augment,
        experiment.train_gt,
        experiment.task.pixels.channel_order,
        loader,
        start=progress.step,
        total_steps=None if timing else run.milestones.total_steps,
        process_index=team().index,
        process_count=team().count,
    )
    return parallel.shards_ahead(iter(batches), run.devices)


def _open_sink(run: Run, progress: RunState) -> MetricSink:
    settings, log_format = run.experiment.run, family(run.experiment.kind).log
    return open_sink(
        run.workdir,
        log_format,
        run.milestones,
        run.reporter,
        start_step=progress.step,
        pending=progress.pending,
        images_per_step=run.global_batch,
        every_steps=settings.log_steps,
        tensorboard=settings.tensorboard,
        more=[
            Tracker(tracker, run.workdir, log_format, run.experiment.spec.fields, run.reporter)
            for tracker in settings.trackers
        ],
    )


def _log_images(run: Run, sink: MetricSink, progress: RunState) -> None:
    """Shows the first augmented images in TensorBoard, once per run."""
    count = run.experiment.run.images_in_tensorboard
    if count and progress.step == 0:
        # A second reading of batch 0, which is a pure function of its number: the batches of the run
        # itself are not touched.
        host, _ = next(_batches(run, progress))
        images = np.asarray(host.images[:count])
        if run.experiment.task.pixels.channel_order == "bgr":
            images = images[..., ::-1]
        sink.images(0, "augmented_images", images)
