"""Choice of the model file of a command: that of a flag, or one that the spec names."""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rcnn_jax.cli.flags import existing_model, flag_notes, flag_views, key_from
from rcnn_jax.errors import UsageError
from rcnn_jax.kinds import Kind, TaskName
from rcnn_jax.reporter import SILENT, Reporter
from rcnn_jax.tasks.families import family
from rcnn_jax.tasks.named_files import NamedModel

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from rcnn_jax.cli.session import Session
    from rcnn_jax.runtime.backend import OpenModel
    from rcnn_jax.runtime.bundle import OpenBundle
    from rcnn_jax.runtime.runtimes import RuntimeName
    from rcnn_jax.tasks.experiment import Experiment


@dataclass(frozen=True)
class ModelFile:
    """A model file that exists, and how it is to be run.

    Attributes:
      path: the file.
      cache: calibration cache with which an fp32 graph is run as int8.
      header: file whose header an exported graph has, where another tool dropped its own.
      runtime: what runs a graph.
    """

    path: Path
    cache: Path | None = None
    header: Path | None = None
    runtime: "RuntimeName" = "auto"


def asked_views(flag: str | None, experiment: "Experiment", model: "OpenModel") -> "Experiment":
    """Returns the experiment with the views of --tta, which win over those of the spec.

    Raises:
      UsageError: the flag names none, or the model is an exported one.
    """
    from rcnn_jax.runtime.bundle import OpenBundle
    from rcnn_jax.tasks.build import with_views

    if flag is None:
        return experiment
    views = flag_views(flag)
    if views is not None and not isinstance(model, OpenBundle):
        raise UsageError(
            f"--tta {flag}: {model.path} looks at one view, as it was exported: leave the flag out, or "
            "name the .tlt"
        )
    return with_views(experiment, views)


def choose_model(
    flag: Path | None,
    config: "ConfigDict",
    kind: Kind,
    task: TaskName,
    header: Path | None = None,
    runtime: "RuntimeName" = "auto",
) -> ModelFile:
    """Returns the model to run: -m, else what the spec names for the task.

    Args:
      flag: value of -m.
      config: experiment spec.
      kind: which detector it is of.
      task: `evaluate` or `inference`.
      header: value of --header: file whose header an exported graph has.
      runtime: value of --runtime.

    Raises:
      UsageError: no model is named, or there is no such file.
    """
    model = named_model(flag, config, kind, task)
    if model is None:
        field = family(kind).file_fields.get(task)
        hint = f" or {field} in the spec" if field else ""
        raise UsageError(f"no model: give -m FILE{hint}")
    return ModelFile(existing_model(model.path, model.field), model.cache, header, runtime)


def with_own_spec(
    args: Namespace, kind: Kind, task: str, session: "Session"
) -> "tuple[OpenBundle, ConfigDict, str | None]":
    """Returns a model that no spec was given for, the config inside it, and the key.

    Args:
      args: flags: model, key and header.
      kind: which detector the command is of.
      task: the command.
      session: told of flags without effect and of what is fetched.

    Raises:
      UsageError: there is no model either, or one that holds no spec.
      CheckpointError: the model cannot be used.
    """
    from rcnn_jax.runtime.bundle import OpenBundle

    if args.model is None:
        raise UsageError("give the spec with -e FILE, or with -m a model that holds its own (.tlt)")
    for note in flag_notes(args):
        session.note(note)
    key = key_from(args)
    file = ModelFile(existing_model(args.model, "-m"), None, getattr(args, "header", None))
    opened = open_chosen(file, key, session)
    if not isinstance(opened, OpenBundle):
        raise UsageError(f"-m {args.model}: holds no spec; give it with -e FILE")
    if opened.origin.kind != kind:
        # coco/faster_rcnn_... too: with a pyramid it is the network of mask_rcnn, without its masks.
        own = opened.origin.kind
        raise UsageError(
            f"-m {args.model}: is a model of {own}, not of {kind}: use "
            f"rcnn-jax {own} {task} -m {args.model}"
        )
    return opened, opened.stored_config(), key


def named_model(
    flag: Path | None, config: "ConfigDict | None", kind: Kind, task: TaskName
) -> NamedModel | None:
    """Returns the model that a flag or the spec names, None where neither does.

    Args: as of `choose_model`.
    """
    # The flag wins as a whole: a calibration cache that the spec names belongs to the model of the
    # spec.
    if flag is not None:
        return NamedModel("-m", flag)
    return None if config is None else family(kind).named_files(config).models.get(task)


def open_chosen(file: ModelFile, key: str | None, reporter: Reporter = SILENT) -> "OpenModel":
    """Returns the model of a file, opened; the command reads the file this once.

    Args:
      file: from `choose_model`.
      key: of an encrypted file, or None.
      reporter: told what is fetched.

    Raises:
      UsageError: a header is given for a file that keeps its own.
      CheckpointError: the file cannot be used.
    """
    from rcnn_jax.runtime.open import GRAPH_SUFFIXES, open_model

    # Graphs alone lose their metadata in other tools; a header next to a bundle could only
    # contradict it.
    if file.header is not None and file.path.suffix not in GRAPH_SUFFIXES:
        raise UsageError(
            f"--header {file.header}: is for {' and '.join(GRAPH_SUFFIXES)} files that another tool "
            f"rewrote; {file.path.name} says itself what it is"
        )
    rewrite = None
    if file.cache is not None:
        # Imported for this case alone: it brings onnx and the passes of the export.
        from rcnn_jax.export.conversion import as_int8

        rewrite = as_int8(file.cache)
    return open_model(
        file.path,
        key,
        header=file.header,
        rewrite=rewrite,
        runtime=file.runtime,
        reporter=reporter,
    )
