"""The flags of `prune`: the union of what the generations of TAO and TLT accepted."""

import argparse
from collections.abc import Callable
from pathlib import Path

from rcnn_jax.cli import flag_groups
from rcnn_jax.kinds import Kind
from rcnn_jax.tasks.families import family


def add_prune(parser: argparse.ArgumentParser, kind: Kind) -> None:
    """Adds the flags of `prune`; the model holds its spec, so none is asked for."""
    file = family(kind).names_files
    parser.add_argument(
        *("-m", "--model", "--pretrained_model", "--model_path"),
        dest="model",
        type=Path,
        metavar="FILE",
        required=True,
        help="trained model file",
    )
    parser.add_argument(
        *("-o", "--output_file", "--output_dir"),
        dest="output",
        type=Path,
        metavar="FILE" if file else "DIR",
        help="pruned model file" if file else "folder of the pruned model, model.tlt",
    )
    flag_groups.key(parser)
    names = ("-e", "--experiment_spec", "--experiment_spec_file")
    flag_groups.unused_path(parser, *names, dest="unused_experiment_spec")
    parser.add_argument(
        *("-n", "--normalizer"),
        type=_spelled("max", "L2"),
        metavar="{max,L2}",
        default="max",
        help="norms are divided by the largest of a layer (max), or by the norm of all (L2)",
    )
    parser.add_argument(
        *("-eq", "--equalization_criterion"),
        dest="criterion",
        choices=("union", "intersection", "arithmetic_mean", "geometric_mean"),
        default="union",
        help="how layers that share a decision agree (union)",
    )
    parser.add_argument(
        *("-pg", "--pruning_granularity"),
        dest="granularity",
        type=int,
        default=8,
        metavar="N",
        help="filters are removed in multiples of N (8)",
    )
    parser.add_argument(
        *("-pth", "--pruning_threshold"),
        dest="thresholds",
        metavar="T",
        help="filters with a normalised norm up to T are removed (0.1); with --dry-run several: "
        "0.1,0.3,0.5",
    )
    parser.add_argument(
        *("-nf", "--min_num_filters"),
        dest="min_filters",
        type=int,
        default=16,
        metavar="N",
        help="least number of filters of a layer (16)",
    )
    parser.add_argument(
        *("-el", "--excluded_layers", "-bl"),
        dest="excluded",
        nargs="*",
        default=[],
        metavar="LAYER",
        help="layers that keep all filters",
    )
    parser.add_argument(
        "--keep-params",
        "--keep_params",
        dest="keep_params",
        type=float,
        metavar="P",
        help="find the threshold that keeps a fraction P of the parameters",
    )
    parser.add_argument(
        "--keep-flops",
        "--keep_flops",
        dest="keep_flops",
        type=float,
        metavar="P",
        help="find the threshold that keeps a fraction P of the FLOP",
    )
    parser.add_argument(
        "--rank",
        choices=("layer", "isomorphic"),
        default="layer",
        help="compare filters within a layer (layer), or within all groups of layers of equal shape",
    )
    parser.add_argument(
        "--dry-run",
        "--dry_run",
        dest="dry_run",
        action="store_true",
        help="show what would be kept and write no model",
    )
    parser.add_argument(
        "--latency",
        action="store_true",
        help="also measure predictions in JAX on this machine, before and after",
    )
    flag_groups.verbose(parser)
    flag_groups.results(parser)
    flag_groups.launch(parser)


def _spelled(*spellings: str) -> Callable[[str], str]:
    """Returns a reader of one of some words, in any case."""

    def read(text: str) -> str:
        for word in spellings:
            if text.lower() == word.lower():
                return word
        raise argparse.ArgumentTypeError(f"expected {' or '.join(spellings)}, found '{text}'")

    return read
