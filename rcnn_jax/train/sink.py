"""Metric sink of a run, in front of its writers; only the chief process has writers.

sink.step(...)  sink.epoch(...)  sink.evaluation(...)  --- Record ---> every writer of `writers`
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np

from rcnn_jax.hosts.team import team
from rcnn_jax.reporter import Reporter
from rcnn_jax.tasks.families import LogFormat
from rcnn_jax.train.calendar import Milestones
from rcnn_jax.train.run_folder import METRICS_FILE, TENSORBOARD_FOLDER
from rcnn_jax.train.writers import (
    ConsoleLines,
    JsonLines,
    MetricWriter,
    Record,
    StatusLines,
    TensorBoard,
)


class MetricSink:
    """Takes the numbers of one run and hands them to writers; a context manager.

    Values may be device arrays: the ones of a logged step are read when the next step has been
    sent to the device, so logging never makes the device wait. `flush` reads them at once; call it
    before a checkpoint is written, so that a resumed run finds every line up to its step.

    Example:
      with open_sink(folder, ...) as sink:
        sink.step(1, {"loss": 0.5, "learning_rate": 0.02})
        with sink.paused():
          metrics = evaluate()
        sink.evaluation(10, metrics)
        sink.epoch(10, {"loss": 0.4, "learning_rate": 0.02}, metrics)
    """

    def __init__(
        self,
        ledger: JsonLines | None,
        writers: Sequence[MetricWriter],
        milestones: Milestones,
        *,
        start_step: int = 0,
        images_per_step: int = 1,
        every_steps: int = 10,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Takes the writers.

        Args:
          ledger: writes metrics.jsonl, before all other writers; None where nothing is written.
          writers: the others, in the order in which they are told.
          milestones: of the run: steps per epoch and its length.
          start_step: steps that were taken before, when the run resumes.
          images_per_step: global batch, for the throughput.
          every_steps: steps between logged steps; multiples of it are logged.
          clock: seconds; a test passes its own.
        """
        self._ledger = ledger
        self._others = tuple(writers)
        self._writers = (*([] if ledger is None else [ledger]), *writers)
        self._milestones = milestones
        self._start_step = start_step
        self._images_per_step = images_per_step
        self._every_steps = every_steps
        self._clock = clock
        self._unread: tuple[int, Mapping[str, Any]] | None = None
        self._started = self._epoch_started = clock()
        self._epoch_first_step = start_step

    def __enter__(self) -> "MetricSink":
        for writer in self._writers:
            writer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            # After an error nothing is flushed: either the loop has done so before it saved the
            # steps, or they are not saved and their lines would be cut at the next start.
            if kind is None:
                self.flush()
        finally:
            with contextlib.ExitStack() as last:
                if kind is not None:  # what ended the run is reported, not that its disk is full
                    last.enter_context(contextlib.suppress(OSError))
                for writer in self._writers:  # each is closed, whatever the others do
                    last.callback(writer.close)

    def step(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Takes the numbers of a step; they are written when `step` is a multiple of every_steps.

        Args:
          step: steps taken so far, this one included.
          metrics: `loss`, `learning_rate` and the loss terms, scalars on host or device.
        """
        # The step after the logged one has been sent to the device by now: reading the logged one
        # waits for what is nearly ready, and the device has work meanwhile.
        self.flush()
        # The last step is logged whatever its number, so the file ends where the run ends.
        if step % self._every_steps == 0 or step == self._milestones.total_steps:
            self._unread = (step, metrics)
        for writer in self._writers:
            writer.advance(step, self._milestones.epoch(step), self._milestones.num_epochs)

    def replan(self, milestones: Milestones) -> None:
        """Takes another length of the run."""
        self._milestones = milestones
        for writer in self._writers:
            writer.replan(milestones.total_steps)

    def flush(self) -> None:
        """Reads and writes the logged step that is still on its way, if any."""
        if self._unread is None:
            return
        step, metrics = self._unread
        values = _floats(metrics)
        # Since the process began to train, not since the last line: compilation of the first step
        # weighs less with every line, and the estimate of what is left calms down.
        seconds = max(self._clock() - self._started, 1e-9)
        images = max(step - self._start_step, 1) * self._images_per_step
        record = self._record("train", step, values, images_per_second=images / seconds)
        if self._ledger is not None:
            self._ledger.write(record)
        # Not before: a step whose line a full disk refused must not be saved as if it were logged. Nor
        # later: after an error of another writer the line must not be written twice.
        self._unread = None
        for writer in self._others:
            writer.write(record)

    def epoch(
        self,
        step: int,
        metrics: Mapping[str, Any],
        validation: Mapping[str, float] | None = None,
    ) -> None:
        """Writes the means of an epoch.

        Args:
          step: steps taken so far; the epoch ends with it.
          metrics: `loss`, `learning_rate` and the loss terms: means over the epoch.
          validation: metrics of the validation after this epoch, where there was one.
        """
        self.flush()
        now = self._clock()
        # A run that resumed in the middle of the epoch has timed a part of it.
        done = max(step - self._epoch_first_step, 1)
        seconds = (now - self._epoch_started) * self._milestones.steps_per_epoch / done
        self._epoch_started, self._epoch_first_step = now, step
        self._write("epoch", step, metrics, seconds=seconds, validation=validation)

    def evaluation(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Writes the metrics of a validation.

        Args:
          step: steps taken when the evaluated weights were current.
          metrics: {name: value}; the AP of an absent class, for example, is not finite.
        """
        self.flush()
        self._write("evaluate", step, metrics)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the screen to others and stops the clock, for a validation between steps."""
        self.flush()
        for writer in self._writers:
            writer.pause()
        began = self._clock()
        try:
            yield
        finally:
            away = self._clock() - began
            # Both marks move with the break: speed and epoch time are those of training alone.
            self._started += away
            self._epoch_started += away
            for writer in self._writers:
                writer.resume()

    def images(self, step: int, tag: str, images: Iterable[np.ndarray]) -> None:
        """Writes images u8[h w c], RGB or grey, under the tag, where a writer shows pictures."""
        for writer in self._writers:
            writer.images(step, tag, images)

    def histograms(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes the distribution of every array, where a writer shows distributions."""
        for writer in self._writers:
            writer.histograms(step, values)

    def _write(
        self, kind: Literal["epoch", "evaluate"], step: int, metrics: Mapping[str, Any], **more: Any
    ) -> None:
        record = self._record(kind, step, _floats(metrics), **more)
        for writer in self._writers:
            writer.write(record)

    def _record(
        self,
        kind: Literal["train", "epoch", "evaluate"],
        step: int,
        values: Mapping[str, float],
        **more: Any,
    ) -> Record:
        return Record(
            kind=kind,
            step=step,
            epoch=self._milestones.epoch(step),
            epochs=self._milestones.num_epochs,
            values=values,
            **more,
        )


def open_sink(
    folder: Path,
    log_format: LogFormat,
    milestones: Milestones,
    reporter: Reporter,
    *,
    start_step: int = 0,
    pending: bool = False,
    images_per_step: int = 1,
    every_steps: int = 10,
    tensorboard: bool = True,
    more: Sequence[MetricWriter] = (),
    clock: Callable[[], float] = time.monotonic,
) -> MetricSink:
    """Opens the writers of a run; in all processes but the chief there are none.

    Args:
      folder: of metrics.jsonl and tensorboard/; made when absent.
      log_format: names of the loss terms, and how often a step is printed.
      milestones: of the run.
      reporter: console and status.json.
      start_step: steps that were taken before; later lines of metrics.jsonl are cut off.
      pending: the milestone after start_step is still to be done, and its lines are cut off too.
      images_per_step: global batch, for the throughput.
      every_steps: steps between logged steps.
      tensorboard: write TensorBoard files too.
      more: further writers, told last.
      clock: seconds; a test passes its own.
    """
    # A writer per process would write every file as often; loss terms are summed over all devices,
    # so nothing is lost by listening to one.
    ledger, writers = None, []
    if team().is_chief:
        ledger = JsonLines(folder / METRICS_FILE, start_step=start_step, pending=pending)
        if tensorboard:
            events = folder / TENSORBOARD_FOLDER
            writers.append(TensorBoard(events, log_format, start_step=start_step))
        writers.append(
            ConsoleLines(
                reporter.console,
                log_format,
                total_steps=milestones.total_steps,
                start_step=start_step,
                images_per_step=images_per_step,
                clock=clock,
            )
        )
        writers.append(StatusLines(reporter, log_format))
        writers.extend(more)
    return MetricSink(
        ledger,
        writers,
        milestones,
        start_step=start_step,
        images_per_step=images_per_step,
        every_steps=every_steps,
        clock=clock,
    )


def _floats(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}
