"""Report of a sweep: a table, a CSV file, one HTML page, and the best spec as a spec file."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table as ConsoleTable

from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.errors import MissingDependencyError
from rcnn_jax.optional import require
from rcnn_jax.report import charts
from rcnn_jax.report.page import Chart, Part, Section, Table, Text, Tone, html
from rcnn_jax.sweep.definition import Definition
from rcnn_jax.sweep.trial import Trial, folder_of, last_lines, validations

PAGE, SHEET, BEST = "sweep.html", "trials.csv", "best.txt"
_CURVES = 8
_TONES: dict[str, Tone] = {
    "failed": "error",
    "pruned": "note",
    "done": "good",
    "stopped": "warning",
}


def feasible(trial: Trial, definition: Definition) -> bool:
    """Returns whether a finished trial keeps all constraints."""
    return trial.state == "done" and all(
        each.violation(trial.values.get(each.name, math.inf)) <= 0
        for each in definition.constraints
    )


def best(trials: Sequence[Trial], definition: Definition) -> Trial | None:
    """Returns the best feasible trial by the first objective; of equal ones the earlier."""
    name, direction = next(iter(definition.objectives.items()))
    sign = 1 if direction == "max" else -1
    candidates = [trial for trial in trials if feasible(trial, definition)]
    return max(
        # The earlier of equal ones: it has been the best for longer, so pages do not change without
        # reason.
        candidates,
        key=lambda trial: (sign * trial.values[name], -trial.number),
        default=None,
    )


def without_best(trials: Sequence[Trial], definition: Definition) -> str:
    """Returns why no trial is best; empty where none is done, or one is best.

    Of every constraint the nearest value is named, which says how far it is from being kept.
    """
    done = [trial for trial in trials if trial.state == "done"]
    if not done or best(trials, definition) is not None:
        return ""
    nearest = []
    for each in definition.constraints:
        known = [trial for trial in done if each.name in trial.values]
        closest = min(
            known, key=lambda trial: each.violation(trial.values[each.name]), default=None
        )
        if closest is not None:
            value = charts.number(closest.values[each.name])
            nearest.append(f"{each} (nearest: {value}, trial {closest.number})")
    return f"no trial keeps all constraints, so there is no best spec: {'; '.join(nearest)}"


def front(trials: Sequence[Trial], definition: Definition) -> list[Trial]:
    """Returns the feasible trials that no other one beats in all objectives (Pareto)."""
    signs = [1 if direction == "max" else -1 for direction in definition.objectives.values()]
    candidates = [trial for trial in trials if feasible(trial, definition)]
    rows = np.array(
        [
            [s * trial.values[name] for s, name in zip(signs, definition.objectives, strict=True)]
            for trial in candidates
        ]
    ).reshape(len(candidates), len(signs))
    # Quadratic in the trials of a sweep, of which there are hundreds at most.
    kept = []
    for index, row in enumerate(rows):
        # A trial does not beat its own copy: equal ones are all on the front.
        beaten = (rows >= row).all(axis=1) & (rows > row).any(axis=1)
        if not beaten.any():
            kept.append(candidates[index])
    return kept


def metric_of(folder: Path) -> str:
    """Returns the main metric of a run from its own validations; `mAP` where there is none."""
    rows = validations(folder)
    # mAP is that of Faster R-CNN; of Mask R-CNN masks go before boxes.
    return next((name for name in ("mAP", "mask_AP", "AP") if rows and name in rows[-1]), "mAP")


def sentence(trial: Trial, definition: Definition) -> str:
    """Returns the line about a trial that has ended."""
    changed = ", ".join(f"{_short(name)} = {_shown(v)}" for name, v in trial.overrides.items())
    if trial.state == "failed":
        return f"trial {trial.number}: failed: {trial.reason} ({changed})"
    numbers = ", ".join(
        f"{name} {charts.number(trial.values[name])}"
        for name in sorted(definition.measures, key=list(definition.objectives).__contains__)[::-1]
        if name in trial.values
    )
    return f"trial {trial.number}: {trial.state}: {numbers} ({changed})"


def table(trials: Sequence[Trial], definition: Definition) -> ConsoleTable:
    """Returns the trials as a table for the console, the best one marked."""
    top = best(trials, definition)
    shown = ConsoleTable()
    for heading in _headings(trials, definition):
        shown.add_column(heading, overflow="fold")
    for trial in trials:
        style = "bold green" if top is not None and trial.number == top.number else ""
        shown.add_row(*_row(trial, trials, definition), style=style)
    return shown


def write_files(root: Path, trials: Sequence[Trial], definition: Definition) -> None:
    """Writes page, CSV and, once a trial has succeeded, the best spec."""
    # In memory, then under its name at once: spreadsheets that watch the file never see half of it.
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    names = sorted({name for trial in trials for name in trial.values} - {"seconds"})
    fields = _fields(trials)
    writer.writerow(["trial", "state", "seconds", *fields, *names, "reason"])
    for trial in trials:
        changed = [_shown(trial.overrides.get(name, "")) for name in fields]
        # By repr: what is read again has the same bits, and spreadsheets round by themselves.
        values = [repr(trial.values[name]) if name in trial.values else "" for name in names]
        writer.writerow(
            [trial.number, trial.state, f"{trial.seconds:.0f}", *changed, *values, trial.reason]
        )
    write_file(root / SHEET, [buffer.getvalue().encode()])
    write_file(root / PAGE, [page(root, trials, definition).encode()])
    top = best(trials, definition)
    if top is not None:
        head = f"# trial {top.number} of a sweep of {definition.spec.name}: {sentence(top, definition)}\n"
        # As it was trained, not rendered anew: a later release may write other defaults.
        spec = (folder_of(root, top.number) / "spec.txt").read_bytes()
        write_file(root / BEST, [head.encode(), spec])


def page(root: Path, trials: Sequence[Trial], definition: Definition) -> str:
    """Returns the page: the best, all trials, curves, importance, failures."""
    top = best(trials, definition)
    parts: list[Part] = []
    if top is not None:
        parts.append(Text(f"Best: {sentence(top, definition)}", "good"))
    elif why := without_best(trials, definition):
        parts.append(Text(f"{why[0].upper()}{why[1:]}", "warning"))
    if len(definition.objectives) > 1:
        numbers = ", ".join(str(trial.number) for trial in front(trials, definition))
        parts.append(Text(f"Not beaten in all objectives: trials {numbers or '-'}", "note"))
    tones: dict[int, Tone] = {n: _TONES[t.state] for n, t in enumerate(trials) if t.state in _TONES}
    rows = [_row(trial, trials, definition) for trial in trials]
    parts.append(Table(_headings(trials, definition), rows, tones=tones))
    sections = [Section("Trials", parts), _curves(root, trials, definition)]
    weights = importance(trials, definition)
    if weights:
        name = next(iter(definition.objectives))
        chart = Chart(charts.bars(weights), f"fraction of the variation of {name} (PED-ANOVA)")
        sections.append(Section("Importance", [chart]))
    failed = [trial for trial in trials if trial.state == "failed"]
    if failed:
        lines = {t.number: last_lines(folder_of(root, t.number))[-3:] for t in failed}
        rows = [[str(t.number), t.reason, " | ".join(lines[t.number])] for t in failed]
        sections.append(Section("Failures", [Table(["trial", "reason", "last lines"], rows)]))
    count = sum(trial.state == "done" for trial in trials)
    subtitle = f"{count} of {len(trials)} trials done; {definition.spec.name}"
    return html(f"Sweep {definition.path.stem}", subtitle, sections)


def importance(trials: Sequence[Trial], definition: Definition) -> dict[str, float]:
    """Returns field -> importance for the first objective; empty without Optuna or with few trials.

    Source: Watanabe et al., PED-ANOVA, 2023 (arXiv:2304.10255), as Optuna computes it.
    """
    done = [trial for trial in trials if trial.state == "done"]
    # PED-ANOVA compares the best tenth with the rest, which is chance in three trials.
    if len(done) < 4 or not definition.space:
        return {}
    try:
        optuna: Any = require("optuna", extra="sweep", purpose="the importance of fields")
    except MissingDependencyError:  # a page without this section is a page all the same
        return {}
    from rcnn_jax.sweep.samplers import distribution_of, stored

    # It reports every study it makes; this one is made anew with each page.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    name, direction = next(iter(definition.objectives.items()))
    study = optuna.create_study(direction=f"{direction}imize")
    distributions = {f: distribution_of(optuna, each) for f, each in definition.space.items()}
    for trial in done:
        params = {f: stored(definition.space[f], value) for f, value in trial.overrides.items()}
        study.add_trial(
            optuna.trial.create_trial(
                params=params, distributions=distributions, value=trial.values[name]
            )
        )
    try:
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        scores = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (ValueError, RuntimeError):  # all values equal, for example
        return {}
    return {_short(field): float(value) for field, value in scores.items()}


def _curves(root: Path, trials: Sequence[Trial], definition: Definition) -> Section:
    name, direction = next(iter(definition.objectives.items()))
    series: dict[str, list[tuple[float, float]]] = {}
    for trial in trials:
        folder = folder_of(root, trial.number)
        # Size and speed have no curve; the main metric of the run stands in.
        metric = name if name not in ("parameters", "seconds", "latency_ms") else metric_of(folder)
        points = [(r["step"], r[metric]) for r in validations(folder) if metric in r]
        if points:
            series[f"trial {trial.number}"] = points
    sign = 1 if direction == "max" else -1
    ranked = sorted(series.items(), key=lambda pair: -sign * max(y for _, y in pair[1]))
    return Section(
        "Validations",
        [Chart(charts.lines(dict(ranked[:_CURVES]), "step", name), f"the {_CURVES} best trials")],
    )


def _fields(trials: Sequence[Trial]) -> list[str]:
    return list(dict.fromkeys(name for trial in trials for name in trial.overrides))


def _headings(trials: Sequence[Trial], definition: Definition) -> list[str]:
    values = list(dict.fromkeys([*definition.objectives, *sorted(definition.measures)]))
    return ["trial", "state", *map(_short, _fields(trials)), *values, "minutes"]


def _row(trial: Trial, trials: Sequence[Trial], definition: Definition) -> list[str]:
    values = list(dict.fromkeys([*definition.objectives, *sorted(definition.measures)]))
    return [
        str(trial.number),
        trial.state,
        *(_shown(trial.overrides.get(name, "-")) for name in _fields(trials)),
        *(charts.number(trial.values[n]) if n in trial.values else "-" for n in values),
        f"{trial.seconds / 60:.1f}",
    ]


def _short(field: str) -> str:
    """Returns the last name of a path, which is what people call a field."""
    return field.rsplit(".", 1)[-1]


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
