"""The command line: which command, and how its end becomes an exit code.

    rcnn-jax {faster_rcnn|mask_rcnn} {dataset_convert|train|evaluate|inference|export} FLAGS
    rcnn-jax spec ...     rcnn-jax decrypt ...     rcnn-jax --version
    rcnn-jax converter ...
    faster_rcnn ...  mask_rcnn ...  tao-converter ...  tlt-converter ...     the original's names

Exit codes: 0 success; 2 the input is at fault, told in one message; 1 the program or the machine
is; 130 interrupted. Commands import what they need when they run, so that help needs no JAX.
"""

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rcnn_jax import __version__
from rcnn_jax.cli import arguments
from rcnn_jax.cli.compilations import keep_compilations
from rcnn_jax.cli.flags import Kind
from rcnn_jax.errors import RcnnError, UsageError
from rcnn_jax.printable import printable

if TYPE_CHECKING:
    from ml_collections import ConfigDict

TASKS = {
    "dataset_convert": ("write TFRecords from KITTI or COCO labels", arguments.add_dataset_convert),
    "train": ("train a model", arguments.add_train),
    "evaluate": ("score a model on the validation images", arguments.add_evaluate),
    "inference": ("draw and dump what a model finds in images", arguments.add_inference),
    "export": ("write a checked ONNX file of a model", arguments.add_export),
}
KINDS: dict[Kind, str] = {
    "faster_rcnn": "Faster R-CNN: boxes",
    "mask_rcnn": "Mask R-CNN: boxes and masks",
}
CONVERTER = "build a TensorRT engine from an exported model"
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `rcnn-jax`; returns the exit code.

    Args:
      argv: arguments without the program's name; those of the process by default.
    """
    return guarded(lambda: _run(_parser(), argv))


def faster_rcnn(argv: Sequence[str] | None = None) -> int:
    """Runs `faster_rcnn`; returns the exit code."""
    return guarded(lambda: _run(_detector_parser("faster_rcnn"), argv))


def mask_rcnn(argv: Sequence[str] | None = None) -> int:
    """Runs `mask_rcnn`; returns the exit code."""
    return guarded(lambda: _run(_detector_parser("mask_rcnn"), argv))


def converter(argv: Sequence[str] | None = None) -> int:
    """Runs `tao-converter` and `tlt-converter`; returns the exit code."""
    from rcnn_jax.cli import converter as command

    def run() -> int:
        parser = arguments.Parser(Path(sys.argv[0]).name, description=CONVERTER)
        _add_version(parser)
        command.add_arguments(parser)
        return command.run(parser.parse_args(argv))

    return guarded(run)


def run_config(task: str, config: "ConfigDict", flags: Sequence[str]) -> int:
    """Runs a task on a config instead of a spec file; returns the exit code.

    Args:
      task: one of TASKS.
      config: config of the task; its fields tell which detector it describes.
      flags: flags of the task; the value of the spec flag is not read.

    Raises:
      RcnnError: the config, the data or the run are at fault.
    """
    from rcnn_jax.spec.kinds import kind_of

    kind = kind_of(set(config))
    wanted = ("dataset_convert",) if task == "dataset_convert" else tuple(KINDS)
    if kind not in wanted:
        raise UsageError(
            f"--config describes {kind or 'nothing known'}, {task} needs {' or '.join(wanted)}"
        )
    parser = _detector_parser("mask_rcnn" if kind == "mask_rcnn" else "faster_rcnn")
    args = parser.parse_args([task, *flags])
    args.config = config
    return args.run(args)


def guarded(command: Callable[[], int]) -> int:
    """Runs a command and turns whatever ends it into an exit code and at most one message."""
    try:
        return command()
    except RcnnError as error:
        _complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has seen enough: rcnn-jax ... | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:
        traceback.print_exc()
        _complain(f"this is a bug in rcnn-jax {__version__}: please report the lines above")
        return 1


def _run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    given = list(sys.argv[1:] if argv is None else argv)
    if given and given[0].startswith("-") and given[0] not in ("-h", "--help", "--version"):
        raise UsageError(f"{parser.prog}: {given[0]} comes before the command; flags follow it")
    args = parser.parse_args(given)
    return args.run(args)


def _parser() -> argparse.ArgumentParser:
    from rcnn_jax.cli import converter, decrypt, spec

    parser = arguments.Parser(
        "rcnn-jax", description="Faster R-CNN and Mask R-CNN from TAO/TLT spec files."
    )
    _add_version(parser)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for kind, text in KINDS.items():
        _add_tasks(commands.add_parser(kind, help=text, description=text), kind)
    for name, text, module in (
        ("spec", "check, translate and explain spec files", spec),
        ("converter", CONVERTER, converter),
        ("decrypt", "take the seal off a model file", decrypt),
    ):
        command = commands.add_parser(name, help=text, description=text)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def _detector_parser(kind: Kind) -> argparse.ArgumentParser:
    parser = arguments.Parser(kind, description=KINDS[kind])
    _add_version(parser)
    _add_tasks(parser, kind)
    return parser


def _add_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", action="version", version=f"rcnn-jax {__version__}")


def _add_tasks(parser: argparse.ArgumentParser, kind: Kind) -> None:
    tasks = parser.add_subparsers(metavar="TASK", required=True)
    for name, (text, add_flags) in TASKS.items():
        task = tasks.add_parser(name, help=text, description=text)
        add_flags(task, kind)
        task.set_defaults(run=partial(_run_task, name, kind), config=None)


def _run_task(name: str, kind: Kind, args: argparse.Namespace) -> int:
    keep_compilations()
    return importlib.import_module(f"rcnn_jax.cli.{name}").run(args, kind)


def _complain(message: str) -> None:
    """Prints to stderr, the first word red on a terminal."""
    word = "\x1b[31merror:\x1b[0m" if sys.stderr.isatty() else "error:"
    sys.stderr.write(f"{word} {printable(message)}\n")
