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
from rcnn_jax.benchmark.tables import Table, write_tables
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
    rows: list[Row] = []
    runners: dict[int, Runner] = {}
    for entry, reason in _planned(model, options):
        number = len(rows)
        if reason:
            rows.append(Row(entry=entry, reason=reason))
            continue
        try:
            runner = engine_runner(model) if graphs is None else open_runner(entry, graphs)  # type: ignore[arg-type]
            known = root / "results" / f"{_slug(entry)}.json"
            key = _key(digest, runner, images)
            metrics = _known(known, key) or _measured(
                experiment, runner, images, entry, known, key, reporter
            )
        # What is wrong with the data is wrong with every row.
        except DataError:
            raise
        except (NotMade, RcnnError) as error:
            rows.append(Row(entry=entry, reason=" ".join(str(error).split())))
            reporter.warn(f"{entry}: {rows[-1].reason}")
            continue
        runners[number] = runner
        rows.append(
            Row(
                entry=entry,
                metrics=metrics,
                size=runner.size,
                device=runner.device,
                computed=runner.computed,
            )
        )
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
    return table


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


def _measured(
    experiment: Experiment,
    runner: Runner,
    images: Subset,
    entry: Entry,
    path: Path,
    key: str,
    reporter: Reporter,
) -> dict[str, float]:
    """Returns the metrics of a runner, and writes them down."""
    metrics = metrics_of(experiment, runner.predictor, images, Quiet(reporter, str(entry)))
    content = {"key": key, "entry": asdict(entry), "metrics": metrics}
    path.parent.mkdir(exist_ok=True)
    write_file(path, [json.dumps(content, indent=2).encode()])
    value = metrics[experiment.metrics.main_metric]
    reporter.console.print(
        f"{entry}: {experiment.metrics.main_metric} {100 * value:.2f}", markup=False
    )
    return metrics


def _known(path: Path, key: str) -> dict[str, float] | None:
    """Returns what an earlier start has measured in this very runtime; None where it has not."""
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


def _key(digest: str, runner: Runner, images: Subset) -> str:
    parts = (digest, runner.version, runner.computed, runner.size, len(images))
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
