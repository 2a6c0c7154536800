"""`benchmark`: one table of runtimes and precisions of a model on this machine."""

import argparse
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcnn_jax.cli.compilations import keep_compilations
from rcnn_jax.cli.flags import existing_model, key_from
from rcnn_jax.cli.outputs import CommandPaths, inputs_of_spec
from rcnn_jax.cli.session import Session, memory_advice
from rcnn_jax.errors import UsageError
from rcnn_jax.interrupt import resumable

if TYPE_CHECKING:
    from rcnn_jax.runtime.bundle import OpenBundle
    from rcnn_jax.runtime.engine import OpenEngine
    from rcnn_jax.runtime.graph import OpenGraph

RUNTIMES = ("jax", "onnxruntime", "openvino", "tensorrt", "trt-rtx", "webgpu")
PRECISIONS = ("fp32", "bf16", "fp16", "int8")
FORMS = ("ordinary", "portable")
"""Those of `benchmark.entry`, which the help needs without an import of it; a test compares them."""
TASK = "evaluate"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `benchmark`."""
    parser.add_argument(
        "model",
        type=Path,
        nargs="?",
        metavar="MODEL",
        help="trained model (.tlt, or a name of `weights list`), or an exported one",
    )
    parser.add_argument(
        "-e",
        "--experiment_spec",
        "--experiment_spec_file",
        dest="spec",
        type=Path,
        metavar="FILE",
        help="spec that names validation images, and training images for int8 (default: the one inside "
        "the .tlt)",
    )
    parser.add_argument(
        "-d",
        "--folder",
        type=Path,
        metavar="DIR",
        help="of graphs, results and tables; one that is there goes on (default: out/benchmark-MODEL)",
    )
    parser.add_argument(
        "--runtimes", metavar="LIST", help=f"separated by commas (default: {','.join(RUNTIMES)})"
    )
    parser.add_argument(
        "--precisions",
        metavar="LIST",
        help=f"separated by commas (default: {','.join(PRECISIONS)}); bf16 is an fp32 graph that "
        "OpenVINO or JAX computes in bfloat16",
    )
    parser.add_argument(
        "--graphs", metavar="LIST", help=f"separated by commas (default: {','.join(FORMS)})"
    )
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="validation images for average precision, spread over all (default: all)",
    )
    parser.add_argument(
        "--rounds", type=int, default=20, metavar="N", help="timed runs of each row (20)"
    )
    parser.add_argument(
        "--list", action="store_true", help="say what this machine can run, and measure nothing"
    )
    parser.add_argument("-k", "--key", metavar="KEY", help="that the model is encrypted with")


def paths(args: Namespace) -> CommandPaths:
    """Lists the paths of the command's inputs and outputs."""
    known = CommandPaths()
    if args.list or args.model is None:
        return known
    known.read("MODEL", args.model)
    known.read("-e", args.spec)
    known.write("-d", folder_of(args), "workdir")
    if args.spec is None:
        return known
    known.reads += inputs_of_spec(args.spec, TASK)
    return known


def folder_of(args: Namespace) -> Path:
    """Returns the folder of the benchmark."""
    return args.folder or Path("out") / f"benchmark-{args.model.stem}"


def run(args: Namespace) -> int:
    """Runs the benchmark; returns the exit code.

    Raises:
      RcnnError: the flags, the spec, the data or the model are at fault.
    """
    runtimes = chosen(args.runtimes, RUNTIMES, "--runtimes")
    precisions = chosen(args.precisions, PRECISIONS, "--precisions")
    forms = chosen(args.graphs, FORMS, "--graphs")
    for name, value in (("--limit", args.limit), ("--rounds", args.rounds)):
        if value is not None and value < 1:
            raise UsageError(f"{name} {value}: expected 1 or more")
    if args.list:
        return _list(runtimes)
    if args.model is None:
        raise UsageError("benchmark: give the MODEL that is compared, or --list")
    path = existing_model(args.model, "MODEL")
    keep_compilations()
    root = folder_of(args)
    with Session("benchmark", status_folder=root) as session:
        from rcnn_jax.benchmark.command import BenchmarkOptions, benchmark
        from rcnn_jax.runtime.open import experiment_of, open_model
        from rcnn_jax.train.lock import held

        config, kind, key = _config(args, session)
        model: Any = open_model(path, key, reporter=session)
        if config is None:
            config, kind = _own_config(model), model.origin.kind
        with memory_advice(kind), held(root, "benchmark", session.note), resumable():
            experiment = experiment_of(model, config, kind, own_classes=False, reporter=session)
            options = BenchmarkOptions(
                runtimes=runtimes,
                precisions=precisions,
                forms=forms,
                limit=args.limit,
                rounds=args.rounds,
                key=key,
            )
            benchmark(model, experiment, root, options, session)
    return 0


def chosen(text: str | None, known: tuple[str, ...], flag: str) -> Any:
    """Returns the names of a list, in the order of the known ones, each once.

    Raises:
      UsageError: one is none of the known, or there is none.
    """
    if text is None:
        return known
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise UsageError(f"{flag} {name}: expected one or more of {', '.join(known)}")
    if not names:
        raise UsageError(f"{flag} {text!r}: expected one or more of {', '.join(known)}")
    return tuple(name for name in known if name in names)


def _config(args: Namespace, session: Session) -> tuple[Any, Any, str | None]:
    """Returns the config of -e and its detector, None without it, and the key."""
    if args.spec is None:
        return None, None, key_from(args)
    from rcnn_jax.spec.load import load_spec
    from rcnn_jax.spec.render import redact, written_key

    loaded = load_spec(args.spec, None, TASK)
    if loaded.kind == "dataset_convert":
        raise UsageError(f"-e {args.spec}: is not the spec of a detector")
    for note in loaded.notes:
        session.note(note)
    for warning in loaded.warnings:
        session.warn(warning)
    return redact(loaded.config), loaded.kind, key_from(args, written_key(loaded.config))


def _own_config(model: "OpenBundle | OpenGraph | OpenEngine") -> Any:
    from rcnn_jax.runtime.bundle import OpenBundle

    if not isinstance(model, OpenBundle):
        raise UsageError(f"MODEL {model.path}: holds no spec; give it with -e FILE")
    return model.stored_config()


def _list(runtimes: tuple[str, ...]) -> int:
    """Prints what this machine can run."""
    from rcnn_jax.benchmark.runners import absent

    with Session("benchmark", status_folder=None) as session:
        for runtime in runtimes:
            reason = absent(runtime)
            session.console.print(f"{runtime:<12} {reason or 'runs here'}", markup=False)
    return 0
