"""The comparison as a function: model, experiment and folder in, a table of what every row measures out.

    entries -> absent runtimes -> for each: graph, runner, average precision -> latency in turns -> tables

A folder goes on: graphs and average precisions that are there are not made again. Latency is, because all
rows must be timed together.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import jax
import numpy as np

from rcnn_jax.benchmark.entry import (
    FORMS,
    ROW_PRECISIONS,
    ROW_RUNTIMES,
    Entry,
    Form,
    Row,
    RowPrecision,
    RowRuntime,
    entries,
    impossible,
    merged,
)
from rcnn_jax.benchmark.graphs import Graphs, NotMade, Quiet
from rcnn_jax.benchmark.runners import Runner, absent, engine_runner, open_runner
from rcnn_jax.benchmark.tables import Table, percent, write_tables
from rcnn_jax.checkpoints.atomic import read_file, write_file
from rcnn_jax.data.loader import images as image_files
from rcnn_jax.data.sources.subset import Subset
from rcnn_jax.errors import DataError, RcnnError, UsageError
from rcnn_jax.export.verification.accuracy import metrics_of
from rcnn_jax.reporter import SILENT, Reporter
from rcnn_jax.runtime.bundle import OpenBundle
from rcnn_jax.runtime.engine import OpenEngine
from rcnn_jax.runtime.graph import OpenGraph
from rcnn_jax.runtime.latency import least_seconds
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.families import family

STATE = "benchmark.state.json"
# ONNX Runtime's threads go on waiting in a loop for a moment after a run, in the time of the next one.
PAUSE = 0.03


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions:
    """What is compared.

    Attributes:
      runtimes: that run the model.
      precisions: of its dense part.
      forms: of its graphs.
      limit: validation images that average precision is measured on, spread over all; None for all.
      rounds: timed runs of each row, after one that warms up.
      key: of an encrypted model.
    """

    runtimes: Sequence[RowRuntime] = ROW_RUNTIMES
    precisions: Sequence[RowPrecision] = ROW_PRECISIONS
    forms: Sequence[Form] = FORMS
    limit: int | None = None
    rounds: int = 20
    key: str | None = field(default=None, repr=False)


def benchmark(
    model: OpenBundle | OpenGraph | OpenEngine,
    experiment: Experiment,
    root: Path,
    options: BenchmarkOptions,
    reporter: Reporter = SILENT,
) -> Table:
    """Measures a model in every runtime and precision, and writes the table.

    Args:
      model: the file, opened.
      experiment: compared with the file; all rows use its `inference` settings, which graphs hold.
      root: folder of graphs, results and tables; one that is there goes on.
      options: the choice.
      reporter: console, progress.

    Returns:
      The table, also written to `benchmark.json`, `.csv` and `.md`.

    Raises:
      DataError: the spec names no validation data, or none that can be used.
      UsageError: the folder holds a benchmark of another model or spec.
      RcnnError: the model or the key cannot be used.
    """
    # A graph has one canvas; the model in JAX gets the same one, and one image at a time like the others.
    experiment = replace(experiment, geometry=experiment.geometry.on_one_canvas(), eval_batch=1)
    images = _images(experiment, options.limit, reporter)
    digest = _open(root, model, experiment)
    graphs = None
    if not isinstance(model, OpenEngine):
        graphs = Graphs(
            model=model,
            experiment=experiment,
            folder=root / "graphs",
            key=options.key,
            reporter=reporter,
        )
        graphs.folder.mkdir(exist_ok=True)
    case = _Case(experiment=experiment, images=images, digest=digest, root=root, reporter=reporter)
    rows: list[Row] = []
    runners: dict[int, Runner] = {}
    for entry, reason in _planned(model, options):
        if not reason:
            try:
                runner = _runner(model, entry, graphs)
                rows.append(_measured(case, entry, runner))
                runners[len(rows) - 1] = runner
                continue
            except (NotMade, RcnnError) as error:
                # What is wrong with the images is wrong with every row.
                if isinstance(error, _ImagesError):
                    raise
                reason = " ".join(str(error).split())
                reporter.warn(f"{entry}: {reason}")
        rows.append(Row(entry=entry, reason=reason))
    seconds = _latencies(experiment, runners, images, options.rounds, reporter)
    rows = [replace(row, seconds=seconds.get(i, math.nan)) for i, row in enumerate(rows)]
    table = Table(
        model=model.path.name,
        metric=experiment.metrics.main_metric,
        images=len(images),
        rounds=options.rounds,
        canvas=(experiment.geometry.height, experiment.geometry.width),
        versions=tuple(dict.fromkeys(runner.version for runner in runners.values())),
        rows=tuple(merged(rows)),
    )
    reporter.console.print(table.console())
    for remark in table.remarks():
        reporter.console.print(remark, markup=False)
    for path in write_tables(root, table):
        reporter.console.print(f"table: {path}", markup=False)
    if not runners:
        raise UsageError(f"nothing was measured: {table.rows[0].reason}")
    return table


class _ImagesError(DataError):
    """The validation images cannot be used."""


@dataclass(frozen=True, kw_only=True)
class _Case:
    """What all rows share: experiment, images, digest of model and spec, folder, console."""

    experiment: Experiment
    images: Subset
    digest: str
    root: Path
    reporter: Reporter


def _runner(
    model: OpenBundle | OpenGraph | OpenEngine, entry: Entry, graphs: Graphs | None
) -> Runner:
    if isinstance(model, OpenEngine):
        return engine_runner(model)
    assert graphs is not None
    return open_runner(entry, graphs)


def _planned(
    model: OpenBundle | OpenGraph | OpenEngine, options: BenchmarkOptions
) -> list[tuple[Entry, str]]:
    """Returns the rows, each with why it cannot run; "" where that remains to be seen."""
    if isinstance(model, OpenEngine):
        runtime: RowRuntime = "trt-rtx" if model.info.targets else "tensorrt"
        precision: RowPrecision = model.info.precision  # type: ignore[assignment]
        return [(Entry(runtime, precision), "")]
    # Looked for once each: the library of a provider takes a second to load.
    here = {runtime: absent(runtime) for runtime in options.runtimes}
    rows = entries(options.runtimes, options.precisions, options.forms)
    return [(entry, here[entry.runtime] or impossible(entry)) for entry in rows]


def _images(experiment: Experiment, limit: int | None, reporter: Reporter) -> Subset:
    """Returns the validation images that are measured, spread evenly over all of them.

    Raises:
      DataError: the spec names none.
    """
    if experiment.eval_source is None:
        fields = family(experiment.kind).validation_fields
        raise DataError(
            f"average precision needs validation data, the spec names none: set {fields}"
        )
    source = experiment.eval_source()
    if limit is not None and limit > len(source):
        reporter.note(f"--limit {limit}: there are {len(source)} validation images, all are used")
    count = len(source) if limit is None else min(limit, len(source))
    # Spread, because neighbours in a data set often show one scene.
    return Subset(source, np.unique(np.linspace(0, len(source) - 1, count).astype(int)))


def _measured(case: _Case, entry: Entry, runner: Runner) -> Row:
    """Returns the row of a runner but for its latency; what an earlier start has measured is read.

    Raises:
      DataError: an image cannot be used.
      RcnnError: the runtime fails.
    """
    path, key = case.root / "results" / f"{_slug(entry)}.json", _key(case, runner)
    metrics = _known(path, key)
    if metrics is None:
        quiet = Quiet(case.reporter, str(entry))
        try:
            metrics = metrics_of(case.experiment, runner.predictor, case.images, quiet)
        except DataError as error:
            raise _ImagesError(str(error)) from error
        path.parent.mkdir(exist_ok=True)
        content = {"key": key, "entry": asdict(entry), "metrics": metrics}
        write_file(path, [json.dumps(content, indent=2).encode()])
    row = Row(
        entry=entry,
        metrics=metrics,
        size=runner.size,
        device=runner.device,
        computed=runner.computed,
    )
    name = case.experiment.metrics.main_metric
    case.reporter.console.print(f"{entry}: {name} {percent(metrics.get(name))}", markup=False)
    return row


def _known(path: Path, key: str) -> dict[str, float] | None:
    """Metrics that an earlier start measured in the same runtime; None without such a start."""
    if not path.exists():
        return None
    try:
        content = json.loads(read_file(path, "result"))
        if content["key"] != key:
            return None
        return {str(name): float(value) for name, value in content["metrics"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # measured again


def _latencies(
    experiment: Experiment,
    runners: dict[int, Runner],
    images: Subset,
    rounds: int,
    reporter: Reporter,
) -> dict[int, float]:
    """Returns the seconds from pixels to detections of every runner, on one of the images."""
    if not runners:
        return {}
    pixels = images.image(0, experiment.task.pixels.channel_order)
    placed = image_files.fit((pixels.shape[0], pixels.shape[1]), experiment.geometry)
    canvas = image_files.apply_image(pixels, placed)[None]

    def call(runner: Runner):
        return lambda: jax.tree.map(np.asarray, runner.predictor(canvas)[0])

    turns = reporter.track(range(rounds + 1), rounds + 1, "time")
    return least_seconds({i: call(each) for i, each in runners.items()}, turns, pause=PAUSE)


def _slug(entry: Entry) -> str:
    return "-".join(part for part in (entry.runtime, entry.precision, entry.form) if part)


def _key(case: _Case, runner: Runner) -> str:
    """Changes with what metrics depend on: model, spec, images, graph, runtime, device."""
    count = len(case.images)
    images = [(case.images.name(i), case.images.digest(i)) for i in range(count)]
    parts = (case.digest, runner.version, runner.computed, runner.size, images)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _open(root: Path, model: OpenBundle | OpenGraph | OpenEngine, experiment: Experiment) -> str:
    """Makes the folder or checks the one that is there; returns the digest of model and spec.

    Raises:
      UsageError: it holds a benchmark of another model or spec.
    """
    digest = _digest(model, experiment)
    path = root / STATE
    root.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_file(path, [json.dumps({"benchmark": digest}).encode()])
        return digest
    try:
        known = json.loads(read_file(path, "state"))["benchmark"]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: is not the state of a benchmark; name another folder") from error
    if known != digest:
        raise UsageError(
            f"{root}: holds a benchmark of another model or spec: name another folder with -d"
        )
    return digest


def _digest(model: OpenBundle | OpenGraph | OpenEngine, experiment: Experiment) -> str:
    if isinstance(model, OpenBundle) and not model.path.exists():  # published weights
        content = str(model.path).encode()
    else:
        content = model.path.read_bytes()
    parts = (hashlib.sha256(content).hexdigest(), experiment.spec.text)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
