"""Chooses the model file of a command and what runs it, by its suffix.

.tlt  JAX        .onnx, .etlt  ONNX Runtime        .engine, .trt, .plan  TensorRT
"""

from pathlib import Path
from typing import TYPE_CHECKING

from rcnn_jax.cli.flags import existing_file
from rcnn_jax.errors import UsageError
from rcnn_jax.kinds import Kind, TaskName
from rcnn_jax.tasks.families import family
from rcnn_jax.tasks.named_files import NamedModel

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from rcnn_jax.runtime.backend import Backend

GRAPH_SUFFIXES = (".onnx", ".etlt")
ENGINE_SUFFIXES = (".engine", ".trt", ".plan")


def choose_model(
    flag: Path | None,
    config: "ConfigDict",
    kind: Kind,
    task: TaskName,
    header: Path | None = None,
) -> tuple[Path, "Backend"]:
    """Returns the model to run and its backend: -m, else what the spec names for the task.

    Args:
      flag: value of -m.
      config: experiment spec.
      kind: which detector it is of.
      task: `evaluate` or `inference`.
      header: value of --header: file whose header an exported graph has.

    Raises:
      UsageError: no model is named, there is no such file, or a header is given for no graph.
    """
    model = named_model(flag, config, kind, task)
    if model is None:
        field = family(kind).file_fields.get(task)
        hint = f" or {field} in the spec" if field else ""
        raise UsageError(f"no model: give -m FILE{hint}")
    return existing_file(model.path, model.field), backend_of(model.path, model.cache, header)


def named_model(
    flag: Path | None, config: "ConfigDict", kind: Kind, task: TaskName
) -> NamedModel | None:
    """Returns the model that a flag or the spec names, None where neither does.

    Args: as of `choose_model`.
    """
    if flag is not None:
        return NamedModel("-m", flag)
    return family(kind).named_files(config).models.get(task)


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
