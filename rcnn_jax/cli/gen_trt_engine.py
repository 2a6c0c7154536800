"""`gen_trt_engine` of TAO 4 and 5: an engine from an exported model, calibrated where it must be.

`converter` does the same with the flags of tao-converter. Here int8 may start from images.
"""

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rcnn_jax.cli.export import engine_paths
from rcnn_jax.cli.flags import (
    CALIBRATION_DEFAULTS,
    ENGINE_DEFAULTS,
    choose_devices,
    existing_file,
    flag_notes,
    key_from,
    vain_flags,
    with_defaults,
)
from rcnn_jax.cli.outputs import CommandPaths, common
from rcnn_jax.cli.rtx_engines import BUNDLES, build_rtx, export_again, graph_of
from rcnn_jax.cli.session import Session, read_spec
from rcnn_jax.errors import UsageError
from rcnn_jax.kinds import Kind
from rcnn_jax.text_file import read_text

if TYPE_CHECKING:
    import onnx
    from ml_collections import ConfigDict

    from rcnn_jax.runtime.graph import OpenGraph
    from rcnn_jax.runtime.header import Header

GIGABYTE = 1 << 30
DEFAULTS = {**ENGINE_DEFAULTS, "max_batch_size": 1, "max_workspace_size": 2}
"""As TAO's own: unlike `export`, the workspace is in GB."""
SUFFIXES = (".onnx", ".etlt")
INT8 = "--data_type int8"


def run(args: Namespace, kind: Kind) -> int:
    """Builds an engine as the command line says; returns the exit code.

    Raises:
      RcnnError: the flags, the spec or the model are at fault, TensorRT is missing or cannot build
        the engine.
    """
    choose_devices(args, "gen_trt_engine")
    notes = [] if args.data_type == "int8" else vain_flags(args, CALIBRATION_DEFAULTS, INT8)
    # Kept as given: the batches of the engine depend on which flags are absent.
    wanted = args
    args = with_defaults(args, {**CALIBRATION_DEFAULTS, **DEFAULTS})
    for flag in ("batches", "batch_size", "max_workspace_size"):
        if getattr(args, flag) < 1:
            raise UsageError(f"--{flag} {getattr(args, flag)}: expected 1 or more")
    path = existing_file(args.model, "-m")
    from rcnn_jax.runtime.tensorrt_rtx import targets_of

    targets = None if args.rtx is None else targets_of(args.rtx)
    if path.suffix not in SUFFIXES and not (targets and path.suffix in BUNDLES):
        raise UsageError(
            f"-m {path}: expected a name ending in {' or '.join(SUFFIXES)}: engines are built from "
            f"what {kind} export writes"
        )
    if targets:
        notes += [f"{flag} has no effect with --rtx" for flag in _unused_with_rtx(wanted)]
    title = f"{kind} gen_trt_engine"
    with Session(title, status_folder=args.workdir, log_file=args.log_file) as session:
        from rcnn_jax.export.conversion import describe, precision_of, with_precision
        from rcnn_jax.runtime import tensorrt, tensorrt_rtx
        from rcnn_jax.runtime.engine import write_engine
        from rcnn_jax.runtime.graph import open_graph

        config, key = None, key_from(args)
        if args.spec is None and args.config is None:
            notes = [*flag_notes(args), *notes]
        else:
            # As for an export: specs of deployed models have no schedule and no training data.
            config, key = read_spec(session, args, kind, "export")
        for note in notes:
            session.note(note)
        if path.suffix in BUNDLES:
            path = export_again(path, key, engine_file(args), args.data_type, session)
        opened = open_graph(path, key)
        model, header = opened.model, opened.header
        session.console.print(describe(model, header, str(path)), markup=False)
        _check_model(opened, kind, config, session)
        batches = _batches(wanted, header.batch)
        precision = precision_of(model)
        if args.data_type not in (None, precision) and precision != "fp32":
            raise UsageError(
                f"--data_type {args.data_type}: {path} is {precision} already, and that cannot be taken "
                "back: leave --data_type out, or give the fp32 file"
            )
        calibrates = args.data_type == "int8" and precision == "fp32"
        if calibrates:
            _check_calibration(args)
        engine = engine_file(args)
        # Asked for before calibrating: without TensorRT, minutes of it would be wasted.
        builder = tensorrt_rtx if targets else tensorrt
        builder.library(f"building {engine} (the ONNX model is complete without it)")
        if calibrates and not args.cal_cache_file.exists():
            _calibrate(model, header, args, session)
        strict = args.strict_type_constraints
        model = with_precision(
            model, args.data_type, args.cal_cache_file, strict=strict, name=str(path)
        )
        if targets:
            build_rtx(engine, model, opened.model, header, batches, targets, str(path), session)
            return 0
        settings = tensorrt.BuildSettings(
            batches=batches,
            # tao deploy counted gigabytes here, export bytes.
            workspace=args.max_workspace_size * GIGABYTE,
            timing_cache=args.timing_cache,
            precision=precision_of(model),
        )
        write_engine(engine, model, header, settings, session)
    return 0


def paths(args: Namespace, kind: Kind) -> CommandPaths:
    """Lists the paths of the command's inputs and outputs."""
    known, _ = common(args, kind, "export")
    known.read("-m", args.model)
    engine = engine_file(args)
    engine_paths(known, Namespace(engine_file=engine, timing_cache=args.timing_cache))
    if args.rtx is not None and args.model is not None and args.model.suffix in BUNDLES:
        known.write("the graph of -m", graph_of(engine, key_from(args)))
    if args.data_type == "int8":
        # Here, because defaults are put in later than paths are asked for.
        cache = args.cal_cache_file or CALIBRATION_DEFAULTS["cal_cache_file"]
        known.write("--cal_cache_file", cache)
        known.write("--cal_data_file", args.cal_data_file)
        known.read("--cal_json_file", args.cal_json_file)
        known.read("--cal_image_dir", args.cal_image_dir, "folder")
    return known


def engine_file(args: Namespace) -> Path:
    """Returns the engine to write: that of the flag, else one in the results folder.

    Raises:
      UsageError: neither is named.
    """
    if args.engine_file is not None:
        return args.engine_file
    if args.workdir is None:
        raise UsageError("no file for the engine: give --engine_file FILE or -r DIR")
    return args.workdir / f"{args.model.stem}.engine"


def _check_model(
    model: "OpenGraph", kind: Kind, config: "ConfigDict | None", session: Session
) -> None:
    """Stops when the model is of the other detector, or of another spec where one is given."""
    of_model = model.header.kind
    if of_model != kind:
        raise UsageError(
            f"-m {model.path}: is a model of {of_model}: use {of_model} gen_trt_engine"
        )
    if config is None:
        return
    from rcnn_jax.runtime.open import experiment_of

    experiment_of(model, config, kind, own_classes=True, reporter=session)


def _batches(args: Namespace, fixed: int | None) -> tuple[int, int, int]:
    """Returns the smallest, usual and largest batch; one that is not given lies between the others.

    Raises:
      UsageError: they are not in order, or the model has another fixed batch.
    """
    given = [args.min_batch_size, args.opt_batch_size, args.max_batch_size]
    if fixed is not None:
        if any(value not in (None, fixed) for value in given):
            raise UsageError(
                f"{_shown(given)}: the model was exported for a batch of {fixed}; leave them out"
            )
        return fixed, fixed, fixed
    low = given[0] or 1
    # Best at the smallest: one image at a time is what inference mostly means.
    usual = given[1] or low
    high = given[2] or max(usual, DEFAULTS["max_batch_size"])
    if not 1 <= low <= usual <= high:
        raise UsageError(
            "expected 1 <= --min_batch_size <= --opt_batch_size <= --max_batch_size, found "
            f"{low}, {usual}, {high}"
        )
    return low, usual, high


def _unused_with_rtx(args: Namespace) -> list[str]:
    """Returns the flags that TensorRT for RTX has no use for: no kernel is timed without a GPU."""
    named = {"--timing_cache": args.timing_cache, "--max_workspace_size": args.max_workspace_size}
    return [flag for flag, value in named.items() if value is not None]


def _shown(given: list[int | None]) -> str:
    names = ("--min_batch_size", "--opt_batch_size", "--max_batch_size")
    return ", ".join(f"{n} {v}" for n, v in zip(names, given, strict=True) if v is not None)


def _check_calibration(args: Namespace) -> None:
    """Stops when there is neither a calibration cache nor anything to calibrate on.

    Raises:
      UsageError: neither exists.
    """
    if args.cal_cache_file.exists():
        return
    if args.cal_json_file is not None:
        existing_file(args.cal_json_file, "--cal_json_file")
        return
    if args.cal_data_file is not None and args.cal_data_file.exists():
        return
    if args.cal_image_dir is None:
        raise UsageError(
            f"{INT8}: there is no calibration cache {args.cal_cache_file}: give the one that export "
            "wrote with --cal_cache_file, or images with --cal_image_dir"
        )
    from rcnn_jax.data.formats.image_folder import find_images

    # Only to fail early: the images are listed again when they are read.
    find_images(args.cal_image_dir, what="image folder (--cal_image_dir)")


def _calibrate(
    model: "onnx.ModelProto", header: "Header", args: Namespace, session: Session
) -> None:
    """Writes the calibration cache of a graph: from JSON, a file of batches or images."""
    from rcnn_jax.checkpoints.atomic import write_file
    from rcnn_jax.export.precision.calibration import observe, scales_of, with_fused
    from rcnn_jax.export.precision.digest import check_digest, weights_digest
    from rcnn_jax.export.precision.scales import digest_of_json, read_json, write_cache
    from rcnn_jax.export.precision.tensorfile import read_tensorfile, write_tensorfile

    if args.cal_json_file is not None:
        text = read_text(args.cal_json_file, "file of scales")
        scales = read_json(text, str(args.cal_json_file))
        digest = weights_digest(model)
        check_digest(digest_of_json(text), model, f"--cal_json_file {args.cal_json_file}")
        write_file(args.cal_cache_file, [write_cache(scales, digest).encode()])
        session.console.print(f"calibration cache: {args.cal_cache_file}", markup=False)
        return
    data: Path | None = args.cal_data_file
    shape = (len(header.mean), *header.canvas)
    if data is not None and data.exists():
        session.console.print(f"calibrating on the batches of {data}", markup=False)
        batches = read_tensorfile(data, shape)
    else:
        session.console.print(f"calibrating on {args.cal_image_dir}", markup=False)
        batches = _image_batches(header, args)
        if data is not None:
            write_tensorfile(data, batches)
            batches = read_tensorfile(data, shape)
    seen = session.track(batches, args.batches, "calibrate")
    scales = with_fused(model, scales_of(observe(model, seen), args.cal_method))
    digest = weights_digest(model)
    write_file(args.cal_cache_file, [write_cache(scales, digest).encode()])
    session.console.print(f"calibration cache: {args.cal_cache_file}", markup=False)


def _image_batches(header: "Header", args: Namespace) -> Iterator[np.ndarray]:
    """Yields f32[b c h w] of a random sample of a folder, preprocessed as the model was trained."""
    from rcnn_jax.data.formats.image_folder import find_images
    from rcnn_jax.data.loader import images as image_files
    from rcnn_jax.runtime.backend import preprocess

    paths = find_images(args.cal_image_dir, what="image folder (--cal_image_dir)").paths
    # A random sample, because neighbours in a folder often show one scene; of a fixed seed, so that
    # the same command writes the same cache.
    order = np.random.default_rng(0).permutation(len(paths))[: args.batches * args.batch_size]
    for start in range(0, len(order), args.batch_size):
        canvases = []
        for i in order[start : start + args.batch_size]:
            pixels = image_files.read_image(paths[i], header.channel_order)
            placed = image_files.fit((pixels.shape[0], pixels.shape[1]), header.geometry)
            canvases.append(image_files.apply_image(pixels, placed))
        yield preprocess(np.stack(canvases), header)
