"""metrics.html: curves of a run in one file that a browser opens while it trains.

    metrics.jsonl --- read anew at a milestone ---> metrics.html

Made from the file and not from what this process has seen: a run that was resumed shows its whole life.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.report.charts import lines, number
from rcnn_jax.report.page import Beside, Chart, Section, Table, Text, html
from rcnn_jax.train.run_folder import METRICS_FILE, METRICS_PAGE

_SECONDS_BETWEEN = 20
"""Least time between two pages: epochs of a tiny set take a second, and a page reads the whole file."""
_NO_CURVES = ("step", "epoch", "kind")

Points = list[tuple[float, float]]


def write_metrics_page(folder: Path, main_metric: str, progress: str, *, finished: bool) -> None:
    """Writes metrics.html beside metrics.jsonl, unless one of the last seconds is there.

    Args:
      folder: of the run; without metrics.jsonl nothing is written.
      main_metric: the one that chooses the best model.
      progress: line below the title. Without times or paths: a run that was killed and resumed ends
        with the very same page.
      finished: the run is over; the page is written in any case, and a browser loads it no more.
    """
    ledger, path = folder / METRICS_FILE, folder / METRICS_PAGE
    if not ledger.exists() or not (finished or _is_older(path, _SECONDS_BETWEEN)):
        return
    page = html(
        "Training",
        progress,
        sections(read_rows(ledger), main_metric),
        refresh=None if finished else _SECONDS_BETWEEN,
    )
    write_file(path, [page.encode()])


def read_rows(path: Path) -> list[Mapping[str, Any]]:
    """Returns the lines of metrics.jsonl."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def sections(rows: Sequence[Mapping[str, Any]], main_metric: str) -> list[Section]:
    """Returns curves of validations and losses, and the table of validations.

    Args:
      rows: of metrics.jsonl, in order; a value that was not finite is None.
      main_metric: the one that chooses the best model.
    """
    taken = [row for row in rows if row["kind"] == "train"]
    scored = [row for row in rows if row["kind"] == "evaluate"]
    losses = _curves(taken, skip=("learning_rate",))
    return [
        _validations(scored, main_metric),
        Section(
            "Losses",
            [
                Beside(
                    [
                        Chart(lines({"": points}, "step", name), "" if name != "loss" else _LOSS)
                        for name, points in sorted(
                            losses.items(), key=lambda item: item[0] != "loss"
                        )
                    ]
                )
            ],
        ),
        Section(
            "Learning rate",
            [Chart(lines({"": _curves(taken).get("learning_rate", [])}, "step", "learning rate"))],
        ),
    ]


_LOSS = "The sum of all terms: of one step each, so it jitters; the trend counts."


def _validations(scored: Sequence[Mapping[str, Any]], main_metric: str) -> Section:
    if not scored:
        text = "No validation yet: without one, nothing says how good the model is."
        return Section("Validation", [Text(text, "note")])
    curves = _curves(scored)
    best = max(scored, key=lambda row: _value(row.get(main_metric)))
    mark = (float(best["step"]), _value(best.get(main_metric)), "best")
    names = [name for name in curves if name != main_metric]
    which = f"best.tlt is the model of step {best['step']}."
    table = Table(
        ["step", "epoch", main_metric, *names],
        [
            [str(row["step"]), str(row["epoch"])]
            + [number(_value(row.get(name))) for name in (main_metric, *names)]
            for row in scored
        ],
    )
    if len(scored) == 1:  # a line of one point is an empty chart
        return Section("Validation", [Text(which), table])
    curve = lines(
        {"": curves.get(main_metric, [])},
        "step",
        main_metric,
        marks=[mark] if math.isfinite(mark[1]) else [],
    )
    return Section("Validation", [Chart(curve, which), table])


def _curves(rows: Sequence[Mapping[str, Any]], skip: Sequence[str] = ()) -> dict[str, Points]:
    """Returns (step, value) of every number in the rows; the finite ones."""
    curves: dict[str, Points] = {}
    for row in rows:
        for name, value in row.items():
            if name not in (*_NO_CURVES, *skip) and value is not None:
                curves.setdefault(name, []).append((float(row["step"]), float(value)))
    return curves


def _is_older(path: Path, seconds: float) -> bool:
    try:
        return time.time() - path.stat().st_mtime >= seconds
    except FileNotFoundError:
        return True


def _value(value: float | None) -> float:
    return -math.inf if value is None else float(value)
