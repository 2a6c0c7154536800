"""Evaluation as a function: from an experiment and a model file to metrics."""

import json
from dataclasses import dataclass
from pathlib import Path

from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.data.count_table import report_findings
from rcnn_jax.data.sources.boxes import Source
from rcnn_jax.errors import DataError
from rcnn_jax.evaluate import loop, pages, results
from rcnn_jax.evaluate.analysis import analyse
from rcnn_jax.evaluate.explain import explain
from rcnn_jax.evaluate.hypotheses import Diagnosis
from rcnn_jax.evaluate.results import Report
from rcnn_jax.evaluate.scored import Evaluation
from rcnn_jax.hosts.team import team
from rcnn_jax.reporter import SILENT, Reporter
from rcnn_jax.runtime.backend import OpenModel
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.families import family


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """The page that explains a result.

    Attributes:
      output: the HTML file; the matches go to a `.json` of the same name.
      precision: that thresholds by class are chosen for.
      spec: what the spec is called.
    """

    output: Path
    precision: float = 0.9
    spec: str = ""

    @property
    def record(self) -> Path:
        """The file of the matches, which `compare` reads."""
        return self.output.with_suffix(".json")


def evaluate(
    experiment: Experiment,
    model: OpenModel,
    *,
    workdir: Path | None = None,
    devices: int = 1,
    page: PageOptions | None = None,
    reporter: Reporter = SILENT,
) -> Report:
    """Scores a model on the validation images, prints the table and writes the report.

    Args:
      experiment: from `runtime.open.experiment_of`, which has compared it with the model.
      model: the file, opened.
      workdir: the report goes to `eval/` in it; beside the model when None.
      devices: local devices to use.
      page: the page that explains the result; None for no page.
      reporter: console.

    Returns:
      The metrics; `results.numbers` and `results.kpi` give them by name.

    Raises:
      RcnnError: the model or the data cannot be used.
    """
    evaluation, source = full_evaluation(experiment, model, reporter, devices)
    report = evaluation.report
    reporter.console.print(results.text(report), markup=False)
    folder, name = (workdir or model.path.parent) / "eval", model.report_name
    diagnosis = explain(experiment, model, source, evaluation, reporter.track)
    if team().is_chief:
        results.write_report(report, experiment.metrics, folder, name, diagnosis)
    if diagnosis is not None:
        reporter.warn(diagnosis.sentence())
    reporter.console.print(f"report: {folder / (name + '.json')}", markup=False)
    if page is not None:
        if team().is_chief:
            _write_page(page, evaluation, source, model, diagnosis)
        written = f"page: {page.output}, and its matches for `compare`: {page.record}"
        reporter.console.print(written, markup=False)
    return report


def full_evaluation(
    experiment: Experiment, model: OpenModel, reporter: Reporter = SILENT, devices: int = 1
) -> tuple[Evaluation, Source]:
    """Returns the evaluation of a model on the validation images, and these; prints no result.

    Args: as of `evaluate`.

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
    views = experiment.evaluation.views
    if views is not None:
        reporter.note(f"test-time augmentation ({views}): up to {views.count} views of every image")
    report_findings(source.findings, reporter)
    loop.check_images(experiment, source, team())
    evaluation = loop.evaluate_images(experiment, predictor, source, reporter.track, devices)
    return evaluation, source


def _write_page(
    options: PageOptions,
    evaluation: Evaluation,
    source: Source,
    model: OpenModel,
    diagnosis: Diagnosis | None,
) -> None:
    analysis = analyse(evaluation, wanted=options.precision)
    objects = sum(len(image.gt_boxes) for image in evaluation.images)
    text = pages.page(
        analysis,
        source,
        title=f"Evaluation of {model.path.name}",
        subtitle=f"{model.path}; spec {options.spec}; {len(evaluation.images):,} images, "
        f"{objects:,} objects, {len(evaluation.class_names)} classes",
        diagnosis=diagnosis,
    )
    names = [source.name(record) for record in evaluation.records]
    fields = pages.record(analysis, model=str(model.path), spec=options.spec, names=names)
    write_file(options.output, [text.encode()])
    write_file(options.record, [json.dumps(fields).encode()])
