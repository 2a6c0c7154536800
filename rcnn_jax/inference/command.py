"""Inference with a model file as one function of a config."""

from pathlib import Path

from ml_collections import ConfigDict

from rcnn_jax.checkpoints.state import load_variables
from rcnn_jax.evaluate import loop
from rcnn_jax.inference.predict import run_inference
from rcnn_jax.reporter import Reporter
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.tasks.experiment import Kind


def inference(
    config: ConfigDict,
    kind: Kind,
    *,
    model: Path,
    images: Path,
    image_output: Path | None,
    label_output: Path | None,
    threshold: float | None,
    key: str | None,
    session: Reporter,
) -> int:
    """Runs a model over a folder of images.

    Args:
      config: validated config of the detector the model is of.
      kind: which detector.
      model: a bundle.
      images: folder of png, jpg, jpeg files of any size.
      image_output: folder of annotated images, or None.
      label_output: folder of KITTI label files, or None.
      threshold: least score that is shown; None takes the one of the spec.
      key: what the model was sealed with, or None.
      session: console.

    Returns:
      The number of files that could not be read; each was named in a warning.

    Raises:
      RcnnError: the model or the folder cannot be used.
    """
    experiment = build_experiment(config, kind)
    variables = load_variables(model, experiment, key)
    predictor = loop.bind(loop.jax_predictor(experiment, experiment.inference), variables)
    return run_inference(
        experiment,
        predictor,
        images,
        image_output=image_output,
        label_output=label_output,
        threshold=experiment.visualize_threshold if threshold is None else threshold,
        captions=experiment.captions,
        session=session,
    )
