"""The evaluation of a model file as one function of a config."""

from pathlib import Path

from ml_collections import ConfigDict

from rcnn_jax.checkpoints.state import load_variables
from rcnn_jax.errors import DataError
from rcnn_jax.evaluate import loop, report
from rcnn_jax.reporter import Reporter
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.tasks.experiment import Kind


def evaluate(
    config: ConfigDict,
    kind: Kind,
    *,
    model: Path,
    key: str | None,
    workdir: Path | None,
    session: Reporter,
) -> dict[str, float]:
    """Scores a model on the validation images, prints the table and writes the report.

    Args:
      config: validated config of the detector the model is of.
      kind: which detector.
      model: a bundle.
      key: what it was sealed with, or None.
      workdir: the report goes to `eval/` in it; beside the model when None.
      session: console.

    Returns:
      The metrics by name.

    Raises:
      RcnnError: the model or the data cannot be used.
    """
    experiment = build_experiment(config, kind)
    if experiment.eval_source is None:
        raise DataError(
            "the spec names no validation data: set dataset_config.validation_fold or "
            "dataset_config.validation_data_source"
        )
    variables = load_variables(model, experiment, key)
    source = experiment.eval_source()
    for note in source.notes:
        session.note(note)
    predictor = loop.bind(loop.jax_predictor(experiment, experiment.evaluation), variables)
    result = loop.evaluate_detector(experiment, predictor, source, session.track)
    session.console.print(report.table(result), markup=False)
    folder = (workdir or model.parent) / "eval"
    loop.write_report(result, folder, model.stem, plot=experiment.metrics.plot)
    session.console.print(f"report: {folder / (model.stem + '.json')}", markup=False)
    return report.scalars(result)
