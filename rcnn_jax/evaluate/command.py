"""The evaluation of a model file as one function of a config."""

from pathlib import Path

from ml_collections import ConfigDict

from rcnn_jax.data.count_table import say
from rcnn_jax.errors import DataError
from rcnn_jax.evaluate import loop, results
from rcnn_jax.kinds import Kind
from rcnn_jax.reporter import Reporter
from rcnn_jax.runtime.backend import Backend, experiment_of
from rcnn_jax.runtime.bundle import BUNDLE
from rcnn_jax.tasks.families import family


def evaluate(
    config: ConfigDict,
    kind: Kind,
    *,
    model: Path,
    key: str | None,
    workdir: Path | None,
    session: Reporter,
    backend: Backend = BUNDLE,
) -> dict[str, float]:
    """Scores a model on the validation images, prints the table and writes the report.

    Args:
      config: validated config of the detector the model is of.
      kind: which detector.
      model: a file of the backend.
      key: what it was sealed with, or None.
      workdir: the report goes to `eval/` in it; beside the model when None.
      session: console.
      backend: runs the model file.

    Returns:
      The metrics by name, as status.json shows them.

    Raises:
      RcnnError: the model or the data cannot be used.
    """
    experiment = experiment_of(
        backend, model, config, kind, key=key, session=session, own_classes=False
    )
    if experiment.eval_source is None:
        fields = family(kind).validation_fields
        raise DataError(f"the spec names no validation data: set {fields}")
    predictor = backend.predictor(model, experiment, experiment.evaluation, key)
    source = experiment.eval_source()
    for note in experiment.notes:
        session.note(note)
    say(source.findings, session)
    loop.check_images(experiment, source)
    result = loop.evaluate_detector(experiment, predictor, source, session.track)
    session.console.print(results.text(result), markup=False)
    folder = (workdir or model.parent) / "eval"
    name = model.stem if backend is BUNDLE else model.name  # a graph lies beside its bundle
    results.write_report(result, experiment.metrics, folder, name)
    session.console.print(f"report: {folder / (name + '.json')}", markup=False)
    return results.kpi(result)
