"""The table of a benchmark: on the console, and as JSON, CSV and Markdown."""

import csv
import io
import json
import math
import os
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table as ConsoleTable

from rcnn_jax.benchmark.entry import BASELINE, Row
from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.report import page

NAME = "benchmark"
PLACEHOLDER = "-"


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a benchmark measured.

    Attributes:
      model: name of the file.
      metric: main metric of the spec.
      images: number of validation images behind it.
      rounds: timed runs of each row.
      canvas: (height, width) of the input.
      versions: of the runtimes that ran, with their devices.
      rows: in order.
    """

    model: str
    metric: str
    images: int
    rounds: int
    canvas: tuple[int, int]
    versions: tuple[str, ...]
    rows: tuple[Row, ...]

    def headings(self) -> list[str]:
        """Returns the heads of the columns."""
        metric = f"{self.metric} (%)"
        return ["runtime", "precision", "graph", "computes in", metric, "ms", "MB", "remark"]

    def cells(self, row: Row) -> list[str]:
        """Returns a row as text; the remark says where it ran, or why it did not."""
        entry = row.entry
        names = [entry.runtime, entry.precision, entry.form or PLACEHOLDER]
        if row.reason:
            return [*names, *[PLACEHOLDER] * 4, row.reason]
        return [
            *names,
            row.computed,
            percent(row.metrics.get(self.metric)),
            f"{1e3 * row.seconds:.1f}",
            f"{row.size / 1e6:.2f}" if row.size else PLACEHOLDER,
            "" if row.device == "CPU" else row.device,
        ]

    def console(self) -> ConsoleTable:
        """Returns the table for a terminal."""
        shown = ConsoleTable()
        for heading in self.headings()[:-1]:
            number = heading in ("ms", "MB") or heading.endswith("(%)")
            shown.add_column(heading, justify="right" if number else "left", overflow="fold")
        for row in self.rows:
            if not row.reason:
                baseline = (row.entry.runtime, row.entry.precision, row.entry.form) == BASELINE
                shown.add_row(*self.cells(row)[:-1], style="bold" if baseline else "")
        return shown

    def remarks(self) -> list[str]:
        """Returns a line for every row that did not run or ran on another device than the CPU.

        On a terminal a column of reasons would leave the others a letter each.
        """
        remarks = [(row.entry, row.reason or self.cells(row)[-1]) for row in self.rows]
        return [f"{entry}: {remark}" for entry, remark in remarks if remark]

    def markdown(self) -> str:
        """Returns the table as Markdown, with what it was measured on below."""
        rows = [self.cells(row) for row in self.rows]
        return f"{page.Table(self.headings(), rows).markdown()}\n\n{self.conditions()}\n"

    def conditions(self) -> str:
        """Returns how it was measured, in sentences."""
        machine = describe_machine()
        height, width = self.canvas
        return (
            f"{self.model}, input {height}x{width}, one image at a time: {self.metric} on {self.images} "
            f"validation images; milliseconds from pixels on the canvas to detections, the least of "
            f"{self.rounds} rounds in which all rows take turns. {machine['processor']}, "
            f"{machine['cores']} cores, {machine['system']}. {'; '.join(self.versions)}."
        )

    def document(self) -> dict[str, Any]:
        """Returns plain values for JSON; null stands for what was not measured."""
        rows = [
            {
                **asdict(row.entry),
                "metrics": {name: _number(value) for name, value in row.metrics.items()},
                "milliseconds": _number(1e3 * row.seconds),
                "bytes": row.size or None,
                "device": row.device,
                "computes_in": row.computed,
                "reason": row.reason,
            }
            for row in self.rows
        ]
        return {**asdict(self), "rows": rows, "machine": describe_machine()}

    def csv(self) -> str:
        """Returns the table as comma-separated values."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(self.headings())
        writer.writerows(self.cells(row) for row in self.rows)
        return stream.getvalue()


def percent(value: float | None) -> str:
    """Returns a metric in [0, 1] as text; -1 and NaN say that there is no object to detect."""
    return f"{100 * value:.2f}" if value is not None and value >= 0 else PLACEHOLDER


def write_tables(root: Path, table: Table) -> list[Path]:
    """Writes the table in three forms; returns their paths."""
    contents = {
        "json": json.dumps(table.document(), indent=2) + "\n",
        "csv": table.csv(),
        "md": table.markdown(),
    }
    paths = []
    for suffix, text in contents.items():
        paths.append(root / f"{NAME}.{suffix}")
        write_file(paths[-1], [text.encode()])
    return paths


def describe_machine() -> dict[str, Any]:
    """Returns processor, the cores that this process may use, and the system."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return {
        "processor": _processor(),
        "cores": cores,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    # platform.processor() is empty on most Linux systems.
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
