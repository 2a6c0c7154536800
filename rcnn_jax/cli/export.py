"""`export`: writes a checked ONNX file of a model."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from rcnn_jax.cli.flags import Kind, choose_devices, existing_file
from rcnn_jax.cli.session import Session, memory_advice, read_spec
from rcnn_jax.errors import UsageError

if TYPE_CHECKING:
    from rcnn_jax.export.deployment import Deployment

SUFFIXES = (".onnx", ".etlt")
OPSET = 17


def run(args: Namespace, kind: Kind) -> int:
    """Exports as the command line says; returns the exit code.

    Raises:
      RcnnError: the flags, the spec or the model are at fault, or the check failed.
    """
    choose_devices(args, "export")
    _refuse(args)
    names = output_names(args.output_names, kind, args.contract)
    title = f"{kind} export"
    with Session(title, status_folder=args.workdir, log_file=args.log_file) as session:
        config, key = read_spec(session, args, kind, "export")
        if args.target_opset not in (None, OPSET):
            session.note(
                f"--target_opset {args.target_opset} has no effect: RoiAlign needs {OPSET}"
            )
        if args.data_type != "int8":
            for flag in ("cal_image_dir", "cal_data_file", "cal_json_file"):
                if getattr(args, flag):
                    session.note(f"--{flag} has no effect with --data_type {args.data_type}")
        from rcnn_jax.checkpoints.state import stored_categories
        from rcnn_jax.export.calibration_data import CalibrationSettings
        from rcnn_jax.export.command import export
        from rcnn_jax.export.contracts import NMS_NAMES, make_header
        from rcnn_jax.export.deployment import check, deploy
        from rcnn_jax.tasks.build import build_experiment

        model = existing_file(args.model, "-m")
        output = output_file(args.output, model)
        fixed = args.static_batch_size if args.static_batch_size > 0 else None
        experiment = build_experiment(config, kind, categories=stored_categories(model, key))
        deployment = _deployment(args)
        names = names or NMS_NAMES
        check(deployment, make_header(experiment, args.contract, fixed, names))
        with memory_advice(kind):
            export(
                config,
                kind,
                model=model,
                key=key,
                output=output,
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
                nms_names=names,
            )
        deploy(deployment, output, key, experiment.visualize_threshold, session)
    return 0


def _deployment(args: Namespace) -> "Deployment":
    """Returns what the flags want beside the ONNX file."""
    from rcnn_jax.export.deepstream import PARSER_LIBRARY
    from rcnn_jax.export.deployment import Deployment
    from rcnn_jax.export.tensorrt import BuildSettings

    return Deployment(
        engine=args.engine_file,
        build=BuildSettings(
            batches=(args.min_batch_size, args.opt_batch_size, args.max_batch_size),
            workspace=args.max_workspace_size,
            timing_cache=args.timing_cache,
        ),
        strict=args.strict_type_constraints,
        bundle=args.gen_ds_config,
        library=args.ds_parser_lib or PARSER_LIBRARY,
    )


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


def output_names(flag: str | None, kind: Kind, contract: str) -> tuple[str, str] | None:
    """Returns the names that --output_names gives, None without it.

    Raises:
      UsageError: they are not two, or the outputs of the graph have fixed names.
    """
    if flag is None:
        return None
    if kind != "faster_rcnn" or contract != "tao":
        raise UsageError(
            f"--output_names {flag}: only the outputs NMS and NMS_1 of a Faster R-CNN (--contract "
            "tao) can have other names: those of the others are what they are read by"
        )
    names = [name.strip() for name in flag.split(",")]
    if len(set(names)) != 2 or len(names) != 2 or not all(names):
        raise UsageError(f"--output_names {flag}: expected two names, such as nms_out,nms_out_1")
    return names[0], names[1]


def _refuse(args: Namespace) -> None:
    """Stops at what cannot be, before anything is loaded."""
    for flag in ("batches", "batch_size"):
        if getattr(args, flag) < 1:
            raise UsageError(f"--{flag} {getattr(args, flag)}: expected 1 or more")
    if args.eval_images < 0:
        raise UsageError(f"--eval-images {args.eval_images}: expected 0 or more")
    smallest, usual, largest = args.min_batch_size, args.opt_batch_size, args.max_batch_size
    if not 1 <= smallest <= usual <= largest:
        raise UsageError(
            "expected 1 <= --min_batch_size <= --opt_batch_size <= --max_batch_size, found "
            f"{smallest}, {usual}, {largest}"
        )
    if args.max_workspace_size < 1:
        raise UsageError(f"--max_workspace_size {args.max_workspace_size}: expected bytes")
