"""`converter` (also `tao-converter`, `tlt-converter`): builds an engine from an exported model."""

import argparse
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcnn_jax.cli.flags import KEY_VARIABLE, existing_file, key_from
from rcnn_jax.cli.outputs import CommandPaths, beside
from rcnn_jax.cli.rtx_engines import BUNDLES, Batches, build_rtx, export_again, graph_of
from rcnn_jax.cli.session import Session
from rcnn_jax.errors import UsageError

if TYPE_CHECKING:
    from rcnn_jax.export.conversion import Dims
    from rcnn_jax.runtime.header import Header
    from rcnn_jax.runtime.tensorrt import BuildSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of tao-converter, all of them, and those of our own."""
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help=".etlt or .onnx that export wrote; with --rtx a .tlt too, which is exported first",
    )
    parser.add_argument(
        "-k", dest="key", metavar="KEY", help=f"key of an .etlt file (default: ${KEY_VARIABLE})"
    )
    parser.add_argument(
        "-d", dest="dims", metavar="C,H,W", help="input dims, checked against the model"
    )
    parser.add_argument(
        "-o", dest="outputs", metavar="NAMES", help="output names, checked against the model"
    )
    parser.add_argument(
        "-e",
        dest="engine",
        type=Path,
        # tao-converter's own defaults here and below: scripts that leave flags out find the same
        # files.
        default=Path("saved.engine"),
        metavar="FILE",
        help="engine to write (default: ./saved.engine)",
    )
    parser.add_argument(
        # tao-converter took fp32 when -t was missing. An exported graph says its precision itself.
        "-t",
        dest="precision",
        choices=("fp32", "fp16", "int8"),
        help="precision (default: that of the model; an fp32 model can be made fp16 or int8)",
    )
    parser.add_argument(
        "-c",
        dest="cache",
        type=Path,
        default=Path("cal.bin"),
        metavar="FILE",
        help="calibration cache of int8 (default: ./cal.bin)",
    )
    parser.add_argument(
        "-b",
        dest="calibration_batch",
        type=int,
        metavar="N",
        help="accepted without effect: the cache of -c holds the calibration",
    )
    parser.add_argument(
        "-m",
        dest="max_batch",
        type=int,
        default=16,
        metavar="N",
        help="largest batch, where the model leaves it free and -p says nothing (default: 16)",
    )
    parser.add_argument(
        "-p",
        dest="profiles",
        action="append",
        default=[],
        metavar="INPUT,MIN,OPT,MAX",
        help="smallest, usual and largest input, each NxCxHxW",
    )
    parser.add_argument(
        "-w",
        dest="workspace",
        type=int,
        default=1 << 30,
        metavar="BYTES",
        help="GPU memory that kernels may use (default: 1073741824)",
    )
    parser.add_argument(
        "-i",
        dest="order",
        choices=("nchw", "nhwc", "nc"),
        default="nchw",
        help="order of the input; models have nchw",
    )
    parser.add_argument(
        "-s",
        dest="strict",
        action="store_true",
        help="int8: the other layers stay fp32, not fp16",
    )
    parser.add_argument(
        "-u", dest="dla_core", type=int, metavar="CORE", help="DLA core (Jetson), GPU for the rest"
    )
    parser.add_argument(
        "--header",
        type=Path,
        metavar="FILE",
        help="exported model (or JSON) whose header MODEL has lost in another tool",
    )
    parser.add_argument(
        "--rtx",
        metavar="GENERATIONS",
        help="build with TensorRT for RTX, which needs no GPU, for sm75, sm80, sm86, sm89, sm120, "
        "sm121, one or several with commas; needs the extra rcnn-jax[rtx]",
    )
    parser.add_argument(
        "--timing_cache",
        type=Path,
        metavar="FILE",
        help="measured kernel times: read when it exists, written after the build",
    )


def paths(args: Namespace) -> CommandPaths:
    """Lists the paths of the command's inputs and outputs."""
    known = CommandPaths()
    known.read("MODEL", args.model)
    known.read("-c", args.cache)
    known.read("--header", args.header)
    known.write("-e", args.engine)
    known.write("the description of -e", beside(args.engine, ".json"))
    if args.rtx is not None and args.model.suffix in BUNDLES:
        known.write("the graph of MODEL", graph_of(args.engine, key_from(args)))
    known.write("--timing_cache", args.timing_cache)
    return known


def run(args: Namespace) -> int:
    """Builds the engine; returns the exit code.

    Raises:
      RcnnError: the flags or the model are at fault, TensorRT is missing or cannot build it.
    """
    from rcnn_jax.export.conversion import describe, values_of
    from rcnn_jax.runtime.engine import write_engine
    from rcnn_jax.runtime.graph import open_graph
    from rcnn_jax.runtime.tensorrt_rtx import targets_of

    # Before the session: a flag that is wrong must not open a console of progress first.
    targets = None if args.rtx is None else targets_of(args.rtx)
    if targets and args.dla_core is not None:
        raise UsageError(
            f"-u {args.dla_core}: TensorRT for RTX knows no DLA; leave -u or --rtx out"
        )
    path = existing_file(args.model, "MODEL")
    # By suffix, before anything is decrypted: the likeliest wrong file deserves the command that
    # helps.
    if path.suffix in BUNDLES and not targets:
        raise UsageError(
            f"MODEL {path}: is a bundle, and an engine is built from what export writes: "
            f"rcnn-jax faster_rcnn (or mask_rcnn) export -e SPEC "
            f"-m {path} -o {path.with_suffix('.onnx').name}"
        )
    with Session("converter", status_folder=None) as session:
        if args.calibration_batch is not None:
            session.note("-b has no effect here: the cache of -c holds the calibration")
        # From tao-converter's flags no spec is known: what the engine is comes from the header of
        # the graph.
        if path.suffix in BUNDLES:
            path = export_again(path, key_from(args), args.engine, args.precision, session)
        opened = open_graph(path, key_from(args), header=args.header)
        model, header = opened.model, opened.header
        session.console.print(describe(model, header, str(path)), markup=False)
        # The graph has one input; two would end here, and no export writes them.
        ((name, shape),) = values_of(model.graph.input).items()
        outputs = tuple(values_of(model.graph.output))
        check_flags(args, shape, outputs)
        batches = batches_of(args.profiles, args.max_batch, name, shape)
        if args.dla_core is not None and batches[0] != batches[2]:
            raise UsageError(
                f"-u {args.dla_core}: the DLA runs one batch size, found {batches[0]} to "
                f"{batches[2]}: export with --static_batch_size, or give -p with three equal shapes"
            )
        if targets:
            _build_rtx(args, model, header, batches, targets, str(path), session)
            return 0
        model, settings = _prepare(args, model, batches, str(path))
        low, usual, high = batches
        session.console.print(
            f"  engine   {settings.precision}, batch {low} to {high} (best at {usual})",
            markup=False,
        )
        write_engine(args.engine, model, header, settings, session)
        session.console.print(
            # The last line of the original's log, grammar included: scripts look for it.
            f"Detected 1 inputs and {len(outputs)} output network tensors.",
            markup=False,
        )
    return 0


def _build_rtx(
    args: Namespace,
    model: Any,
    header: "Header",
    batches: Batches,
    targets: tuple[str, ...],
    name: str,
    session: Session,
) -> None:
    """Builds an engine of TensorRT for RTX."""
    from rcnn_jax.export.conversion import with_precision
    from rcnn_jax.runtime.tensorrt_rtx import library

    # what is missing is told before the graph is changed and compared
    library(f"building {args.engine} (the ONNX model is complete without it)")
    if args.timing_cache is not None:
        session.note("--timing_cache has no effect with --rtx: no kernel is timed without a GPU")
    lowered = with_precision(model, args.precision, args.cache, strict=args.strict, name=name)
    build_rtx(args.engine, lowered, model, header, batches, targets, name, session)


def _prepare(
    args: Namespace, model: Any, batches: Batches, name: str
) -> tuple[Any, "BuildSettings"]:
    """Returns the graph to build and how; on the DLA of TensorRT 10 the graph stays plain."""
    from rcnn_jax.export.conversion import precision_of, read_calibration, with_precision
    from rcnn_jax.export.precision.digest import check_digest
    from rcnn_jax.export.precision.scales import digest_of_cache
    from rcnn_jax.runtime import tensorrt

    wanted, calibration = args.precision, None
    # On a DLA TensorRT 10 chooses the precision by flags and a calibration cache, from an fp32 graph.
    plain = args.dla_core is not None and tensorrt.takes_plain_graph(
        tensorrt.library(f"building {args.engine} (the ONNX model is complete without it)"),
        args.dla_core,
    )
    if plain:
        # A DLA has no fp32, so an absent -t cannot mean the model's own precision.
        wanted = wanted or "fp16"
        if precision_of(model) != "fp32" or wanted == "fp32":
            raise UsageError(
                f"-u {args.dla_core}: the DLA of TensorRT 10 computes in fp16 or int8 from an fp32 "
                f"model; {name} is {precision_of(model)}, -t is {wanted}"
            )
        calibration = read_calibration(args.cache) if wanted == "int8" else None
        if calibration is not None:
            text = calibration.decode("utf-8", "replace")
            check_digest(digest_of_cache(text), model, f"-c {args.cache}")
    else:
        model = with_precision(model, wanted, args.cache, strict=args.strict, name=name)
        wanted = precision_of(model)
    return model, tensorrt.BuildSettings(
        batches=batches,
        workspace=args.workspace,
        timing_cache=args.timing_cache,
        dla_core=args.dla_core,
        precision=wanted,
        calibration_cache=calibration,
    )


def check_flags(args: Namespace, shape: "Dims", outputs: tuple[str, ...]) -> None:
    """Compares what the flags say with what the model has.

    Args:
      args: flags.
      shape: of the input, (batch, c, h, w).
      outputs: names of the graph's outputs.

    Raises:
      UsageError: they differ, or a number is out of range.
    """
    if args.order != "nchw":
        raise UsageError(f"-i {args.order}: the model takes nchw; leave -i out")
    if args.dims is not None:
        given = _integers(args.dims, ",", 3, f"-d {args.dims}", "C,H,W")
        if given != shape[1:]:
            raise UsageError(f"-d {args.dims}: the model takes {','.join(map(str, shape[1:]))}")
    if args.outputs is not None:
        # a name stands for its further bindings too: NMS for NMS_1
        named = {name.strip() for name in args.outputs.split(",")}
        missing = [name for name in outputs if not named & {name, name.rpartition("_")[0]}]
        if missing or not named <= set(outputs):
            raise UsageError(f"-o {args.outputs}: the model gives {','.join(outputs)}")
    for flag, value in (("-w", args.workspace), ("-m", args.max_batch)):
        if value < 1:
            raise UsageError(f"{flag} {value}: expected 1 or more")


def batches_of(profiles: list[str], largest: int, name: str, shape: "Dims") -> Batches:
    """Returns the smallest, usual and largest batch of the engine.

    Args:
      profiles: values of -p.
      largest: value of -m, for a free batch without -p.
      name: of the input.
      shape: of the input; its first dim is None where the batch is free.

    Raises:
      UsageError: a profile is of another input or shape, or not in order.
    """
    fixed = shape[0]
    if not profiles:
        # Tuned for the largest batch, as implicit batches were.
        return (fixed, fixed, fixed) if fixed is not None else (1, largest, largest)
    if len(profiles) > 1:
        raise UsageError(f"-p is given {len(profiles)} times, the model has one input: {name}")
    parts = profiles[0].split(",")
    if len(parts) != 4:
        raise UsageError(f"-p {profiles[0]}: expected INPUT,MIN,OPT,MAX, the last three NxCxHxW")
    if parts[0] != name:
        raise UsageError(f"-p {profiles[0]}: the input of the model is {name}")
    shapes = [_integers(part, "x", 4, f"-p {profiles[0]}: {part}", "NxCxHxW") for part in parts[1:]]
    dims = "x".join(map(str, shape[1:]))
    # Channels and canvas are part of the graph: anchors and crops were computed for them.
    if any(given[1:] != shape[1:] for given in shapes):
        raise UsageError(f"-p {profiles[0]}: the model takes Nx{dims}, only N may change")
    low, usual, high = (given[0] for given in shapes)
    if not 1 <= low <= usual <= high:
        raise UsageError(
            f"-p {profiles[0]}: expected MIN <= OPT <= MAX, found {low}, {usual}, {high}"
        )
    if fixed is not None and (low, high) != (fixed, fixed):
        raise UsageError(f"-p {profiles[0]}: the model was exported for a batch of {fixed}")
    return low, usual, high


def _integers(text: str, separator: str, count: int, where: str, form: str) -> tuple[int, ...]:
    parts = text.lower().split(separator)
    if len(parts) != count or not all(part.strip().isdecimal() for part in parts):
        raise UsageError(f"{where}: expected {form}")
    return tuple(int(part) for part in parts)
