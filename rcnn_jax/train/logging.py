"""Where the numbers of a training run go: metrics.jsonl, TensorBoard, status.json, the console.

metrics.jsonl holds nothing that depends on the clock, so a run that was killed and resumed ends
with the very same file as one that was not. Times go to TensorBoard, status.json and the console.
"""

import json
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rcnn_jax.train.tables import Words, duration, epoch_line, step_line

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


StatusWriter = Callable[..., None]


class MetricLogger:
    """Writes the numbers of one run; a context manager that shows a bar on a terminal.

    Values may be device arrays: the ones of a logged step are read when the next step has been
    sent to the device, so logging never makes the device wait. `flush` reads them at once; call it
    before a checkpoint is written, so that a resumed run finds every line up to its step.

    Example:
      with MetricLogger(workdir, words=tables.MASK_RCNN, steps_per_epoch=10,
                        total_steps=80, console=reporter.console, status=reporter.status) as log:
        log.step(1, {"loss": 0.5, "learning_rate": 0.02})
        log.epoch(1, 10, {"loss": 0.4, "learning_rate": 0.02})
        with log.paused():
          metrics = evaluate()
        log.evaluation(10, metrics)
    """

    def __init__(
        self,
        workdir: Path,
        *,
        words: Words,
        steps_per_epoch: int,
        total_steps: int,
        start_step: int = 0,
        stop_is_due: bool = False,
        images_per_step: int = 1,
        every_steps: int = 10,
        tensorboard: bool = True,
        console: Console,
        status: StatusWriter,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Opens the files; lines of metrics.jsonl that the run will write again are cut off.

        Args:
          workdir: folder of metrics.jsonl and tensorboard/; made when absent.
          words: how the detector's logs name its loss terms.
          steps_per_epoch: steps of an epoch.
          total_steps: steps of the whole run.
          start_step: steps that were taken before, when the run resumes.
          stop_is_due: the stop after start_step is still to be done.
          images_per_step: global batch, for the throughput.
          every_steps: steps between logged steps; multiples of it are logged.
          tensorboard: write files for TensorBoard.
          console: where lines and the bar go.
          status: writes the line per epoch to status.json, as `Reporter.status` does.
          clock: seconds; a test passes its own.
        """
        workdir.mkdir(parents=True, exist_ok=True)
        self._path = workdir / METRICS_FILE
        cut_after(self._path, start_step, stop_is_due)
        self._file = self._path.open("a", encoding="utf-8")
        self._folder = workdir / TENSORBOARD_FOLDER
        self._tensorboard_wanted = tensorboard
        self._events: Any = None
        self._words = words
        self._steps_per_epoch = steps_per_epoch
        self._epochs = -(-total_steps // steps_per_epoch)
        self._total_steps = total_steps
        self._start_step = start_step
        self._images_per_step = images_per_step
        self._every_steps = every_steps
        self._console = console
        self._status = status
        self._clock = clock
        self._pending: tuple[int, Mapping[str, Any]] | None = None
        self._bar: Progress | None = None
        self._started = self._epoch_started = self._last_line = clock()
        self._epoch_first_step = start_step

    def __enter__(self) -> "MetricLogger":
        if self._console.is_terminal:
            self._bar = _bar(self._console)
            self._bar.add_task(
                "train", total=self._total_steps, completed=self._start_step, epoch=0, said=""
            )
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self._file.close()
            if self._events is not None:
                self._events.close()
            if self._bar is not None:
                self._bar.stop()

    def step(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Takes the numbers of a step; they are written when `step` is a multiple of every_steps.

        Args:
          step: steps taken so far, this one included.
          metrics: `loss`, `learning_rate` and the loss terms, scalars on host or device.
        """
        self.flush()
        if step % self._every_steps == 0 or step == self._total_steps:
            self._pending = (step, metrics)
        if self._bar is not None:
            self._bar.update(
                self._bar.task_ids[0],
                completed=step,
                epoch=f"{self._epoch_of(step)}/{self._epochs}",
            )

    def flush(self) -> None:
        """Reads and writes the logged step that is still on its way, if any."""
        if self._pending is None:
            return
        step, metrics = self._pending
        self._pending = None
        values = _floats(metrics)
        self._write("train", step, values)
        self._scalars("train", step, values)
        now = self._clock()
        steps = max(step - self._start_step, 1)
        speed = steps * self._images_per_step / max(now - self._started, 1e-9)
        self._scalars("train", step, {"images_per_second": speed})
        self._say_step(step, values, now, speed)

    def epoch(
        self,
        epoch: int,
        step: int,
        metrics: Mapping[str, Any],
        kpi: Mapping[str, float] | None = None,
    ) -> None:
        """Writes the means of an epoch, prints its line and appends to status.json.

        Args:
          epoch: 1-based, just finished.
          step: steps taken so far.
          metrics: `loss`, `learning_rate` and the loss terms: means over the epoch.
          kpi: what an evaluation after this epoch found, {name: value}.
        """
        self.flush()
        values = _floats(metrics)
        now = self._clock()
        done = max(step - self._epoch_first_step, 1)
        seconds = (now - self._epoch_started) * self._steps_per_epoch / done
        self._epoch_started, self._epoch_first_step = now, step
        line = epoch_line(self._words, epoch, self._epochs, values, seconds)
        self._write("epoch", step, values)
        self._scalars("epoch", step, {**values, "seconds": seconds})
        self._console.print(line, markup=False)
        self._status(
            "RUNNING",
            line,
            epoch=epoch,
            max_epoch=self._epochs,
            time_per_epoch=duration(seconds),
            eta=duration(seconds * (self._epochs - epoch)),
            graphical={**self._named(values), **(kpi or {})},
            kpi=kpi,
        )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Takes the bar off the screen and stops the clock, for an evaluation between steps."""
        self.flush()
        if self._bar is not None:
            self._bar.stop()
        began = self._clock()
        try:
            yield
        finally:
            away = self._clock() - began
            self._started += away
            self._epoch_started += away
            if self._bar is not None:
                self._bar.start()

    def evaluation(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Writes the metrics of an evaluation.

        Args:
          step: steps taken when the evaluated weights were current.
          metrics: {name: value}; a value that is not finite, such as the AP of an absent class, is
            written as null.
        """
        self.flush()
        values = _floats(metrics)
        self._write("evaluate", step, values)
        self._scalars("evaluate", step, values)

    def images(self, step: int, tag: str, images: Iterable[np.ndarray]) -> None:
        """Writes u8[h w c] RGB or grey images to TensorBoard under the tag."""
        if not self._tensorboard_wanted:
            return
        for i, image in enumerate(images):
            self._tensorboard().add_image(f"{tag}/{i}", image, step, dataformats="HWC")

    def histograms(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes the distribution of every array to TensorBoard."""
        if not self._tensorboard_wanted:
            return
        for name, array in values.items():
            self._tensorboard().add_histogram(name, np.asarray(array, np.float32).ravel(), step)

    def _epoch_of(self, step: int) -> int:
        return (max(step, 1) - 1) // self._steps_per_epoch + 1

    def _named(self, values: Mapping[str, float]) -> dict[str, float]:
        return {self._words.status_terms.get(name, name): value for name, value in values.items()}

    def _say_step(self, step: int, values: dict[str, float], now: float, speed: float) -> None:
        said = f"loss {values['loss']:.4f}  {speed:.1f} img/s"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], said=said)
        patience = self._words.seconds_between_lines
        if patience and (self._bar is not None or now - self._last_line < patience):
            return
        self._last_line = now
        left = (self._total_steps - step) * self._images_per_step / max(speed, 1e-9)
        tail = f" {speed:.1f} img/s ETA: {duration(left)}" if patience else ""
        epoch = self._epoch_of(step)
        self._console.print(
            step_line(self._words, step, epoch, self._epochs, values, tail), markup=False
        )

    def _write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        line = {"step": step, "epoch": self._epoch_of(step), "kind": kind, **finite}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def _scalars(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        if not self._tensorboard_wanted:
            return
        events = self._tensorboard()
        for name, value in self._named(values).items():
            if math.isfinite(value):
                tag = re.sub(r"[^-/\w.]", "_", f"{kind}/{name}")  # all that TensorBoard allows
                events.add_scalar(tag, value, step)

    def _tensorboard(self) -> Any:
        if self._events is None:
            from tensorboardX import SummaryWriter  # late: its import takes half a second

            self._events = SummaryWriter(
                str(self._folder), purge_step=self._start_step + 1, flush_secs=30
            )
        return self._events


def cut_after(path: Path, step: int, stop_is_due: bool = False) -> None:
    """Drops the lines of a JSON-lines file whose `step` is greater, and a torn last line.

    A run that stopped between two checkpoints has written lines for steps it will take again.

    Args:
      path: the file; an absent one stays absent.
      step: the last step that counts.
      stop_is_due: of that step, the lines of its stop (validation, epoch) go as well.
    """
    if not path.exists():
        return
    kept = [
        line
        for line in path.read_text(encoding="utf-8").splitlines()
        if _until(line, step, stop_is_due)
    ]
    partial = path.with_name(path.name + ".partial")
    partial.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    partial.replace(path)


def _until(line: str, step: int, stop_is_due: bool) -> bool:
    try:
        row = json.loads(line)
        if row["step"] == step and stop_is_due:
            return row["kind"] == "train"
        return row["step"] <= step
    except (ValueError, KeyError, TypeError):
        return False


def _floats(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[said]}"),
        TimeRemainingColumn(),
        console=console,
    )
