"""Writers of metrics: metrics.jsonl, TensorBoard, the console, status.json.

Each writer is a small class that takes records from `sink.MetricSink`. metrics.jsonl holds nothing that
depends on the clock, so a run that was killed and resumed ends with the very same file as one that was
not. Times go to TensorBoard, status.json and the console.
"""

import json
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rcnn_jax.processes import unfinished_name
from rcnn_jax.reporter import Reporter
from rcnn_jax.tasks.families import LogFormat
from rcnn_jax.train.events import Events
from rcnn_jax.train.tables import duration, epoch_line, step_line


@dataclass(frozen=True, kw_only=True)
class Record:
    """The numbers of one step, epoch or validation.

    Attributes:
      kind: `train` is one step, `epoch` the means of an epoch, `evaluate` a validation.
      step: steps taken so far.
      epoch: 1-based epoch of the step.
      epochs: of the whole run.
      values: {name: value}; of `train` and `epoch` they are `loss`, `learning_rate` and the loss terms.
      images_per_second: of `train`, since this process began to train.
      seconds: of `epoch`, how long one takes.
      validation: of `epoch`, the metrics of the validation after it, where there was one.
    """

    kind: Literal["train", "epoch", "evaluate"]
    step: int
    epoch: int
    epochs: int
    values: Mapping[str, float]
    images_per_second: float = 0.0
    seconds: float = 0.0
    validation: Mapping[str, float] | None = None


class MetricWriter:
    """Base of all writers: every method does nothing."""

    def start(self) -> None:
        """Begins; called once, before anything else."""

    def write(self, record: Record) -> None:
        """Writes a record."""

    def images(self, step: int, tag: str, images: Iterable[np.ndarray]) -> None:
        """Writes images u8[h w c], RGB or grey, under the tag.

        `images` may be a generator that runs the model: a writer without a use for pictures must not
        iterate over it.
        """

    def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Writes the distribution of every array."""

    def advance(self, step: int, epoch: int, epochs: int) -> None:
        """Shows how far the run is; called when a step has been sent to the device."""

    def replan(self, total_steps: int) -> None:
        """Takes another length of the run."""

    def pause(self) -> None:
        """Leaves the screen to others until `resume`."""

    def resume(self) -> None:
        """Takes the screen back."""

    def close(self) -> None:
        """Ends; called once, also after an error."""


class JsonLines(MetricWriter):
    """metrics.jsonl: one JSON object per record."""

    def __init__(self, path: Path, *, start_step: int, pending: bool):
        """Opens the file and cuts off the lines that the run will write again.

        Args:
          path: the file; its folder is made.
          start_step: steps that were taken before, when the run resumes.
          pending: the milestone after start_step is still to be done.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        # Before the file is opened to append: it is replaced by a shorter one, and an open handle
        # would write on into the old.
        cut_after(path, start_step, pending)
        self._file = path.open("a", encoding="utf-8")

    def write(self, record: Record) -> None:
        """Appends a line; a value that is not finite is null, for JSON has no word for it."""
        finite = {
            name: value if math.isfinite(value) else None for name, value in record.values.items()
        }
        line = {"step": record.step, "epoch": record.epoch, "kind": record.kind, **finite}
        self._file.write(json.dumps(line) + "\n")
        # Handed to the system with every line, so a kill loses none of a step that is then saved.
        # No sync: a wait for the disk at every line would be felt in short steps, and a line is not
        # worth it.
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class TensorBoard(MetricWriter):
    """Event files for TensorBoard; the folder is made with the first event."""

    def __init__(self, folder: Path, log_format: LogFormat, *, start_step: int):
        """Takes the folder, the names of the loss terms and the steps taken before."""
        self._folder = folder
        self._names = log_format.status_terms
        # The curve keeps its last saved step; the steps after it are taken again.
        self._first_step = start_step + 1
        self._opened: Events | None = None

    def write(self, record: Record) -> None:
        """Writes every number under `kind/name`."""
        self._events().scalars(record.step, tagged(record, self._names))

    def images(self, step: int, tag: str, images: Iterable[np.ndarray]) -> None:
        """Writes images under `tag/0`, `tag/1` and so on."""
        events = self._events()
        for i, image in enumerate(images):
            events.image(step, f"{tag}/{i}", image)

    def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Writes the distribution of every array."""
        events = self._events()
        for name, array in values.items():
            events.histogram(step, name, np.asarray(array, np.float32).ravel())

    def close(self) -> None:
        """Closes the file, where one was begun."""
        if self._opened is not None:
            self._opened.close()

    def _events(self) -> Events:
        if self._opened is None:
            self._opened = Events(self._folder, self._first_step)
        return self._opened


class ConsoleLines(MetricWriter):
    """A line for steps and epochs, and a bar where the console is a terminal."""

    def __init__(
        self,
        console: Console,
        log_format: LogFormat,
        *,
        total_steps: int,
        start_step: int,
        images_per_step: int,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Takes the console.

        Args:
          console: where lines and the bar go.
          log_format: names of the loss terms, and how often a step is printed.
          total_steps: steps of the whole run.
          start_step: steps that were taken before, when the run resumes.
          images_per_step: global batch, for the time that is left.
          clock: seconds; a test passes its own.
        """
        self._console = console
        self._format = log_format
        self._total_steps = total_steps
        self._start_step = start_step
        self._images_per_step = images_per_step
        self._clock = clock
        self._last_line = clock()
        self._bar: Progress | None = None

    def start(self) -> None:
        """Shows the bar, on a terminal."""
        if self._console.is_terminal:
            self._bar = _bar(self._console)
            self._bar.add_task(
                "train", total=self._total_steps, completed=self._start_step, epoch=0, latest=""
            )
            self._bar.start()

    def advance(self, step: int, epoch: int, epochs: int) -> None:
        """Moves the bar."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step, epoch=f"{epoch}/{epochs}")

    def write(self, record: Record) -> None:
        """Prints the line of a step, where one is due, or that of an epoch."""
        if record.kind == "train":
            self._step(record)
        elif record.kind == "epoch":
            line = epoch_line(
                self._format, record.epoch, record.epochs, record.values, record.seconds
            )
            self._console.print(line, markup=False)

    def replan(self, total_steps: int) -> None:
        """Lengthens or shortens the bar."""
        self._total_steps = total_steps
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], total=total_steps)

    def pause(self) -> None:
        """Takes the bar off the screen."""
        if self._bar is not None:
            self._bar.stop()

    def resume(self) -> None:
        """Shows the bar again."""
        if self._bar is not None:
            self._bar.start()

    def close(self) -> None:
        """Takes the bar off the screen."""
        self.pause()

    def _step(self, record: Record) -> None:
        speed = record.images_per_second
        if self._bar is not None:
            latest = f"loss {record.values['loss']:.4f}  {speed:.1f} img/s"
            self._bar.update(self._bar.task_ids[0], latest=latest)
        patience, now = self._format.seconds_between_lines, self._clock()
        # With a bar, which shows the loss already, or soon after the last line, nothing is printed.
        if patience and (self._bar is not None or now - self._last_line < patience):
            return
        self._last_line = now
        left = (self._total_steps - record.step) * self._images_per_step / max(speed, 1e-9)
        tail = f" {speed:.1f} img/s ETA: {duration(left)}" if patience else ""
        line = step_line(
            self._format, record.step, record.epoch, record.epochs, record.values, tail
        )
        self._console.print(line, markup=False)


class StatusLines(MetricWriter):
    """A line of status.json per epoch, for programs that watch the run."""

    def __init__(self, reporter: Reporter, log_format: LogFormat):
        """Takes the reporter that writes status.json and the names of the loss terms."""
        self._reporter = reporter
        self._format = log_format

    def write(self, record: Record) -> None:
        """Appends the line of an epoch."""
        if record.kind != "epoch":
            return
        names = self._format.status_terms
        values = {names.get(name, name): value for name, value in record.values.items()}
        self._reporter.status(
            "RUNNING",
            epoch_line(self._format, record.epoch, record.epochs, record.values, record.seconds),
            epoch=record.epoch,
            max_epoch=record.epochs,
            time_per_epoch=duration(record.seconds),
            eta=duration(record.seconds * (record.epochs - record.epoch)),
            graphical={**values, **(record.validation or {})},
            kpi=record.validation,
        )


def tagged(record: Record, names: Mapping[str, str]) -> dict[str, float]:
    """Returns the finite numbers of a record under `kind/name`, with speed or time of the record.

    Args:
      record: of a step, an epoch or a validation.
      names: of loss terms, {name in metrics.jsonl: name to show}.
    """
    values = {names.get(name, name): value for name, value in record.values.items()}
    if record.kind == "epoch":
        values["seconds"] = record.seconds
    if record.kind == "train":
        values["images_per_second"] = record.images_per_second
    return {
        re.sub(r"[^-/\w.]", "_", f"{record.kind}/{name}"): value  # all that TensorBoard allows
        for name, value in values.items()
        # Curves cannot show it, and metrics.jsonl has a null at this step.
        if math.isfinite(value)
    }


def cut_after(path: Path, step: int, pending: bool = False) -> None:
    """Drops the lines after a step of a JSON-lines file, and a torn last line.

    A run that ended between two checkpoints has written lines for steps it will take again.

    Args:
      path: the file; an absent one stays absent.
      step: the last step that counts.
      pending: the lines of the milestone after that step (validation, epoch) go as well.
    """
    if not path.exists():
        return
    kept = [
        line
        for line in path.read_text(encoding="utf-8").splitlines()
        if _until(line, step, pending)
    ]
    # A shorter copy, renamed: cut in place, a kill in between would take lines of saved steps.
    partial = unfinished_name(path)
    try:
        partial.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def last_validation(path: Path) -> dict[str, float]:
    """Returns the metrics of the last validation in metrics.jsonl; NaN stands for null.

    Args:
      path: the file; without one, or without a validation in it, nothing is returned.
    """
    if not path.exists():
        return {}
    for line in reversed(path.read_text(encoding="utf-8").splitlines()):
        row = json.loads(line)
        if row["kind"] == "evaluate":
            for name in ("step", "epoch", "kind"):
                del row[name]
            return {name: math.nan if value is None else value for name, value in row.items()}
    return {}


def _until(line: str, step: int, pending: bool) -> bool:
    try:
        row = json.loads(line)
        # The step itself was taken; what its milestone wrote is written again.
        if row["step"] == step and pending:
            return row["kind"] == "train"
        return row["step"] <= step
    except (ValueError, KeyError, TypeError):
        # A torn last line, of a kill or a full disk.
        return False


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[latest]}"),
        TimeRemainingColumn(),
        console=console,
    )
