"""`unfold_batch_norm`: restores the statistics of pretrained weights with folded batch norm."""

import argparse
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from rcnn_jax.cli.flags import existing_file
from rcnn_jax.cli.outputs import CommandPaths
from rcnn_jax.cli.session import Session
from rcnn_jax.errors import UsageError

if TYPE_CHECKING:
    from rcnn_jax.tasks.experiment import Experiment

BATCHES = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `unfold_batch_norm`."""
    parser.add_argument(
        "-e",
        "--experiment_spec",
        dest="spec",
        type=Path,
        metavar="SPEC",
        required=True,
        help="spec of the network that will be trained, and its training images",
    )
    parser.add_argument(
        "-w", "--weights", type=Path, metavar="FILE", required=True, help="folded weights"
    )
    parser.add_argument(
        "-o",
        "--output_file",
        dest="output",
        type=Path,
        metavar="FILE.npz",
        required=True,
        help="file for pretrained_weights, to be trained with freeze_bn: False",
    )
    parser.add_argument(
        "--batches", type=int, default=BATCHES, metavar="N", help=f"training batches ({BATCHES})"
    )


def paths(args: Namespace) -> CommandPaths:
    """Lists the paths of the command's inputs and outputs."""
    known = CommandPaths()
    known.read("-e", args.spec)
    known.read("-w", args.weights)
    known.write("-o", args.output)
    return known


def run(args: Namespace) -> int:
    """Writes weights with statistics; returns the exit code.

    Raises:
      RcnnError: the flags, the spec, the weights or the images are at fault.
    """
    if args.batches < 1:
        raise UsageError(f"--batches {args.batches}: expected 1 or more")
    if args.output.suffix != ".npz":
        raise UsageError(f"-o {args.output}: expected a name ending in .npz")
    # JAX and the readers come after the flags have passed.
    from rcnn_jax.spec.load import load_spec
    from rcnn_jax.tasks.build import build_experiment

    with Session("unfold_batch_norm", status_folder=None) as session:
        loaded = load_spec(existing_file(args.spec, "-e"))
        if loaded.kind == "dataset_convert":
            raise UsageError(f"-e {args.spec}: expected the spec of a detector")
        experiment = build_experiment(loaded.config, loaded.kind)
        weights = existing_file(args.weights, "-w")
        layers = write_unfolded(experiment, weights, args.output, args.batches)
        session.console.print(
            f"{args.output}: {layers} layers, statistics from {args.batches} batches", markup=False
        )
    return 0


def write_unfolded(
    experiment: "Experiment", weights: Path, output: Path, batches: int = BATCHES
) -> int:
    """Writes weights with statistics; returns the number of their layers.

    Args:
      experiment: names the network and the training images.
      weights: folded ones.
      output: `.npz` file to write.
      batches: of training images that are looked at.

    Raises:
      RcnnError: the weights or the images are at fault.
    """
    import io

    import numpy as np

    from rcnn_jax.checkpoints.atomic import write_file
    from rcnn_jax.train.unfold_batch_norm import unfolded_weights

    arrays = unfolded_weights(experiment, weights, batches)
    buffer = io.BytesIO()
    # Into memory first: np.savez would write the final name piece by piece.
    np.savez(buffer, allow_pickle=False, **arrays)
    write_file(output, [buffer.getvalue()])
    return len({name.split("/")[1] for name in arrays})
