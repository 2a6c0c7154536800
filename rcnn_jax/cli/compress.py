"""`compress`: the fastest pruned and quantised form of a model that is good enough."""

import argparse
from argparse import Namespace
from pathlib import Path

from rcnn_jax.cli.compilations import keep_compilations
from rcnn_jax.cli.flags import existing_file, key_from
from rcnn_jax.cli.outputs import CommandPaths, inputs_of_spec
from rcnn_jax.cli.session import Session
from rcnn_jax.errors import UsageError
from rcnn_jax.interrupt import resumable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `compress`."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="trained model (.tlt)")
    parser.add_argument(
        "-e",
        "--experiment_spec",
        dest="spec",
        type=Path,
        required=True,
        metavar="FILE",
        help="spec that the model was trained with: data, schedule",
    )
    parser.add_argument(
        "-d",
        "--folder",
        type=Path,
        metavar="DIR",
        help="of the search; one that is there goes on (default: out/compress-MODEL)",
    )
    parser.add_argument(
        "--max-drop",
        type=float,
        default=0.5,
        metavar="POINTS",
        help="hundredths of the metric that may be lost (0.5)",
    )
    parser.add_argument(
        "--target",
        choices=("onnxruntime", "openvino"),
        default="onnxruntime",
        help="what runs the exported files and is timed, on the CPU (onnxruntime)",
    )
    parser.add_argument(
        "--metric", metavar="NAME", help="of the evaluation (the main one of the spec)"
    )
    parser.add_argument(
        "--least", type=float, default=0.0, metavar="PART", help="of the parameters to keep (0)"
    )
    parser.add_argument(
        "--minutes", type=float, metavar="M", help="budget of all starts of the search together"
    )
    parser.add_argument("-k", "--key", metavar="KEY", help="that models are encrypted with")


def paths(args: Namespace) -> CommandPaths:
    """Lists the paths of the command's inputs and outputs."""
    known = CommandPaths()
    known.read("MODEL", args.model)
    known.read("-e", args.spec)
    folder = folder_of(args)
    known.write("-d", folder, "workdir")
    known.reads += inputs_of_spec(args.spec, "train")
    return known


def folder_of(args: Namespace) -> Path:
    """Returns the folder of the search."""
    return args.folder or Path("out") / f"compress-{args.model.stem}"


def run(args: Namespace) -> int:
    """Runs the search; returns the exit code.

    Raises:
      RcnnError: the flags, the spec or the model are at fault.
    """
    # In these forms, for NaN is neither more nor less than anything.
    if not args.max_drop >= 0:
        raise UsageError(f"--max-drop {args.max_drop:g}: expected 0 or more")
    if args.minutes is not None and not 0 < args.minutes < float("inf"):
        raise UsageError(f"--minutes {args.minutes:g}: expected more than 0")
    if not 0 <= args.least <= 1:
        raise UsageError(f"--least {args.least:g}: expected a fraction between 0 and 1")
    existing_file(args.model, "MODEL")
    keep_compilations()
    import os

    from rcnn_jax.cli.flags import KEY_VARIABLE
    from rcnn_jax.pareto.command import CompressOptions, compress
    from rcnn_jax.pareto.workshop import check_model
    from rcnn_jax.runtime.bundle import open_bundle
    from rcnn_jax.runtime.openvino import library
    from rcnn_jax.spec.load import load_spec
    from rcnn_jax.spec.render import redact, written_key
    from rcnn_jax.train.lock import held

    check_model(args.model)
    if args.target == "openvino":
        library("--target openvino")
    root = folder_of(args)
    with Session("compress", status_folder=root) as session:
        loaded = load_spec(args.spec, None, "train")
        if loaded.kind == "dataset_convert":
            raise UsageError(f"{args.spec}: is not the spec of a detector")
        key = key_from(args, written_key(loaded.config))
        if key:  # inherited by the commands of the search, which show it nowhere
            os.environ[KEY_VARIABLE] = key
        options = CompressOptions(
            max_drop=args.max_drop,
            target=args.target,
            metric=args.metric,
            least=args.least,
            minutes=args.minutes,
            key=key,
        )
        opened = open_bundle(args.model, key)
        with held(root, "compress", session.note), resumable():
            compress(opened, redact(loaded.config), root, options, session)
    return 0
