"""Pruning as a function: from an open model file to a smaller one."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.checkpoints.bundle import write_bundle
from rcnn_jax.checkpoints.state import with_weights
from rcnn_jax.compress import report
from rcnn_jax.compress.costs import costs_of
from rcnn_jax.compress.criteria import (
    PruneSettings,
    Scores,
    kept_classes,
    lowest_threshold,
    score_groups,
)
from rcnn_jax.compress.groups import Network, find_groups, flat
from rcnn_jax.compress.latency import latency
from rcnn_jax.compress.prune import pruned_bundle, trained_filters
from rcnn_jax.compress.qat import float_variables, in_float
from rcnn_jax.compress.search import threshold_for
from rcnn_jax.data.loader.images import canvas_size
from rcnn_jax.errors import UsageError
from rcnn_jax.reporter import SILENT, Reporter
from rcnn_jax.runtime.bundle import OpenBundle
from rcnn_jax.settings.data import GeometrySettings
from rcnn_jax.tasks.experiment import Experiment

EVEN = 8
"""Granularity below which a network becomes smaller and hardly faster."""
LONG_SIDE = 4 / 3
"""Of an image, times the short one, where the canvas follows the image and no long side is named."""


@dataclass(frozen=True, kw_only=True)
class PruneOptions:
    """Options of pruning: criterion, threshold, layers.

    Attributes:
      output: file of the smaller model; None for a dry run.
      key: encrypts it; None leaves it open.
      thresholds: those to look at; the model is written for the only one.
      keep_params: fraction of the parameters to keep, in (0, 1), instead of thresholds.
      keep_flops: the same of the FLOP.
      settings: how filters are chosen.
      excluded: layers that keep all filters.
      picture: PNG of the kept filters, or None.
      table: JSON file of everything that is printed, or None.
      latency: measure predictions before and after, which compiles a program for each.
    """

    output: Path | None = None
    key: str | None = None
    thresholds: tuple[float, ...] = (0.1,)
    keep_params: float | None = None
    keep_flops: float | None = None
    settings: PruneSettings = PruneSettings()
    excluded: tuple[str, ...] = ()
    picture: Path | None = None
    table: Path | None = None
    latency: bool = False


def prune(
    opened: OpenBundle,
    experiment: Experiment,
    options: PruneOptions,
    reporter: Reporter = SILENT,
) -> report.Summary:
    """Prunes a model, tells what became of it, and writes it unless that is a dry run.

    Args:
      opened: the model.
      experiment: what it was trained by.
      options: how far.
      reporter: told of tables and advice.

    Raises:
      CheckpointError: the file is of another model, or cannot be written.
      UsageError: a layer or a fraction that does not exist.
    """
    experiment, variables = opened.load(experiment)
    if experiment.task.model.quant.sites:
        # Ranges are of the wider network, and the exporter rounds no layer that becomes narrow.
        reporter.note(
            "the model was trained with fake quantisation: its ranges are left out; retrain with "
            "enable_qat to calibrate those of the smaller one"
        )
        experiment, variables = in_float(experiment), float_variables(variables)
    canvas = _canvas(experiment.geometry)
    network = find_groups(experiment, options.excluded, canvas=canvas)
    arrays = flat(variables)
    filters = trained_filters(opened.bundle, arrays, network, str(opened.path))
    scores = score_groups(network, filters, options.settings)
    thresholds = _thresholds(network, scores, options, reporter)
    choices = [_choice(network, scores, value, options) for value in thresholds]
    smaller = [
        pruned_bundle(
            opened.bundle, arrays, network, filters, choice.kept, _record(choice, options)
        )
        for choice in choices
        if options.latency or options.output is not None
    ]
    # The sliced weights are held against the network of the new widths: a wrong group ends here.
    loaded = [with_weights(experiment, bundle, str(options.output)) for bundle in smaller]
    seconds = None
    if options.latency:
        seconds = latency(experiment, variables, canvas)
        choices = [
            replace(choice, seconds=latency(*model, canvas))
            for choice, model in zip(choices, loaded, strict=True)
        ]
    summary = report.Summary(
        network=network,
        scores=scores,
        settings=options.settings,
        costs=costs_of(network.channels, network.shapes, np.ones(network.count, bool)),
        canvas=canvas,
        choices=tuple(choices),
        seconds=seconds,
    )
    _tell(summary, options, reporter)
    if options.output is not None:
        write_bundle(options.output, smaller[0], options.key)
        reporter.console.print(f"wrote {options.output}", markup=False)
    if options.picture is not None:
        write_file(options.picture, [report.picture(summary)])
    if options.table is not None:
        write_file(options.table, [report.json_bytes(summary)])
    return summary


def _record(choice: report.Choice, options: PruneOptions) -> dict[str, Any]:
    """Returns the settings that the header of the smaller model keeps."""
    return {
        **asdict(options.settings),
        "threshold": choice.threshold,
        "excluded": list(options.excluded),
    }


def _canvas(geometry: GeometrySettings) -> tuple[int, int]:
    """Returns the (height, width) that FLOP are counted on."""
    short = geometry.short_side
    return canvas_size((short, geometry.long_side or round(short * LONG_SIDE)), geometry)


def _choice(
    network: Network, scores: Sequence[Scores], threshold: float, options: PruneOptions
) -> report.Choice:
    kept = kept_classes(network, scores, threshold, options.settings)
    return report.Choice(
        threshold=threshold,
        kept=kept,
        widths=report.widths_at(network, kept),
        costs=costs_of(network.channels, network.shapes, kept),
    )


def _thresholds(
    network: Network, scores: tuple[Scores, ...], options: PruneOptions, reporter: Reporter
) -> tuple[float, ...]:
    """Returns the thresholds given, or the one that leaves the wanted fraction.

    Raises:
      UsageError: the network cannot be made so small.
    """
    for flag, what, wanted in (
        ("--keep-params", "parameters", options.keep_params),
        ("--keep-flops", "flops", options.keep_flops),
    ):
        if wanted is None:
            continue

        def cost(threshold: float, what: str = what) -> int:
            return getattr(_choice(network, scores, threshold, options).costs, what)

        whole = cost(0.0)
        lowest = threshold_for(scores, cost, wanted * whole)
        if lowest is None:
            least = cost(float("inf")) / whole
            held = options.settings
            raise UsageError(
                f"{flag} {wanted}: the least that can be kept is {least:.3f}, with -nf "
                f"{held.min_filters} and -pg {held.granularity}; ask for more, or lower them"
            )
        reporter.note(
            f"{flag} {wanted}: the threshold {report.shown(lowest)} keeps {cost(lowest) / whole:.4f}"
        )
        return (lowest,)
    return options.thresholds


def _tell(summary: report.Summary, options: PruneOptions, reporter: Reporter) -> None:
    for warning in report.no_rule_warnings(summary.network):
        reporter.warn(warning)
    if options.settings.granularity % EVEN:
        reporter.warn(
            f"-pg {options.settings.granularity}: kernels of TensorRT and of int8 work on multiples of "
            f"{EVEN} channels; widths in between save parameters and hardly any time"
        )
    reporter.console.print(report.layer_table(summary))
    reporter.console.print(report.cost_table(summary))
    for choice in summary.choices:
        for note in report.floor_notes(summary, choice):
            reporter.note(note)
        if choice.kept.all():
            lowest = lowest_threshold(summary.scores, summary.settings)
            advice = (
                f"the lowest threshold that does is {report.shown(lowest)}"
                if lowest is not None
                else "no threshold does with these -nf and -pg"
            )
            reporter.warn(f"-pth {report.shown(choice.threshold)} removes nothing: {advice}")
        uneven = report.uneven_layers(choice, summary.network)
        if uneven and options.settings.granularity % EVEN == 0:
            reporter.note(
                f"-pth {report.shown(choice.threshold)}: {len(uneven)} layers have a width that is no "
                f"multiple of {EVEN}, among them {uneven[0]}"
            )
        ratio = choice.costs.parameters / summary.costs.parameters
        reporter.console.print(
            f"Pruning ratio (pruned model / original model): {ratio:.6f}", markup=False
        )
    if options.output is not None:
        reporter.note(
            "a pruned model must be retrained: name it in the spec's field for pruned models, "
            "with the base rate of the first training and no or a smaller regularizer"
        )
