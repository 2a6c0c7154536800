"""`evaluate`: scores a model on the validation images of the spec."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from rcnn_jax.cli.arguments import Kind, choose_devices, existing_file
from rcnn_jax.cli.session import Session, memory_advice, read_spec
from rcnn_jax.errors import UsageError

ENGINE_SUFFIXES = (".engine", ".trt", ".plan")


def run(args: Namespace, kind: Kind) -> int:
    """Evaluates as the command line says; returns the exit code.

    Raises:
      RcnnError: the flags, the spec, the data or the model are at fault.
    """
    choose_devices(args, "evaluate")
    title = f"{kind} evaluate"
    with Session(title, status_folder=args.workdir, log_file=args.log_file) as session:
        config, key = read_spec(session, args, kind)
        model = model_file(args.model, config, "evaluation_config", "trt_evaluation")
        start(config, kind, model=model, key=key, workdir=args.workdir, session=session)
    return 0


def start(
    config: ConfigDict,
    kind: Kind,
    *,
    model: Path,
    key: str | None,
    workdir: Path | None,
    session: Session,
) -> None:
    """Evaluates the model and puts its metrics into status.json."""
    from rcnn_jax.cli.backends import backend_of
    from rcnn_jax.evaluate.command import evaluate

    with memory_advice(kind):
        metrics = evaluate(
            config,
            kind,
            model=model,
            key=key,
            workdir=workdir,
            session=session,
            backend=backend_of(model),
        )
    session.status("RUNNING", "Evaluation metrics generated.", kpi=metrics)


def model_file(flag: Path | None, config: ConfigDict, section: str, engine_section: str) -> Path:
    """Returns the model to run: -m, else the engine of the spec, else the model of the spec.

    Args:
      flag: value of -m.
      config: experiment spec; a Mask R-CNN spec names no model.
      section: `evaluation_config` or `inference_config`.
      engine_section: its message that names a TensorRT engine.

    Raises:
      UsageError: no model is named, it does not exist, or it is an engine.
    """
    path, source = flag, "-m"
    if path is None and section in config:
        fields: Any = config[section]
        engine = fields[engine_section]
        name = (engine.trt_engine if engine.enabled else None) or fields.model
        path, source = (Path(name) if name else None), f"{section}.model"
    if path is None:
        raise UsageError(f"no model: give -m FILE or {section}.model in the spec")
    if path.suffix in ENGINE_SUFFIXES:
        raise UsageError(
            f"{path} is a TensorRT engine; this version runs .tlt, .onnx and .etlt models: "
            "give one with -m"
        )
    return existing_file(path, source)
