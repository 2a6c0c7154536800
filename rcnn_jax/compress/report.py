"""Report of a pruning: a table of layers, sentences, a picture, JSON values."""

import io
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.table import Table

from rcnn_jax.compress.costs import Costs
from rcnn_jax.compress.criteria import PruneSettings, Scores, held_by_floor
from rcnn_jax.compress.groups import Network, kernel_of

_SHOWN = 5
_EVEN = 8
"""Kernels of GPUs and int8 work on this many channels at a time."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The network at one threshold.

    Attributes:
      threshold: what scores are compared with.
      kept: bool by class of channels.
      widths: {layer: filters kept}.
      costs: of the smaller network.
      seconds: of a prediction, where it was measured.
    """

    threshold: float
    kept: np.ndarray
    widths: dict[str, int]
    costs: Costs
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All that is told of a pruning.

    Attributes:
      network: before.
      scores: of its groups.
      settings: how filters were chosen.
      costs: before.
      canvas: (height, width) that FLOP are counted on.
      choices: one for each threshold.
      seconds: of a prediction before, where it was measured.
    """

    network: Network
    scores: tuple[Scores, ...]
    settings: PruneSettings
    costs: Costs
    canvas: tuple[int, int]
    choices: tuple[Choice, ...]
    seconds: float | None = None


def widths_at(network: Network, kept: np.ndarray) -> dict[str, int]:
    """Returns {layer: filters kept}."""
    widths = {}
    for layer, width in network.widths.items():
        classes = network.channels.leaves[kernel_of(layer)][-1]
        widths[layer] = width if classes is None else int(kept[classes].sum())
    return widths


def layer_table(summary: Summary) -> Table:
    """Returns the table: kept / total of every layer, its group, and what decided."""
    several = len(summary.choices) > 1
    table = Table(title=f"Filters kept / all, -eq {summary.settings.criterion}")
    table.add_column("Layer", no_wrap=True)
    for choice in summary.choices:
        name = shown(choice.threshold)
        table.add_column(name if several else f"-pth {name}", justify="right", no_wrap=True)
    table.add_column("Group", justify="right")
    table.add_column("Decided by, or kept because")
    numbers, deciders = _groups_of(summary), _deciders(summary)
    for layer, width in summary.network.widths.items():
        cells = [f"{choice.widths[layer]} / {width}" for choice in summary.choices]
        table.add_row(layer, *cells, numbers[layer], deciders[layer])
    return table


def cost_table(summary: Summary) -> Table:
    """Returns the table of parameters, GFLOP and bytes, one row for each threshold."""
    height, width = summary.canvas
    table = Table(title=f"Costs of a prediction at {height}x{width}; the ONNX size is predicted")
    for name in ("", "Parameters", "of all", "GFLOP", "of all", "ONNX MB"):
        table.add_column(name, justify="right", no_wrap=True)
    if summary.seconds is not None:
        table.add_column("ms in JAX", justify="right", no_wrap=True)
        table.add_column("of all", justify="right", no_wrap=True)
    rows = [("before", summary.costs, summary.seconds)]
    rows += [(f"-pth {shown(c.threshold)}", c.costs, c.seconds) for c in summary.choices]
    for name, costs, seconds in rows:
        times = []
        if summary.seconds is not None and seconds is not None:
            times = [f"{1e3 * seconds:.1f}", f"{seconds / summary.seconds:.1%}"]
        table.add_row(
            name,
            f"{costs.parameters:,}",
            f"{costs.parameters / summary.costs.parameters:.1%}",
            f"{costs.flops / 1e9:.3f}",
            f"{costs.flops / summary.costs.flops:.1%}",
            f"{costs.onnx_bytes / 1e6:.2f}",
            *times,
        )
    return table


def no_rule_warnings(network: Network) -> Iterator[str]:
    """Yields a sentence for every primitive without a channel rule, with the layers that it pins."""
    pinned: dict[str, list[str]] = {}
    for group in network.groups:
        if group.pin is not None and group.pin.primitive:
            pinned.setdefault(group.pin.reason, []).extend(group.layers)
    for reason, layers in pinned.items():
        yield f"{_names(list(dict.fromkeys(layers)))} cannot be pruned: {reason}"


def floor_notes(summary: Summary, choice: Choice) -> Iterator[str]:
    """Yields a sentence on the layers that kept filters below the threshold."""
    held = [
        group
        for group in summary.scores
        if held_by_floor(group, choice.threshold, summary.settings)
    ]
    if held:
        layers = [layer for group in held for layer in group.group.layers]
        empty = sum(not (group.values > choice.threshold).any() for group in held)
        would = f", {empty} of them would be empty" if empty else ""
        groups = "1 group has" if len(held) == 1 else f"{len(held)} groups have"
        yield (
            f"-pth {shown(choice.threshold)}: {groups} fewer than "
            f"{summary.settings.min_filters} filters above it{would}; the floor -nf "
            f"{summary.settings.min_filters} held in {_names(layers)}"
        )


def uneven_layers(choice: Choice, network: Network) -> list[str]:
    """Returns the layers that were cut to a width that is no multiple of 8."""
    return [
        layer
        for layer, width in choice.widths.items()
        if width % _EVEN and width < network.widths[layer]
    ]


def shown(threshold: float) -> str:
    """Returns a threshold in at most four digits, rounded up so that typing it does as much."""
    if threshold <= 0:
        return "0"
    digits = 3 - math.floor(math.log10(threshold))
    if digits > 12:
        return f"{threshold:.1e}"
    scale = 10**digits
    rounded = math.ceil(threshold * scale - 1e-9) / scale
    return f"{rounded:.{digits}f}".rstrip("0").rstrip(".")


def as_json(summary: Summary) -> dict[str, Any]:
    """Returns everything as JSON values."""
    numbers, deciders = _groups_of(summary), _deciders(summary)
    return {
        "settings": asdict(summary.settings),
        "canvas": list(summary.canvas),
        "before": {**asdict(summary.costs), "seconds": summary.seconds},
        "layers": [
            {"name": name, "filters": width, "group": numbers[name], "decided_by": deciders[name]}
            for name, width in summary.network.widths.items()
        ],
        "thresholds": [
            {
                "threshold": c.threshold,
                **asdict(c.costs),
                "seconds": c.seconds,
                "kept": c.widths,
            }
            for c in summary.choices
        ],
    }


def json_bytes(summary: Summary) -> bytes:
    """Returns `as_json` as the content of a file."""
    return (json.dumps(as_json(summary), indent=1) + "\n").encode()


def picture(summary: Summary) -> bytes:
    """Returns a PNG with a bar for each layer: the part of its filters kept at each threshold."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    totals = summary.network.widths
    rows = np.arange(len(totals))
    figure = Figure(figsize=(9, 1.5 + 0.16 * len(totals)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.barh(rows, 100.0, color="0.9", label="removed")
    ordered = sorted(summary.choices, key=lambda choice: choice.threshold)
    for number, choice in enumerate(ordered):
        part = choice.costs.parameters / summary.costs.parameters
        axes.barh(
            rows,
            [100.0 * choice.widths[layer] / width for layer, width in totals.items()],
            height=0.8 * (1 - number / (len(ordered) + 1)),
            color=f"C{number % 10}",
            label=f"-pth {shown(choice.threshold)}: {part:.1%} of the parameters",
        )
    for row, (layer, width) in enumerate(totals.items()):
        kept = ", ".join(str(choice.widths[layer]) for choice in ordered)
        axes.text(101, row, f"{kept} / {width}", fontsize=6, va="center")
    axes.set_yticks(rows, list(totals), fontsize=6)
    axes.set_ylim(len(totals) - 0.5, -0.5)
    axes.set_xlim(0, 100 + 8 + 3 * len(ordered))
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("filters kept, %")
    figure.legend(loc="outside upper center", ncols=3, fontsize=7)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


def _groups_of(summary: Summary) -> dict[str, str]:
    """Returns {layer: numbers of its groups}; layers of one number share their decisions."""
    numbers: dict[str, list[int]] = {layer: [] for layer in summary.network.widths}
    for number, group in enumerate(summary.network.groups, start=1):
        for layer in group.layers:
            numbers[layer].append(number)
    return {layer: ", ".join(map(str, groups)) for layer, groups in numbers.items()}


def _deciders(summary: Summary) -> dict[str, str]:
    """Returns {layer: the layers whose norms decided, or why it keeps all filters}."""
    reasons: dict[str, list[str]] = {layer: [] for layer in summary.network.widths}
    for group in summary.network.groups:
        if group.pin is not None:
            for layer in group.layers:
                own = any(group.pin.reason == other for other in reasons[layer])
                reasons[layer] += [] if own else [group.pin.reason]
    for scores in summary.scores:
        text = _decider(scores)
        for layer in scores.group.layers:
            reasons[layer].append(text)
    # a width of 1 has no channels to choose from
    return {
        layer: "; ".join(dict.fromkeys(texts)) or "one filter" for layer, texts in reasons.items()
    }


def _decider(scores: Scores) -> str:
    layers = scores.group.layers
    if len(layers) == 1:
        return "itself"
    if (scores.decided_by < 0).all():
        return f"mean of {len(layers)} layers"
    ((first, count), *_) = Counter(scores.decided_by.tolist()).most_common()
    return f"{layers[first]} ({count} of {len(scores.values)})"


def _names(layers: Sequence[str]) -> str:
    more = len(layers) - _SHOWN
    listed = ", ".join(layers[:_SHOWN])
    return f"{listed} and {more} more" if more > 0 else listed
