"""`export`: writes a checked ONNX file of a model."""

from argparse import Namespace
from pathlib import Path

from rcnn_jax.cli.arguments import Kind, choose_devices, existing_file
from rcnn_jax.cli.session import Session, memory_advice, read_spec
from rcnn_jax.errors import UsageError

SUFFIXES = (".onnx", ".etlt")
OPSET = 17


def run(args: Namespace, kind: Kind) -> int:
    """Exports as the command line says; returns the exit code.

    Raises:
      RcnnError: the flags, the spec or the model are at fault, or the check failed.
    """
    choose_devices(args, "export")
    _refuse(args)
    title = f"{kind} export"
    with Session(title, status_folder=args.workdir, log_file=args.log_file) as session:
        config, key = read_spec(session, args, kind)
        if args.target_opset not in (None, OPSET):
            session.note(
                f"--target_opset {args.target_opset} has no effect: RoiAlign needs {OPSET}"
            )
        from rcnn_jax.export.command import export

        model = existing_file(args.model, "-m")
        with memory_advice(kind):
            export(
                config,
                kind,
                model=model,
                key=key,
                output=output_file(args.output, model),
                contract=args.contract,
                batch=args.static_batch_size if args.static_batch_size > 0 else None,
                session=session,
            )
    return 0


def output_file(flag: Path | None, model: Path) -> Path:
    """Returns the file to write: -o, or the model's name with `.onnx`.

    Raises:
      UsageError: it exists already, or has another suffix than .onnx and .etlt.
    """
    path = flag or model.with_suffix(".onnx")
    if path.suffix == "":
        path = path.with_name(path.name + ".onnx")
    if path.suffix not in SUFFIXES:
        raise UsageError(f"-o {path}: expected a name ending in {' or '.join(SUFFIXES)}")
    if path.exists():
        raise UsageError(f"-o {path}: exists already; remove it or choose another name")
    return path


def _refuse(args: Namespace) -> None:
    """Stops at what this version does not do, before anything is loaded."""
    if args.data_type != "fp32":
        raise UsageError(f"--data_type {args.data_type}: this version exports fp32 only")
    for flag in ("engine_file", "gen_ds_config"):
        if getattr(args, flag):
            raise UsageError(f"--{flag}: this version writes the ONNX file only")
