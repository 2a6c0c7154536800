"""Chooses the model file of a command and what runs it, by its suffix.

.tlt  JAX        .onnx, .etlt  ONNX Runtime        .engine, .trt, .plan  TensorRT
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcnn_jax.cli.flags import existing_file
from rcnn_jax.errors import UsageError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from rcnn_jax.runtime.backend import Backend

GRAPH_SUFFIXES = (".onnx", ".etlt")
ENGINE_SUFFIXES = (".engine", ".trt", ".plan")


def choose_model(
    flag: Path | None,
    config: "ConfigDict",
    section: str,
    engine_section: str,
    header: Path | None = None,
) -> tuple[Path, "Backend"]:
    """Returns the model to run and its backend: -m, else the spec's TensorRT model, else its model.

    Args:
      flag: value of -m.
      config: experiment spec; a Mask R-CNN spec names no model.
      section: `evaluation_config` or `inference_config`.
      engine_section: its message that names an engine, or an exported model and perhaps the
        calibration cache that makes it int8.
      header: value of --header: file whose header an exported graph has.

    Raises:
      UsageError: no model is named, there is no such file, or a header is given for no graph.
    """
    path, source, cache = named_model(flag, config, section, engine_section)
    if path is None:
        raise UsageError(f"no model: give -m FILE or {section}.model in the spec")
    return existing_file(path, source), backend_of(path, cache, header)


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


def backend_of(model: Path, cache: Path | None = None, header: Path | None = None) -> "Backend":
    """Returns what runs a model file.

    Args:
      model: the file.
      cache: calibration cache with which an fp32 graph is run as int8.
      header: file whose header an exported graph has, where another tool dropped its own.

    Raises:
      UsageError: a header is given for a file that keeps its own.
    """
    if header is not None and model.suffix not in GRAPH_SUFFIXES:
        raise UsageError(
            f"--header {header}: is for {' and '.join(GRAPH_SUFFIXES)} files that another tool "
            f"rewrote; {model.name} says itself what it is"
        )
    if model.suffix in ENGINE_SUFFIXES:
        from rcnn_jax.runtime.engine import ENGINE

        return ENGINE
    if model.suffix in GRAPH_SUFFIXES:
        from rcnn_jax.export.conversion import as_int8
        from rcnn_jax.runtime.onnx_runtime import graph_backend

        return graph_backend(None if cache is None else as_int8(cache), header)
    from rcnn_jax.runtime.bundle import BUNDLE

    return BUNDLE
