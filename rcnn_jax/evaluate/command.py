"""Evaluation as a function: from an experiment and a model file to metrics."""

from pathlib import Path

from rcnn_jax.data.count_table import report_findings
from rcnn_jax.errors import DataError
from rcnn_jax.evaluate import loop, results
from rcnn_jax.evaluate.explain import explain
from rcnn_jax.evaluate.results import Report
from rcnn_jax.hosts.team import team
from rcnn_jax.reporter import SILENT, Reporter
from rcnn_jax.runtime.backend import OpenModel
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.families import family


def evaluate(
    experiment: Experiment,
    model: OpenModel,
    *,
    workdir: Path | None = None,
    devices: int = 1,
    reporter: Reporter = SILENT,
) -> Report:
    """Scores a model on the validation images, prints the table and writes the report.

    Args:
      experiment: from `runtime.open.experiment_of`, which has compared it with the model.
      model: the file, opened.
      workdir: the report goes to `eval/` in it; beside the model when None.
      devices: local devices to use.
      reporter: console.

    Returns:
      The metrics; `results.numbers` and `results.kpi` give them by name.

    Raises:
      RcnnError: the model or the data cannot be used.
    """
    if experiment.eval_source is None:
        fields = family(experiment.kind).validation_fields
        raise DataError(f"the spec names no validation data: set {fields}")
    predictor = model.predictor(experiment, experiment.evaluation, devices)
    source = experiment.eval_source()
    for note in experiment.notes:
        reporter.note(note)
    report_findings(source.findings, reporter)
    loop.check_images(experiment, source)
    evaluation = loop.evaluate_images(experiment, predictor, source, reporter.track, devices)
    report = evaluation.report
    reporter.console.print(results.text(report), markup=False)
    folder, name = (workdir or model.path.parent) / "eval", model.report_name
    diagnosis = explain(experiment, model, source, evaluation, reporter.track)
    if team().is_chief:
        results.write_report(report, experiment.metrics, folder, name, diagnosis)
    if diagnosis is not None:
        reporter.warn(diagnosis.sentence())
    reporter.console.print(f"report: {folder / (name + '.json')}", markup=False)
    return report
