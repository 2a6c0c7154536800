"""Report of a search: a table, and one HTML page with the candidates over latency and metric."""

from collections.abc import Sequence

from rich.table import Table as ConsoleTable

from rcnn_jax.pareto.candidate import Candidate, Result, best, front
from rcnn_jax.report import charts
from rcnn_jax.report.page import Chart, Part, Section, Table, Text, Tone, html

PAGE = "compress.html"


def headings(metric: str) -> list[str]:
    """Returns the heads of the columns."""
    return ["Parameters", "precision", f"{metric} (%)", "loss", "latency", "MB", "front", "reason"]


def row(result: Result, results: Sequence[Result]) -> list[str]:
    """Returns the cells of a result; loss is in points, latency a part of the float model's."""
    kept = f"{result.parameters:,}" if result.parameters else f"{result.candidate.keep:.0%}"
    if result.reason:
        return [kept, result.candidate.precision, "failed", "-", "-", "-", "", result.reason]
    return [
        kept,
        result.candidate.precision,
        f"{100 * result.metric:.2f}",
        f"{result.drop(results[0]):+.2f}",
        f"{result.latency:.2f}",
        f"{result.size / 1e6:.2f}",
        "yes" if result in front(results) else "",
        "",
    ]


def _short(candidate: Candidate) -> str:
    """Returns the text at a candidate's point: one of words would cover its neighbours."""
    return f"{candidate.keep:.0%} {candidate.precision}"


def table(results: Sequence[Result], metric: str, max_drop: float) -> ConsoleTable:
    """Returns the results as a table for the console, the chosen one marked; reasons are on the page."""
    top = best(results, results[0], max_drop)
    shown = ConsoleTable()
    for heading in headings(metric)[:-1]:
        shown.add_column(heading, overflow="fold")
    for result in results:
        style = "bold green" if result == top else "red" if result.reason else ""
        shown.add_row(*row(result, results)[:-1], style=style)
    return shown


def page(results: Sequence[Result], title: str, metric: str, max_drop: float, target: str) -> str:
    """Returns the page: the choice, the drawing, all candidates.

    Args:
      results: the float model first.
      title: name of the model.
      metric: its name.
      max_drop: points that may be lost.
      target: what measured the latency.
    """
    top = best(results, results[0], max_drop)
    parts: list[Part] = []
    if top is not None:
        parts.append(
            Text(
                f"Fastest with a loss of at most {max_drop:g} points: {top.candidate}: "
                f"{top.latency:.2f} of the latency, {top.drop(results[0]):+.2f} points lost",
                "good",
            )
        )
    done = [result for result in results if not result.reason]
    line = [(each.latency, 100 * each.metric) for each in front(results)]
    marks = [(each.latency, 100 * each.metric, _short(each.candidate)) for each in done]
    drawing = charts.lines(
        {"front": line}, f"latency in {target}, float = 1", f"{metric} (%)", marks=marks
    )
    parts.append(
        Chart(
            drawing,
            "every candidate, with the part of the parameters it keeps; the line joins those that no "
            "other one beats in both",
        )
    )
    tones: dict[int, Tone] = {
        number: "error" if each.reason else "good"
        for number, each in enumerate(results)
        if each.reason or each == top
    }
    rows = [row(each, results) for each in results]
    parts.append(Table(headings(metric), rows, tones=tones))
    subtitle = f"{len(done)} candidates measured in {target}"
    return html(f"Compression of {title}", subtitle, [Section("Candidates", parts)])
