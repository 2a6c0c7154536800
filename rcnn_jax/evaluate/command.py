"""Evaluation as a function: from an experiment and a model file to metrics."""

from pathlib import Path

from rcnn_jax.data.count_table import say
from rcnn_jax.errors import DataError
from rcnn_jax.evaluate import loop, results
from rcnn_jax.evaluate.results import Report
from rcnn_jax.reporter import SILENT, Reporter
from rcnn_jax.runtime.backend import Backend
from rcnn_jax.runtime.bundle import BUNDLE
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.families import family


def evaluate(
    experiment: Experiment,
    model: Path,
    *,
    key: str | None = None,
    workdir: Path | None = None,
    backend: Backend = BUNDLE,
    reporter: Reporter = SILENT,
) -> Report:
    """Scores a model on the validation images, prints the table and writes the report.

    Args:
      experiment: from `runtime.backend.experiment_of`, which has compared it with the model.
      model: a file of the backend.
      key: what it was encrypted with, or None.
      workdir: the report goes to `eval/` in it; beside the model when None.
      backend: runs the model file.
      reporter: console.

    Returns:
      The metrics; `results.numbers` and `results.kpi` give them by name.

    Raises:
      RcnnError: the model or the data cannot be used.
    """
    if experiment.eval_source is None:
        fields = family(experiment.kind).validation_fields
        raise DataError(f"the spec names no validation data: set {fields}")
    predictor = backend.predictor(model, experiment, experiment.evaluation, key)
    source = experiment.eval_source()
    for note in experiment.notes:
        reporter.note(note)
    say(source.findings, reporter)
    loop.check_images(experiment, source)
    report = loop.evaluate_detector(experiment, predictor, source, reporter.track)
    reporter.console.print(results.text(report), markup=False)
    folder = (workdir or model.parent) / "eval"
    name = model.stem if backend is BUNDLE else model.name  # a graph lies beside its bundle
    results.write_report(report, experiment.metrics, folder, name)
    reporter.console.print(f"report: {folder / (name + '.json')}", markup=False)
    return report
