"""The evaluation of a model file as one function of a config."""

from pathlib import Path

from ml_collections import ConfigDict

from rcnn_jax.data.count_table import say
from rcnn_jax.errors import DataError
from rcnn_jax.evaluate import loop, results
from rcnn_jax.kinds import Kind
from rcnn_jax.reporter import Reporter
from rcnn_jax.runtime.backend import OpenModel
from rcnn_jax.runtime.open import experiment_of

VALIDATION_FIELDS = {
    "faster_rcnn": "dataset_config.validation_fold or dataset_config.validation_data_source",
    "mask_rcnn": "data_config.validation_file_pattern or data_config.coco_val_image_dir "
    "together with data_config.val_json_file, or data_config.tfds_name",
}
"""The fields of a spec that name validation data."""


def evaluate(
    config: ConfigDict,
    kind: Kind,
    *,
    model: OpenModel,
    workdir: Path | None,
    session: Reporter,
) -> dict[str, float]:
    """Scores a model on the validation images, prints the table and writes the report.

    Args:
      config: validated config of the detector the model is of.
      kind: which detector.
      model: the file, opened.
      workdir: the report goes to `eval/` in it; beside the model when None.
      session: console.

    Returns:
      The metrics by name, as status.json shows them.

    Raises:
      RcnnError: the model or the data cannot be used.
    """
    experiment = experiment_of(model, config, kind, own_classes=False, reporter=session)
    if experiment.eval_source is None:
        raise DataError(f"the spec names no validation data: set {VALIDATION_FIELDS[kind]}")
    predictor = model.predictor(experiment, experiment.evaluation)
    source = experiment.eval_source()
    for note in experiment.notes:
        session.note(note)
    say(source.findings, session)
    loop.check_images(experiment, source)
    result = loop.evaluate_detector(experiment, predictor, source, session.track)
    session.console.print(results.text(result), markup=False)
    folder, name = (workdir or model.path.parent) / "eval", model.report_name
    results.write_report(result, experiment.metrics, folder, name)
    session.console.print(f"report: {folder / (name + '.json')}", markup=False)
    return results.kpi(result)
