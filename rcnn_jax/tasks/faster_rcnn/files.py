"""The files and folders that a Faster R-CNN spec names, and the name of its runs. No jax here."""

from pathlib import Path
from typing import Any

from rcnn_jax.errors import UsageError
from rcnn_jax.tasks.named_files import Config, NamedFiles, NamedModel, NamedPath

DEFAULT_NAME = "model"
"""Of a run whose spec names no output model."""


def named_files(config: Config) -> NamedFiles:
    """Returns the files and folders that a Faster R-CNN config names."""
    inference = config.inference_config
    named = {
        "evaluate": _model(config.evaluation_config, "evaluation_config", "trt_evaluation"),
        "inference": _model(inference, "inference_config", "trt_inference"),
    }
    return NamedFiles(
        output_model=_path(config.training_config, "training_config", "output_model"),
        models={task: model for task, model in named.items() if model is not None},
        images=_path(inference, "inference_config", "images_dir"),
        pictures=_path(inference, "inference_config", "detection_image_output_dir"),
        labels=_path(inference, "inference_config", "labels_dump_dir"),
    )


def model_name(config: Any) -> str:
    """Returns the name of the models of a run: that of training_config.output_model.

    Args:
      config: a config, or the dictionary that a run stored of its own.

    Example:
      >>> model_name({"training_config": {"output_model": "out/resnet18.tlt"}})
      'resnet18'

    Raises:
      UsageError: output_model ends in no file name.
    """
    # By key, not attribute: a run's own record is a dictionary.
    given = config["training_config"].get("output_model") or f"{DEFAULT_NAME}.tlt"
    name = Path(given).name.removesuffix(".tlt")
    if name in ("", ".", ".."):
        raise UsageError(
            f"training_config.output_model: '{given}' names no file; write FOLDER/NAME.tlt"
        )
    return name


def _path(section: Config, name: str, field: str) -> NamedPath | None:
    value = section[field]
    return NamedPath(f"{name}.{field}", Path(value)) if value else None


def _model(section: Config, name: str, trt: str) -> NamedModel | None:
    """Returns the model of a section: its engine, else its exported model, else its bundle.

    Args:
      section: evaluation_config or inference_config.
      name: of the section.
      trt: its message that names an engine, or an exported model and perhaps a calibration cache.
    """
    engine, exported = section[trt], section[trt].etlt_model
    # The most specific first: an engine was built from the exported model, and that was made from
    # the bundle.
    if engine.enabled and engine.trt_engine:
        return NamedModel(f"{name}.{trt}.trt_engine", Path(engine.trt_engine))
    if engine.enabled and exported.enabled and exported.model:
        # Two generations of the spec have the field in two messages.
        cache = exported.calibration_cache or engine.calibration_cache
        return NamedModel(
            f"{name}.{trt}.etlt_model.model", Path(exported.model), Path(cache) if cache else None
        )
    # A message that asks for an exported model and names none must not run the bundle in silence.
    if section.model and not (engine.enabled and exported.enabled):
        return NamedModel(f"{name}.model", Path(section.model))
    return None
