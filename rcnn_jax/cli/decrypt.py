"""`decrypt`: decrypts a model file, for programs that cannot read encrypted ones."""

import argparse
from argparse import Namespace
from pathlib import Path

from rcnn_jax.cli.flags import KEY_VARIABLE, existing_file, key_from
from rcnn_jax.cli.outputs import CommandPaths
from rcnn_jax.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `decrypt`."""
    parser.add_argument(
        "-m", "--model", type=Path, metavar="FILE", required=True, help="encrypted model file"
    )
    parser.add_argument("-k", "--key", metavar="KEY", help=f"its key (default: ${KEY_VARIABLE})")
    parser.add_argument(
        "-o", "--output_file", type=Path, metavar="FILE", required=True, help="plain file to write"
    )


def paths(args: Namespace) -> CommandPaths:
    """Lists the paths of the command's inputs and outputs."""
    known = CommandPaths()
    known.read("-m", args.model)
    known.write("-o", args.output_file)
    return known


def run(args: Namespace) -> int:
    """Writes the content of the encrypted file; returns the exit code.

    Raises:
      UsageError: no key, no such file, or the output exists already.
      CheckpointError: the key is wrong or the file is damaged.
    """
    from rcnn_jax.checkpoints.atomic import write_file
    from rcnn_jax.checkpoints.container import decrypt

    model = existing_file(args.model, "-m")
    key = key_from(args)
    if key is None:
        raise UsageError(f"decrypt needs the key of {model}: give -k KEY or set {KEY_VARIABLE}")
    output: Path = args.output_file
    if output.exists():
        raise UsageError(f"-o {output}: exists already; remove it or choose another name")
    write_file(output, [decrypt(model.read_bytes(), key, str(model))])
    return 0
