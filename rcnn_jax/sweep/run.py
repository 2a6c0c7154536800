"""The loop of a sweep: starts trials, watches them, learns from them, goes on after a kill.

sampler.ask -> trial folder -> executor.start -> validations -> sampler.hopeless | sampler.tell
"""

import contextlib
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.live import Live

from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.errors import RcnnError, TrainingError, UsageError
from rcnn_jax.reporter import Reporter
from rcnn_jax.sweep import report
from rcnn_jax.sweep.definition import MEASURES, Definition
from rcnn_jax.sweep.executors import Executor
from rcnn_jax.sweep.measure import latency_ms, parameters
from rcnn_jax.sweep.samplers import Sampler
from rcnn_jax.sweep.state import open_state, state_of, write_state
from rcnn_jax.sweep.trial import (
    ENDED,
    INTERRUPTED,
    Trial,
    begun,
    folder_of,
    metrics_of,
    progress,
    read_trials,
    reason_of,
    results,
    validations,
    write_trial,
)

# Two may be chance (a full disk for a minute); at three the sweep would burn its budget on one mistake.
_SAME_REASON = 3
_NUMBER = re.compile(r"0x[0-9a-f]+|[-+]?\d[\d.,]*(?:e[-+]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """Limits of a sweep.

    Attributes:
      trials: number of trials that end, pruned and failed ones too; None for all of a list or grid.
      minutes: of all starts of this sweep together; None without a limit.
      key: that models are encrypted with; handed on by the environment, never by a command line.
      attempts: starts of a trial that is interrupted in a row without a step that was saved.
      again: numbers of failed trials to run once more.
      wait: seconds between two looks.
    """

    trials: int | None = None
    minutes: float | None = None
    key: str | None = field(default=None, repr=False)
    attempts: int = 3
    again: tuple[int, ...] = ()
    wait: float = 0.5


@dataclass
class _Running:
    """A trial at work: its job, what was reported of it, and whether or why it was given up."""

    trial: Trial
    started: float
    reported: int = 0
    pruned: bool = False
    exporting: bool = False
    fault: str = ""


def run_sweep(
    definition: Definition,
    root: Path,
    sampler: Callable[[Sequence[Trial]], Sampler],
    executor: Executor,
    options: SweepOptions,
    reporter: Reporter,
) -> list[Trial]:
    """Runs trials until the budget is used up; returns all of them.

    Args:
      definition: what is tried; with objectives.
      root: folder of the sweep; one that is there goes on.
      sampler: makes the sampler from the trials that exist.
      executor: where they run.
      options: budget.
      reporter: told what happens.

    Raises:
      UsageError: the folder holds another sweep.
      TrainingError: three trials in a row failed for the same reason.
    """
    # Before anything is read: a folder of another sweep must not lend its trials to this one.
    before = open_state(state_of(definition, root))
    trials = {trial.number: trial for trial in read_trials(root)}
    for number in options.again:
        if number not in trials or trials[number].state != "failed":
            raise UsageError(f"--again {number}: this trial has not failed")
        # In its own folder: what it trained before it failed is resumed.
        trials[number] = replace(trials[number], state="waiting", attempts=0, reason="")
    loop = _Loop(definition, root, sampler(list(trials.values())), executor, options, reporter)
    loop.trials, loop.spent = trials, before
    with contextlib.ExitStack() as stack:
        # After `close`, whatever ended the loop: what was running can go on with the next start.
        stack.callback(loop.leave)
        stack.callback(executor.close)
        if reporter.console.is_terminal:
            loop.live = stack.enter_context(Live(console=reporter.console, auto_refresh=False))
        loop.run()
    return sorted(loop.trials.values(), key=lambda trial: trial.number)


class _Loop:
    """The state of one start of a sweep."""

    def __init__(
        self,
        definition: Definition,
        root: Path,
        sampler: Sampler,
        executor: Executor,
        options: SweepOptions,
        reporter: Reporter,
    ):
        self.definition = definition
        self.root = root
        self.sampler = sampler
        self.executor = executor
        self.options = options
        self.reporter = reporter
        self.trials: dict[int, Trial] = {}
        # Of this start alone: a trial that an earlier start left running is found again by its job.
        self.running: dict[int, _Running] = {}
        self.spent = 0.0
        self.began = time.monotonic()
        self.live: Live | None = None
        self._exhausted = False
        self._failures: Counter[str] = Counter()

    @property
    def main(self) -> str:
        """The objective that decides which trial is best."""
        return next(iter(self.definition.objectives))

    def run(self) -> None:
        """Goes on until nothing runs and nothing is left to start."""
        self._show()
        while True:
            # A copy: a trial that has ended leaves the dictionary while it is looked after.
            for number in list(self.running):
                self._look(self.running[number])
            if self._time_is_up():
                self.reporter.note(
                    "the time of the sweep is up: the same command goes on with more"
                )
                return
            # After the looks: a trial that has just ended makes room in this round, and the sampler
            # knows of it.
            self._fill()
            if not self.running:
                return
            time.sleep(self.options.wait)

    def leave(self) -> None:
        """Writes what an interrupted start leaves, so that the next one goes on."""
        for number, running in self.running.items():
            seconds = running.trial.seconds + time.monotonic() - running.started
            # Jobs of a cluster run on by themselves: their id is how they are found again.
            state = "running" if self.executor.poll(running.trial.job) is None else "stopped"
            self._keep(replace(self.trials[number], state=state, seconds=seconds))
        self.running.clear()
        self._keep_time()
        self._show()

    def _time_is_up(self) -> bool:
        spent = self.spent + time.monotonic() - self.began
        return self.options.minutes is not None and spent >= 60 * self.options.minutes

    def _fill(self) -> None:
        """Starts trials while there is room: unfinished ones first, then new ones."""
        chosen: list[Trial] = []
        while len(self.running) + len(chosen) < self.executor.slots:
            # Unfinished ones first: their epochs are paid for, and a sampler should hear of them
            # before it is asked.
            numbers = {trial.number for trial in chosen}
            trial = next((each for each in self._unfinished() if each.number not in numbers), None)
            trial = trial or self._new()
            if trial is None:
                break
            # A job of an earlier start: of a cluster, or a process that still saves its state.
            if trial.state == "running":
                self.running[trial.number] = _Running(trial, time.monotonic())
                continue
            chosen.append(trial)
        if chosen:
            self._start(chosen, "train")

    def _unfinished(self) -> Iterator[Trial]:
        for number, trial in sorted(self.trials.items()):
            if trial.state not in ENDED and number not in self.running:
                yield trial

    def _new(self) -> Trial | None:
        wanted = self.options.trials
        while not self._exhausted and (wanted is None or len(self.trials) < wanted):
            asked = self.sampler.ask()
            if asked is None:
                self._exhausted = True
                break
            number, overrides = asked
            trial = Trial(number=number, overrides=overrides)
            try:
                text = self.definition.spec_of(overrides)
            except RcnnError as error:
                # One bad combination is a failed trial, not the end of the sweep.
                self._end(replace(trial, state="failed", reason=str(error).replace("\n", " ")))
                continue
            # The spec before the trial: a kill in between leaves a folder, and no trial without its
            # spec.
            write_file(folder_of(self.root, number) / "spec.txt", [text.encode()])
            self._keep(trial)
            return trial
        return None

    def _start(self, trials: Sequence[Trial], task: str) -> None:
        """Starts trials together: a cluster takes them as one array."""
        commands = [self._command(trial, task) for trial in trials]
        for trial, job in zip(trials, self.executor.start(commands), strict=True):
            if task == "train":
                begins = begun(trial, job, progress(folder_of(self.root, trial.number)))
            else:
                # An export is part of its training: it must not use up the starts that a cluster may
                # take away.
                begins = replace(trial, job=job, state="running")
            self._keep(begins)
            known = self.running.get(trial.number)
            self.running[trial.number] = _Running(
                begins,
                known.started if known else time.monotonic(),
                exporting=task != "train",
            )
        self._show()

    def _command(self, trial: Trial, task: str) -> tuple[Path, list[str]]:
        folder = folder_of(self.root, trial.number)
        words = [self.definition.kind, task, "-e", str(folder / "spec.txt")]
        if task == "train":
            return folder, [*words, "-d", str(folder)]
        return folder, [*words, "-m", str(_model(folder)), "-o", str(folder / "model.onnx")]

    def _look(self, running: _Running) -> None:
        """Looks after one running trial."""
        trial = running.trial
        folder = folder_of(self.root, trial.number)
        code = self.executor.poll(trial.job)
        # Validations of an export are those of its training, and were reported.
        if not running.exporting:
            self._report(running, validations(folder))
        if code is None:
            return
        if running.fault:
            self._finish(running, "failed", running.fault)
        elif running.pruned:
            self._finish(running, "pruned")
        elif code == 0 and self._needs_export(folder):
            self._start([trial], "export")
        elif code == 0:
            self._finish(running, "done")
        elif code in INTERRUPTED and self._goes_on(trial):
            del self.running[trial.number]
            seconds = trial.seconds + time.monotonic() - running.started
            self._keep(replace(trial, state="stopped", seconds=seconds))
            self.reporter.note(f"trial {trial.number}: was interrupted and goes on")
        else:
            self._finish(running, "failed", reason_of(folder, code, self.executor.fate(trial.job)))

    def _goes_on(self, trial: Trial) -> bool:
        """Returns whether an interrupted trial is started again: while it advances, always."""
        if progress(folder_of(self.root, trial.number)) > trial.began_at:
            return True
        return trial.attempts < self.options.attempts

    def _report(self, running: _Running, rows: Sequence[Mapping]) -> None:
        if len(rows) > running.reported:
            self._keep_time()
        for row in rows[running.reported :]:
            running.reported += 1
            # At the first validation: the trial would train to its end for a number that never comes.
            if not running.fault:
                known = {*row, *MEASURES}
                missing = sorted(name for name in self.definition.measures if name not in known)
                running.fault = _lack(missing, {*metrics_of(row), *MEASURES})
                if running.fault:
                    self.executor.stop(running.trial.job)
            value = row.get(self.main)
            if value is None or running.pruned or running.fault:
                continue
            if self.sampler.hopeless(running.trial.number, running.reported, float(value)):
                # Once: the process takes seconds to end, and every validation until then would stop
                # it again.
                running.pruned = True
                self.executor.stop(running.trial.job)

    def _needs_export(self, folder: Path) -> bool:
        return "latency_ms" in self.definition.measures and not (folder / "model.onnx").exists()

    def _finish(self, running: _Running, state: str, reason: str = "") -> None:
        trial = running.trial
        folder = folder_of(self.root, trial.number)
        del self.running[trial.number]
        seconds = trial.seconds + time.monotonic() - running.started
        values: dict[str, float] = {}
        if state != "failed":
            highest = self.definition.objectives[self.main] == "max"
            metric = self.main if self.main not in MEASURES else report.metric_of(folder)
            values = results(folder, metric, highest=highest or self.main in MEASURES)
            # Without the time of a process that was killed outright, which left no word of it.
            values |= {"seconds": seconds}
            if "parameters" in self.definition.measures:
                values["parameters"] = parameters(_model(folder), self.options.key)
            if (folder / "model.onnx").exists():
                values["latency_ms"] = latency_ms(folder / "model.onnx")
        # A trial without its objective cannot be compared; as a failure it is seen, as a success it
        # would win.
        # A measure that could not be taken is no number: NaN compares as neither better nor worse.
        values = {name: value for name, value in values.items() if math.isfinite(value)}
        missing = [name for name in self.definition.measures if name not in values]
        if state == "done" and missing:
            state, reason = "failed", _lack(missing, values)
        self._end(
            replace(trial, state=state, values=values, reason=reason, seconds=seconds, job="")  # type: ignore[arg-type]
        )

    def _end(self, trial: Trial) -> None:
        self._keep(trial)
        self.sampler.tell(trial)
        self.reporter.console.print(
            report.sentence(trial, self.definition), markup=False, highlight=False
        )
        self._show()
        if trial.state != "failed":
            self._failures.clear()
            return
        reason = self._cause_of(trial)
        self._failures = Counter({reason: self._failures[reason] + 1})
        if self._failures[reason] >= _SAME_REASON:
            raise TrainingError(
                f"{_SAME_REASON} trials in a row failed for the same reason: {trial.reason}; mend it and "
                "start the sweep again (--again NUMBER repeats a failed trial)"
            )

    def _cause_of(self, trial: Trial) -> str:
        """Returns the reason of a failed trial without what differs from trial to trial."""
        reason = trial.reason.replace(str(folder_of(self.root, trial.number)), "")
        # A combination that the spec refuses has cost nothing, and its number is what is wrong with it:
        # in a wide space three in a row are chance.
        if trial.attempts == 0:
            return reason
        # Of one that has run, numbers are bytes, addresses, processes.
        return _NUMBER.sub("#", reason)

    def _keep(self, trial: Trial) -> None:
        self.trials[trial.number] = trial
        write_trial(self.root, trial)
        # Not at the end alone: a start that is killed outright has used up its part of the budget too.
        self._keep_time()

    def _keep_time(self) -> None:
        total = self.spent + time.monotonic() - self.began
        write_state(state_of(self.definition, self.root), total)

    def _show(self) -> None:
        trials = sorted(self.trials.values(), key=lambda trial: trial.number)
        report.write_files(self.root, trials, self.definition)
        if self.live is not None:
            self.live.update(report.table(trials, self.definition), refresh=True)


def _lack(missing: Sequence[str], known: Iterable[str]) -> str:
    """Returns the reason of a trial without some objectives or bounded values; empty for none."""
    listed = ", ".join(sorted(known)) or "nothing: does the spec validate?"
    return f"has no value {', '.join(missing)}; it has {listed}" if missing else ""


def _model(folder: Path) -> Path:
    """Returns the best model of a run, else the last one."""
    best = folder / "best.tlt"
    if best.exists():
        return best
    # By time: epoch10 sorts before epoch9 by name.
    models = sorted(folder.glob("*.tlt"), key=lambda path: path.stat().st_mtime_ns)
    return models[-1] if models else best
