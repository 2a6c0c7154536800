"""Chooses the model file of a command: that of a flag, or one that the spec names."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcnn_jax.cli.flags import existing_file
from rcnn_jax.errors import UsageError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from rcnn_jax.runtime.backend import OpenModel


@dataclass(frozen=True)
class ModelFile:
    """A model file that exists, and how it is to be run.

    Attributes:
      path: the file.
      cache: calibration cache with which an fp32 graph is run as int8.
      header: file whose header an exported graph has, where another tool dropped its own.
    """

    path: Path
    cache: Path | None = None
    header: Path | None = None


def choose_model(
    flag: Path | None,
    config: "ConfigDict",
    section: str,
    engine_section: str,
    header: Path | None = None,
) -> ModelFile:
    """Returns the model to run: -m, else the spec's TensorRT model, else its model.

    Args:
      flag: value of -m.
      config: experiment spec; a Mask R-CNN spec names no model.
      section: `evaluation_config` or `inference_config`.
      engine_section: its message that names an engine, or an exported model and perhaps the
        calibration cache that makes it int8.
      header: value of --header: file whose header an exported graph has.

    Raises:
      UsageError: no model is named, or there is no such file.
    """
    path, source, cache = named_model(flag, config, section, engine_section)
    if path is None:
        raise UsageError(f"no model: give -m FILE or {section}.model in the spec")
    return ModelFile(existing_file(path, source), cache, header)


def named_model(
    flag: Path | None, config: "ConfigDict", section: str, engine_section: str
) -> tuple[Path | None, str, Path | None]:
    """Returns the model that is named, the flag or field that names it, and a calibration cache.

    Args: as of `choose_model`.
    """
    path, source, cache = flag, "-m", None
    if path is None and section in config:
        fields: Any = config[section]
        engine, exported = fields[engine_section], fields[engine_section].etlt_model
        name, source = fields.model, f"{section}.model"
        if engine.enabled and engine.trt_engine:
            name, source = engine.trt_engine, f"{section}.{engine_section}.trt_engine"
        elif engine.enabled and exported.enabled:
            name, source = exported.model, f"{section}.{engine_section}.etlt_model.model"
            cache = exported.calibration_cache or engine.calibration_cache
        path = Path(name) if name else None
    return path, source, Path(cache) if cache else None


def open_chosen(file: ModelFile, key: str | None) -> "OpenModel":
    """Returns the model of a file, opened; the command reads the file this once.

    Args:
      file: from `choose_model`.
      key: what it was sealed with, or None.

    Raises:
      UsageError: a header is given for a file that keeps its own.
      CheckpointError: the file cannot be used.
    """
    from rcnn_jax.runtime.open import GRAPH_SUFFIXES, open_model

    if file.header is not None and file.path.suffix not in GRAPH_SUFFIXES:
        raise UsageError(
            f"--header {file.header}: is for {' and '.join(GRAPH_SUFFIXES)} files that another tool "
            f"rewrote; {file.path.name} says itself what it is"
        )
    rewrite = None
    if file.cache is not None:
        from rcnn_jax.export.conversion import as_int8

        rewrite = as_int8(file.cache)
    return open_model(file.path, key, header=file.header, rewrite=rewrite)
