"""`export`: writes a checked ONNX file of a model."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from rcnn_jax.cli.backends import with_own_spec
from rcnn_jax.cli.flags import (
    CALIBRATION_DEFAULTS,
    ENGINE_DEFAULTS,
    choose_devices,
    existing_folder,
    existing_model,
    folder_beside,
    key_from,
    vain_flags,
    what_lies,
    with_defaults,
)
from rcnn_jax.cli.outputs import CommandPaths, beside, common
from rcnn_jax.cli.session import Session, memory_advice, read_spec
from rcnn_jax.errors import UsageError
from rcnn_jax.export.deepstream.files import bundle_files
from rcnn_jax.interrupt import too_late
from rcnn_jax.kinds import Kind
from rcnn_jax.tasks.families import family

if TYPE_CHECKING:
    from rcnn_jax.export.deployment import Deployment
    from rcnn_jax.export.lowering.portable import Forms
    from rcnn_jax.export.plan import ExportOptions

# RoiAlign has half-pixel centres from 16 on. One opset for all graphs: each is one more to test.
OPSET = 17


def run(args: Namespace, kind: Kind) -> int:
    """Exports as the command line says; returns the exit code.

    Raises:
      RcnnError: the flags, the spec or the model are at fault, or the check failed.
    """
    choose_devices(args, "export")
    # Before the defaults fill in: afterwards a flag that was given looks like any other.
    notes = _vain(args)
    args = with_defaults(args, {**CALIBRATION_DEFAULTS, **ENGINE_DEFAULTS})
    _refuse(args)
    if args.web is not None:
        args = for_browser(args)
    # For the error alone, before a model is opened; the value is read again below.
    if args.portable:
        portable_forms(args.portable_forms)
    names = output_names(args.output_names, kind, args.contract)
    title = f"{kind} export"
    with Session(title, status_folder=args.workdir, log_file=args.log_file) as session:
        opened = None
        if args.spec is None and args.config is None:
            opened, config, key = with_own_spec(args, kind, "export", session)
        else:
            config, key = read_spec(session, args, kind, "export")
        if args.target_opset not in (None, OPSET):
            session.note(
                f"--target_opset {args.target_opset} has no effect: RoiAlign needs {OPSET}"
            )
        for note in notes:
            session.note(note)
        from rcnn_jax.export.command import export
        from rcnn_jax.runtime.open import experiment_of, open_weights

        model = existing_model(args.model, "-m")
        output = output_file(args, key)
        if key and output.suffix == ".onnx":
            session.note(f"{output} is not encrypted with the key; a name ending in .etlt would be")
        opened = opened or open_weights(model, key, reporter=session)
        experiment = experiment_of(opened, config, kind, own_classes=True, reporter=session)
        options = _options(args, output, key, names)
        with memory_advice(kind):
            # From the last name on the export is whole: a signal then finds it ended.
            export(opened, experiment, options, session, finished=too_late)
    return 0


def _options(
    args: Namespace, output: Path, key: str | None, names: tuple[str, str] | None
) -> "ExportOptions":
    """Returns the options of the export."""
    from rcnn_jax.export.plan import ExportOptions
    from rcnn_jax.export.precision.calibration_data import CalibrationSettings
    from rcnn_jax.runtime.header import NMS_NAMES

    fixed = args.static_batch_size if args.static_batch_size > 0 else None
    return ExportOptions(
        output=output,
        key=key,
        contract=args.contract,
        batch=fixed,
        nms_names=names or NMS_NAMES,
        data_type=args.data_type,
        calibration=CalibrationSettings(
            cache_file=args.cal_cache_file,
            json_file=args.cal_json_file,
            image_dir=args.cal_image_dir,
            data_file=args.cal_data_file,
            batches=args.batches,
            # A graph of fixed batch runs with no other; the original forced the calibration batch
            # likewise.
            batch_size=fixed or args.batch_size,
            method=args.cal_method,
        ),
        force_ptq=args.force_ptq,
        eval_images=args.eval_images,
        portable=portable_forms(args.portable_forms) if args.portable else None,
        accept_loss=args.accept_loss,
        deployment=_deployment(args),
    )


def _deployment(args: Namespace) -> "Deployment":
    """Returns the further output that the flags ask for."""
    from rcnn_jax.export.deepstream.parsers import LIBRARY
    from rcnn_jax.export.deployment import Deployment
    from rcnn_jax.runtime.tensorrt import BuildSettings

    return Deployment(
        engine=args.engine_file,
        build=BuildSettings(
            batches=(args.min_batch_size, args.opt_batch_size, args.max_batch_size),
            workspace=args.max_workspace_size,
            timing_cache=args.timing_cache,
        ),
        strict=args.strict_type_constraints,
        bundle=args.gen_ds_config,
        library=args.ds_parser_lib or LIBRARY,
        triton=args.triton,
        web=args.web,
    )


def for_browser(args: Namespace) -> Namespace:
    """Returns the flags with those that a page needs: plain outputs, one image, portable operators.

    Raises:
      UsageError: a flag asks for something else.
    """
    # Refused, not overruled: whoever gave such a flag expects its effect in the same file.
    other = {
        "--gen_ds_config": args.gen_ds_config,
        "--output_names": args.output_names is not None,
        "--static_batch_size": args.static_batch_size > 1,
        "-o with .etlt, which is encrypted,": args.output is not None
        and args.output.suffix == ".etlt",
    }
    for flag, given in other.items():
        if given:
            raise UsageError(f"--web: a browser runs plain outputs of one image; leave {flag} out")
    return Namespace(
        **{**vars(args), "contract": "plain", "static_batch_size": 1, "portable": True}
    )


def portable_forms(text: str | None) -> "Forms":
    """Returns the forms that --portable-forms names.

    Raises:
      UsageError: it names something else.
    """
    from rcnn_jax.export.lowering.portable import Forms, forms_of

    # An absent list leaves the choice to the size of each node.
    if text is None:
        return Forms()
    try:
        return forms_of([name.strip() for name in text.split(",")])
    except ValueError as error:
        raise UsageError(
            f"--portable-forms {text}: expected loop or select (NonMaxSuppression), gather or grid "
            f"(RoiAlign), or one of each with a comma, found {error}"
        ) from error


def paths(args: Namespace, kind: Kind) -> CommandPaths:
    """Lists the paths of an export; a reused file is an output where it does not exist yet."""
    known, config = common(args, kind, "export")
    known.read("-m", args.model)
    if config is not None or args.spec is None:
        from rcnn_jax.spec.render import written_key

        key = key_from(args, None if config is None else written_key(config))
        output = _named_output(args, key)
        known.write("-o" if args.output else "the default of -o,", output)
        for ending in (".json", ".txt"):
            known.write("the report of the check", beside(output, f".check{ending}"))
        if args.gen_ds_config:
            # Their class ids count from 1, which DeepStream's labels do not: a further file
            # translates.
            shifted = family(kind).outputs == "detection_rows"
            for path in bundle_files(output, class_map=shifted).values():
                known.write("the DeepStream file", path)
        if args.triton is not None:
            from rcnn_jax.export.triton import repository

            there = repository(args.triton, output)
            for path in (there.labels, there.config, there.model):
                known.write("--triton", path)
        known.write("--web", args.web, "folder")
        if args.data_type == "int8":
            single = output.parent / f"{output.stem}.fp32{output.suffix}"
            known.write("the fp32 graph of int8", single)
    if args.data_type == "int8":
        cache = args.cal_cache_file or CALIBRATION_DEFAULTS["cal_cache_file"]
        # Declared as output although an existing one is only read: the log must not be appended to
        # it either.
        known.write("--cal_cache_file", cache)
        known.write("--cal_data_file", args.cal_data_file)
        known.write("--cal_json_file", args.cal_json_file)
        if args.cal_image_dir is not None:
            folder = existing_folder(args.cal_image_dir, "--cal_image_dir")
            known.read("--cal_image_dir", folder, "folder")
    engine_paths(known, args)
    return known


def engine_paths(known: CommandPaths, args: Namespace) -> None:
    """Adds the files that an engine build writes."""
    if args.engine_file is not None:
        known.write("--engine_file", args.engine_file)
        known.write("the description of --engine_file", beside(args.engine_file, ".json"))
        known.write("--timing_cache", args.timing_cache)


def output_file(args: Namespace, key: str | None) -> Path:
    """Returns the file to write: -o, or the model's name: `./<name>.etlt` where there is a key.

    Without a key it is `<name>.onnx` next to the model. Deviation: TLT's manual knows the first
    only, because it had no models without a key; TAO 5 the second only. With a config instead of a
    spec file both go to the workdir, as everything does there.

    Raises:
      UsageError: it exists already, or has another suffix than .onnx and .etlt.
    """
    from rcnn_jax.export.files import check_output

    path = _named_output(args, key)
    check_output(path)
    return path


def _named_output(args: Namespace, key: str | None) -> Path:
    suffix, flag = ".etlt" if key else ".onnx", args.output
    if flag is not None:
        named = flag.suffix or what_lies(flag) == "folder"  # a folder is refused by its own name
        return flag if named else beside(flag, suffix)
    # TLT wrote ./MODEL.etlt, TAO 5 MODEL.onnx next to the model.
    folder = Path() if key else folder_beside(args.model)
    if args.config is not None and args.workdir is not None:
        folder = args.workdir
    return folder / f"{args.model.stem}{suffix}"


def output_names(flag: str | None, kind: Kind, contract: str) -> tuple[str, str] | None:
    """Returns the names that --output_names gives, None without it.

    Raises:
      UsageError: they are not two, or the outputs of the graph have fixed names.
    """
    if flag is None:
        return None
    if family(kind).outputs != "nms_rows" or contract != "tao":
        raise UsageError(
            f"--output_names {flag}: only the outputs NMS and NMS_1 of a Faster R-CNN (--contract "
            "tao) can have other names: those of the others are what they are read by"
        )
    # By position: DeepStream's parser of a Faster R-CNN takes the first output and the second.
    names = [name.strip() for name in flag.split(",")]
    if len(set(names)) != 2 or len(names) != 2 or not all(names):
        raise UsageError(f"--output_names {flag}: expected two names, such as nms_out,nms_out_1")
    return names[0], names[1]


def _vain(args: Namespace) -> list[str]:
    """Returns a line for every flag that has no effect without another one."""
    notes = []
    if args.data_type != "int8":
        notes += vain_flags(args, CALIBRATION_DEFAULTS, "--data_type int8")
    if args.engine_file is None:
        needed = dict(ENGINE_DEFAULTS)
        if args.triton is not None:
            del needed["max_batch_size"]  # of Triton's config
        notes += vain_flags(args, needed, "--engine_file")
    if args.force_ptq and args.data_type != "int8":
        notes.append("--force_ptq has no effect without --data_type int8")
    if args.portable_forms is not None and not args.portable:
        notes.append("--portable-forms has no effect without --portable")
    if args.accept_loss and args.data_type == "fp32":
        notes.append("--accept-loss has no effect with --data_type fp32: nothing is lowered")
    return notes


def _refuse(args: Namespace) -> None:
    """Refuses numbers out of range, before anything is loaded."""
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
