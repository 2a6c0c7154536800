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
        if args.data_type != "int8":
            for flag in ("cal_image_dir", "cal_data_file", "cal_json_file"):
                if getattr(args, flag):
                    session.note(f"--{flag} has no effect with --data_type {args.data_type}")
        from rcnn_jax.export.calibration_data import CalibrationSettings
        from rcnn_jax.export.command import export

        model = existing_file(args.model, "-m")
        fixed = args.static_batch_size if args.static_batch_size > 0 else None
        with memory_advice(kind):
            export(
                config,
                kind,
                model=model,
                key=key,
                output=output_file(args.output, model),
                contract=args.contract,
                batch=fixed,
                session=session,
                data_type=args.data_type,
                calibration=CalibrationSettings(
                    cache_file=args.cal_cache_file,
                    json_file=args.cal_json_file,
                    image_dir=args.cal_image_dir,
                    data_file=args.cal_data_file,
                    batches=args.batches,
                    batch_size=fixed or args.batch_size,
                    method=args.cal_method,
                ),
                eval_images=args.eval_images,
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
    """Stops at what cannot be, before anything is loaded."""
    for flag in ("batches", "batch_size"):
        if getattr(args, flag) < 1:
            raise UsageError(f"--{flag} {getattr(args, flag)}: expected 1 or more")
    if args.eval_images < 0:
        raise UsageError(f"--eval-images {args.eval_images}: expected 0 or more")
    for flag in ("engine_file", "gen_ds_config"):
        if getattr(args, flag):
            raise UsageError(f"--{flag}: this version writes the ONNX file only")
