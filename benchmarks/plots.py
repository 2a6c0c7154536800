"""One picture per suite: a group of lines per benchmark, a line per contestant."""

from pathlib import Path
from typing import Any

_OURS, _REFERENCE = "#2a6f97", "#222222"
_PEERS = ("#c9793a", "#8a9a5b", "#9a6b9b")
_GAP = 0.7  # between benchmarks, in rows of the picture


def write_plot(suite: dict[str, Any], path: Path) -> bool:
    """Draws medians, and lines from the fastest round to the slowest, on a logarithmic axis.

    Returns:
      False where there is nothing to draw, or no matplotlib to draw with.
    """
    benchmarks = [one for one in suite["benchmarks"] if one["sides"]]
    if not benchmarks:
        return False
    try:
        # Without pyplot: no display is asked for, and no figure stays open.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogFormatter
    except ImportError:
        return False
    names = _side_names(benchmarks)
    colors = dict(zip(names, (_OURS, *_PEERS), strict=False))
    lines = sum(len(one["sides"]) for one in benchmarks)
    figure = Figure(figsize=(9, 1.4 + 0.3 * (lines + _GAP * len(benchmarks))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    position, ticks = 0.0, []
    labelled: set[str] = set()
    for one in benchmarks:
        first = position
        for side in one["sides"]:
            # A label once per contestant, or the legend would repeat it for every benchmark.
            label = None if side["name"] in labelled else side["name"]
            labelled.add(side["name"])
            color = colors.get(side["name"], _PEERS[-1])
            span = (1e3 * side["min"], 1e3 * side["max"])
            axes.plot(span, (position, position), color=color, linewidth=2.5, alpha=0.5)
            axes.plot(1e3 * side["median"], position, "o", color=color, label=label)
            position += 1
        if one["reference"]:
            middle, height = (first + position - 1) / 2, position - first
            low, high = 1e3 * one["reference"]["low"], 1e3 * one["reference"]["high"]
            label = None if "reference" in labelled else "reference"
            labelled.add("reference")
            style = {"color": _REFERENCE, "linewidth": 1.5, "linestyle": ":"}
            for value in sorted({low, high}):
                ends = (middle - height / 2, middle + height / 2)
                axes.plot([value, value], ends, label=label, **style)
                label = None
        ticks.append(((first + position - 1) / 2, one["name"]))
        position += _GAP
    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter(LogFormatter())  # 1300, not 1.3 x 10^3: a narrow range has many
    axes.set_xlabel("milliseconds per call: median, fastest to slowest round")
    axes.set_yticks([tick for tick, _ in ticks], [name for _, name in ticks])
    axes.invert_yaxis()
    axes.grid(axis="x", which="major", alpha=0.4)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(suite["suite"], loc="left")
    figure.legend(loc="outside lower center", ncols=len(labelled), frameon=False)
    figure.savefig(path, dpi=110)
    return True


def _side_names(benchmarks: list[dict[str, Any]]) -> list[str]:
    """Returns the contestants of all benchmarks in the order they first appear, ours first."""
    return list(dict.fromkeys(side["name"] for one in benchmarks for side in one["sides"]))
