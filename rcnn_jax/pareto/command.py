"""Compression as a function: model, spec and folder in, the fastest model that is good enough out."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ml_collections import ConfigDict

from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.errors import DataError, TrainingError
from rcnn_jax.pareto import report
from rcnn_jax.pareto.candidate import Candidate, Result, best
from rcnn_jax.pareto.search import search
from rcnn_jax.pareto.workshop import TimeUp, Workshop
from rcnn_jax.reporter import Reporter
from rcnn_jax.runtime.bundle import OpenBundle
from rcnn_jax.runtime.latency import Runtime
from rcnn_jax.runtime.open import experiment_of
from rcnn_jax.spec.render import render
from rcnn_jax.sweep.executors import Local
from rcnn_jax.sweep.state import State, open_state, write_state
from rcnn_jax.tasks.families import family

STATE = "compress.json"


@dataclass(frozen=True, kw_only=True)
class CompressOptions:
    """Options of a search.

    Attributes:
      max_drop: points of the metric that may be lost.
      target: what runs the exported files.
      metric: of the evaluation; None for the main one of the spec.
      least: smallest fraction of the parameters that is tried.
      minutes: of all starts of this search together; None without a limit.
      key: of encrypted files.
    """

    max_drop: float = 0.5
    target: Runtime = "onnxruntime"
    metric: str | None = None
    least: float = 0.0
    minutes: float | None = None
    key: str | None = field(default=None, repr=False)


def compress(
    model: OpenBundle,
    config: ConfigDict,
    root: Path,
    options: CompressOptions,
    reporter: Reporter,
) -> list[Result]:
    """Searches the fastest model that loses no more than it may; returns all that was measured.

    Args:
      model: the model as it is, opened.
      config: of a spec with data and a schedule.
      root: folder of the search; one that is there goes on.
      options: bar, target, budget.
      reporter: told what happens.

    Raises:
      UsageError: the folder holds another search.
      DataError: the spec names no validation data.
      TrainingError: the model itself cannot be exported and measured.
    """
    kind = model.origin.kind
    experiment = experiment_of(model, config, kind, own_classes=False, reporter=reporter)
    if experiment.eval_source is None:
        raise DataError(
            "no candidate can be better than another without validation data: set "
            f"{family(kind).validation_fields}"
        )
    metric = options.metric or experiment.metrics.main_metric
    state = State(
        path=root / STATE,
        what="search",
        field="search",
        digest=_digest(model.path, render(config, kind), options, metric),
        refusal="holds a search with another model, spec, target or metric: name another folder with -d",
    )
    spent = open_state(state)
    began = time.monotonic()
    budget = float("inf") if options.minutes is None else 60 * options.minutes - spent
    executor = Local(1)
    workshop = Workshop(
        kind=kind,
        model=model.path,
        config=config,
        root=root,
        target=options.target,
        metric=metric,
        key=options.key,
        deadline=began + budget,
        reporter=reporter,
        executor=executor,
    )
    results: list[Result] = []

    def measured(candidate: Candidate) -> Result:
        result = workshop.measure(candidate)
        results.append(result)
        # Not at the end alone: a start that is killed outright has used up its part of the budget too.
        write_state(state, spent + time.monotonic() - began)
        _say(result, results[0], metric, reporter)
        _show(root, results, model.path.name, metric, options)
        return result

    try:
        search(measured, options.max_drop, options.least)
    except TimeUp:
        reporter.note("the time of the search is up: the same command with more --minutes goes on")
    finally:
        executor.close()
        write_state(state, spent + time.monotonic() - began)
    if results and results[0].reason:
        raise TrainingError(f"{model.path}: cannot be measured as it is: {results[0].reason}")
    if results:
        _conclude(workshop, results, metric, options)
    return results


def _conclude(
    workshop: Workshop, results: Sequence[Result], metric: str, options: CompressOptions
) -> None:
    console = workshop.reporter.console
    console.print(report.table(results, metric, options.max_drop))
    top = best(results, results[0], options.max_drop)
    if top is not None:
        console.print(
            f"fastest with a loss of at most {options.max_drop:g} points of {metric}: {top.candidate}: "
            f"{workshop.graph_file(top.candidate)} (model: {workshop.model_file(top.candidate)})",
            markup=False,
        )
    console.print(f"report: {workshop.root / report.PAGE}", markup=False)


def _say(result: Result, baseline: Result, metric: str, reporter: Reporter) -> None:
    text = (
        f"failed: {result.reason}"
        if result.reason
        else f"{metric} {100 * result.metric:.2f} ({result.drop(baseline):+.2f} lost), "
        f"{result.latency:.2f} of the latency, {result.size / 1e6:.2f} MB"
    )
    reporter.console.print(f"{result.candidate}: {text}", markup=False, highlight=False)


def _show(
    root: Path, results: Sequence[Result], title: str, metric: str, options: CompressOptions
) -> None:
    text = report.page(results, title, metric, options.max_drop, options.target)
    write_file(root / report.PAGE, [text.encode()])


def _digest(model: Path, spec: str, options: CompressOptions, metric: str) -> str:
    """Changes with what results depend on; bar, least fraction and budget may be others."""
    parts = (hashlib.sha256(model.read_bytes()).hexdigest(), spec, options.target, metric)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
