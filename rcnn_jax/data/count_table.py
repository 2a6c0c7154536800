"""Table of object counts by class and of omissions, the same for every command."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from rcnn_jax.data.findings import Finding, merged
from rcnn_jax.reporter import Reporter


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: a part of the data.

    Attributes:
      name: heading, for example `training` or `fold 0 of 2`.
      images: number of images.
      objects: class name -> number of objects that count in training or evaluation.
      findings: omissions and other observations.
    """

    name: str
    images: int
    objects: Mapping[str, int]
    findings: tuple[Finding, ...] = ()


def counts_table(columns: Sequence[Column]) -> Table:
    """Returns a table with a row per class, a row per kind of omission, and sums at the bottom."""
    table = Table(show_footer=True)
    table.add_column("class", "objects\nimages")
    for column in columns:
        total = f"{sum(column.objects.values()):,}\n{column.images:,}"
        table.add_column(column.name, total, justify="right")
    # A dict keeps the order of classes; a set would shuffle the rows from run to run.
    for name in dict.fromkeys(name for column in columns for name in column.objects):
        table.add_row(name, *(f"{column.objects.get(name, 0):,}" for column in columns))
    omitted = [_rows(column.findings) for column in columns]
    names = list(dict.fromkeys(name for rows in omitted for name in rows))
    if names:
        table.add_section()
    for name in names:
        table.add_row(name, *(f"{rows[name]:,}" if name in rows else "" for rows in omitted))
    return table


def report_findings(findings: Sequence[Finding], reporter: Reporter) -> None:
    """Reports findings that need a sentence: the first example, and the remedy."""
    for item in merged(findings):
        if item.sentence:
            (reporter.note if item.severity == "note" else reporter.warn)(item.sentence)


def _rows(findings: Sequence[Finding]) -> dict[str, int]:
    rows: dict[str, int] = {}
    for item in findings:
        if item.row:
            rows[item.row] = rows.get(item.row, 0) + item.count
    return rows
