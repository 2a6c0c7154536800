"""One trial: a folder that holds its spec, its run and its record.

    trials/0007/spec.txt  trial.json  log.txt  + all that training writes

The folder alone decides how a trial goes on: training resumes in it, whoever starts it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.sweep.space import Overrides

State = Literal["waiting", "running", "done", "failed", "pruned", "stopped"]
ENDED = ("done", "failed", "pruned")
"""States that count: a stopped trial goes on with the next start of the sweep."""

# Above all codes of processes, which end at 255.
LOST = 1000
"""Exit code of a job that is gone without one: its machine went down, or the sweep was killed."""
INTERRUPTED = (75, 129, 130, 143, -1, -2, -15, LOST)
"""Exit codes of a run that is unfinished and can go on: stalled, stopped by a signal, lost.

Negative ones are those of a command that a signal ended before it could handle it.
"""

RECORD = "trial.json"
LOG = "log.txt"
_LAST_LINES = 12


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The record of a trial.

    Attributes:
      number: from 0, in the order of beginning.
      overrides: what differs from the spec of the sweep.
      state: of the trial.
      values: metrics and measures by name, of the best validation.
      reason: why it failed, in one line.
      attempts: times that it was started since it last saved a new step.
      began_at: step that its last start went on from.
      job: id of the job or process that works on it.
      seconds: it took, over all attempts.
    """

    number: int
    overrides: Overrides
    state: State = "waiting"
    values: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    attempts: int = 0
    began_at: int = 0
    job: str = ""
    seconds: float = 0.0


def folder_of(root: Path, number: int) -> Path:
    """Returns the folder of a trial."""
    return root / "trials" / f"{number:04}"


def write_trial(root: Path, trial: Trial) -> None:
    """Writes the record of a trial, whole or not at all."""
    text = json.dumps(asdict(trial), indent=2)
    write_file(folder_of(root, trial.number) / RECORD, [text.encode()])


def read_trials(root: Path) -> list[Trial]:
    """Returns the trials of a sweep by their number; a folder without a record is none."""
    trials = []
    for path in sorted((root / "trials").glob(f"*/{RECORD}")):
        content = json.loads(path.read_text(encoding="utf-8"))
        trials.append(Trial(**content))
    return sorted(trials, key=lambda trial: trial.number)


def validations(folder: Path) -> list[dict[str, Any]]:
    """Returns the validations that the run of a folder has written so far, with their `step`."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        # Before parsing: a long run has a line of JSON for every step, of which few are
        # validations.
        if '"evaluate"' not in line:
            continue
        try:
            lines.append(json.loads(line))
        except ValueError:  # the last line of a run that is writing
            continue
    return lines


def results(folder: Path, main: str, *, highest: bool) -> dict[str, float]:
    """Returns the metrics of the best validation of a run, of the last where `main` is no metric.

    Args:
      folder: of the trial.
      main: metric that decides.
      highest: whether more is better.
    """
    rows = validations(folder)
    if not rows:
        return {}
    # An objective such as the latency is in no validation; then the last one is the run's result.
    known = [row for row in rows if main in row]
    return metrics_of((max if highest else min)(known, key=lambda row: row[main], default=rows[-1]))


def metrics_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers of a validation, without its step and epoch."""
    numbers = {name: value for name, value in row.items() if isinstance(value, int | float)}
    return {name: float(value) for name, value in numbers.items() if name not in ("step", "epoch")}


def last_lines(folder: Path) -> list[str]:
    """Returns the end of the log of a trial, in which a failure says its reason."""
    try:
        # Replaced, not refused: a process that is killed may leave half a character.
        text = (folder / LOG).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-_LAST_LINES:]


def reason_of(folder: Path, code: int | None, fate: str = "") -> str:
    """Returns why a trial failed, in one line: the message of the command, else its exit code.

    Args:
      folder: of the trial.
      code: exit code of the command.
      fate: what the cluster says of the job.
    """
    lines = last_lines(folder)
    # The last one: a library may have said "error:" before, and the command's own message ends the
    # log.
    errors = [line for line in lines if line.startswith("error: ")]
    if errors:
        return errors[-1].removeprefix("error: ")
    if code is not None and code < 0:
        # The kernel's killer of processes that take too much memory sends 9 and leaves no other
        # trace.
        return f"ended by signal {-code}" + (": out of memory?" if code == -9 else "")
    last = lines[-1] if lines else "no output"
    if code == LOST:
        return f"the job is gone without an exit code{f', {fate}' * bool(fate)}: {last}"
    return f"exit code {code}: {last}"


def progress(folder: Path) -> int:
    """Returns the newest step that the run of a folder has saved; 0 where there is none."""
    names = [path.name for path in (folder / "checkpoints").glob("*")]
    return max((int(name) for name in names if name.isdigit()), default=0)


def begun(trial: Trial, job: str, step: int) -> Trial:
    """Returns the record of a trial that has just been started, from a step."""
    # On a cluster that preempts, a long trial is interrupted dozens of times, and each time it gets on.
    attempts = 1 if step > trial.began_at else trial.attempts + 1
    return replace(trial, state="running", job=job, attempts=attempts, began_at=step, reason="")
