"""Entry points of the command line: choice of the command, and its exit code.

    rcnn-jax {faster_rcnn|mask_rcnn} TASK FLAGS
    rcnn-jax {spec|converter|decrypt|weights} ...     rcnn-jax --version
    tlt X  tao X  tao model X  tao deploy X   stand for rcnn-jax X, as programs and after rcnn-jax
    faster_rcnn ...  mask_rcnn ...  tao-converter ...  tlt-converter ...     the original's names

Exit codes: 0 success; 2 what the user can mend, in one message: the input, or a machine that refuses a
file; 1 a run that cannot go on, an export that fails its check, or a bug; 128 and the number of the
signal that ended it: 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP, 141 a closed pipe, in silence. Commands import
what they need when they run, so that help needs no JAX.
"""

import argparse
import contextlib
import errno
import gc
import importlib
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcnn_jax.cli import arguments, prune_arguments
from rcnn_jax.cli.compilations import keep_compilations
from rcnn_jax.cli.outputs import check
from rcnn_jax.cli.parser import Parser
from rcnn_jax.errors import RcnnError
from rcnn_jax.interrupt import Stopped, interrupts, stopped_by, too_late
from rcnn_jax.kinds import Kind
from rcnn_jax.printable import printable
from rcnn_jax.tasks.families import FAMILIES, family
from rcnn_jax.version import __version__

if TYPE_CHECKING:
    from ml_collections import ConfigDict

_COLLECT_AFTER = 100_000
"""Objects that may be made before Python looks for cycles among them. A traced program is hundreds of
thousands that all live: at the usual 700 a fifth of the tracing of a step was looking."""

AddFlags = Callable[[argparse.ArgumentParser, Kind], None]
TASKS: dict[str, tuple[str, AddFlags]] = {
    "dataset_convert": ("write TFRecords from KITTI or COCO labels", arguments.add_dataset_convert),
    "train": ("train a model", arguments.add_train),
    "evaluate": ("score a model on the validation images", arguments.add_evaluate),
    "inference": (
        "run a model on images: write annotated images and labels",
        arguments.add_inference,
    ),
    "prune": ("write a smaller model without its weakest filters", prune_arguments.add_prune),
    "export": ("write a checked ONNX file of a model", arguments.add_export),
    "gen_trt_engine": (
        "build a TensorRT engine from an exported model",
        arguments.add_gen_trt_engine,
    ),
}
TASK_ALIASES = {"inference_trt": "inference"}
"""Names of tasks that are another one here, because the model's suffix decides what runs it."""
CONVERTER = "build a TensorRT engine from an exported model"
COMMANDS = {
    "spec": "check, translate and explain spec files",
    "cluster": "try what a job of several processes needs",
    "sweep": "train a spec many times with other values",
    "compress": "find the fastest pruned and quantised form of a model",
    "benchmark": "compare runtimes and precisions of a model on this machine",
    "converter": CONVERTER,
    "decrypt": "decrypt a model file",
    "compare": "say whether two models differ by more than noise",
    "doctor": "find what is wrong with a data set",
    "preflight": "say within minutes whether a spec can be trained",
    "init": "write a spec for a folder of images and labels",
    "weights": "list, fetch and import what others have trained",
    "unfold_batch_norm": "restore the batch-norm statistics of folded weights",
}
"""Commands without a detector, each in the file of its name."""
LAUNCHERS = (("tao", "tlt"), ("model", "deploy"))
"""Words of the original's launchers that may stand before a command, one of each in this order."""
CONVERTERS = ("tao_converter", "tlt_converter")
INTERRUPTED = 130
CLOSED_PIPE = 141
# ENOENT is not here: files of users are looked for before they are opened, so one that is missing
# later is a fault of ours and deserves its traceback.
MACHINE = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EIO,
    errno.ELOOP,
    errno.EMFILE,
    errno.ENAMETOOLONG,
    errno.ENFILE,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
    errno.ESTALE,
}
"""Reasons of a machine to refuse a file, whatever the program does."""


def main(argv: Sequence[str] | None = None, program: str = "rcnn-jax") -> int:
    """Runs `rcnn-jax`; returns the exit code.

    Args:
      argv: arguments without the program's name; those of the process by default.
      program: its name in messages.
    """

    def run() -> int:
        given = without_launcher(sys.argv[1:] if argv is None else argv)
        return _run(_parser(program), given)

    return guarded(run)


def faster_rcnn(argv: Sequence[str] | None = None) -> int:
    """Runs `faster_rcnn`; returns the exit code."""
    return guarded(lambda: _run(detector_parser("faster_rcnn"), argv))


def mask_rcnn(argv: Sequence[str] | None = None) -> int:
    """Runs `mask_rcnn`; returns the exit code."""
    return guarded(lambda: _run(detector_parser("mask_rcnn"), argv))


def converter(argv: Sequence[str] | None = None) -> int:
    """Runs `tao-converter` and `tlt-converter`; returns the exit code."""
    from rcnn_jax.cli import converter as command

    def run() -> int:
        parser = Parser(Path(sys.argv[0]).name, description=CONVERTER)
        _add_version(parser)
        command.add_arguments(parser)
        return _run_command(command, parser.parse_args(argv))

    return guarded(run)


def run_config(args: argparse.Namespace, config: "ConfigDict") -> int:
    """Runs a task on a config instead of a spec file; returns the exit code.

    Args:
      args: parsed flags of a task; the spec that they name is not read.
      config: config of the task.

    Raises:
      RcnnError: the flags, the config, the data or the run are at fault.
    """
    args.config = config
    return args.run(args)


def guarded(command: Callable[[], int]) -> int:
    """Runs a command and turns whatever ends it into an exit code and at most one message.

    Signals become the exception `interrupt.Stopped` wherever the command is; `Session` has written the
    last line of status.json when it arrives here.
    """
    _open_closed_streams()
    _write_what_cannot_be_encoded()
    gc.set_threshold(_COLLECT_AFTER)
    with interrupts():
        try:
            return _end(command)
        finally:
            # The exit code is known: a signal from here on must not make a failure of a command
            # that has ended.
            too_late()
            _let_go_of_closed_pipes()


def _end(command: Callable[[], int]) -> int:
    try:
        code = command()
        sys.stdout.flush()  # here a closed pipe is no error yet, at the end of Python it is one
        return code
    except RcnnError as error:
        if _must_report(str(error), error.exit_code):
            _complain(str(error))
        return error.exit_code
    # SystemExit passes: it is how argparse ends after --help.
    except (Exception, KeyboardInterrupt) as error:
        stop = stopped_by(error)
        if stop is None:
            _blame(error)
            _must_report(f"{type(error).__name__}: {error}", 1)
            return _fault(error)
        code = stop.exit_code if isinstance(stop, Stopped) else INTERRUPTED
        # Who closed the pipe, as `head` does, has what they wanted.
        if _must_report(str(stop), code) and code != CLOSED_PIPE:
            _complain(str(stop) or "interrupted")
        return code


def _blame(error: BaseException) -> None:
    """Ends the process in the name of another one of its job, where that one's end is the cause."""
    module = sys.modules.get("rcnn_jax.hosts.team")
    if module is not None:
        module.team().blame(error)


def _must_report(text: str, code: int) -> bool:
    """Tells the other processes of a job of an error; says whether the user must hear it from here."""
    module = sys.modules.get("rcnn_jax.hosts.team")  # help and version need none
    return module is None or module.team().leave(text, code)


def _fault(error: BaseException) -> int:
    """Reports an unexpected error: a machine that refuses a file is no bug of ours."""
    if isinstance(error, OSError) and error.errno in MACHINE:
        where = f"{error.filename}: " if error.filename else ""
        _complain(f"{where}{error.strerror} ({errno.errorcode[error.errno]})")
        return RcnnError.exit_code
    traceback.print_exception(error)
    _complain(f"this is a bug in rcnn-jax {__version__}: please report the lines above")
    return 1


def _open_closed_streams() -> None:
    """Opens the streams that the caller had closed, as some job schedulers do.

    The next file would get the number of stdout and hold whatever a library prints there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def _write_what_cannot_be_encoded() -> None:
    """Lets a terminal of ASCII or Latin-1 show other letters escaped, where Python would stop."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _let_go_of_closed_pipes() -> None:
    """Points streams whose reader is gone elsewhere: Python complains at its end otherwise."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError):  # closed or absent from the beginning
            continue
        except OSError:
            with contextlib.suppress(OSError):  # a stream that is no file
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def without_launcher(argv: Sequence[str]) -> list[str]:
    """Returns the arguments without the words of the original's launchers.

    Example:
      >>> without_launcher(["tao", "model", "mask_rcnn", "train"])
      ['mask_rcnn', 'train']
    """
    given = list(argv)
    for launchers in LAUNCHERS:
        if given and given[0] in launchers:
            del given[0]
    # After the launchers: `tao converter` and `tao-converter` were one program.
    if given and given[0].replace("-", "_") in CONVERTERS:
        given[0] = "converter"
    return given


def detector_parser(kind: Kind) -> Parser:
    """Returns the parser of the tasks of one detector."""
    parser = Parser(kind, description=family(kind).title)
    _add_version(parser)
    _add_tasks(parser, kind)
    return parser


def _run(parser: Parser, argv: Sequence[str] | None) -> int:
    args = parser.parse_args(argv)
    return args.run(args)


def _parser(program: str) -> Parser:
    text = "Faster R-CNN and Mask R-CNN from TAO/TLT spec files."
    parser = Parser(program, description=text)
    _add_version(parser)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    # Parsers are filled when somebody asks them: most runs need one of some twenty, and help needs
    # names and a sentence of each.
    for kind, row in FAMILIES.items():
        fill = partial(_add_tasks, kind=kind)
        commands.add_parser(kind, help=row.title, description=row.title, fill=fill)
    for name, text in COMMANDS.items():
        fill = partial(_add_command, name=name)
        commands.add_parser(name, help=text, description=text, fill=fill)
    return parser


def _add_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", action="version", version=f"rcnn-jax {__version__}")


def _add_tasks(parser: Parser, kind: Kind) -> None:
    tasks = parser.add_subparsers(metavar="TASK", required=True)
    for name in (*TASKS, *TASK_ALIASES):
        module = TASK_ALIASES.get(name, name)
        text, add_flags = TASKS[module]
        # argparse lists only commands with a help text: aliases are read and not advertised.
        shown = {"help": text} if name in TASKS else {}
        fill = partial(_add_task, add_flags=add_flags, module=module, kind=kind)
        tasks.add_parser(name, description=text, fill=fill, **shown)


def _add_task(parser: Parser, add_flags: AddFlags, module: str, kind: Kind) -> None:
    add_flags(parser, kind)
    parser.set_defaults(run=partial(_run_task, module, kind), config=None)


def _add_command(parser: Parser, name: str) -> None:
    module = importlib.import_module(f"rcnn_jax.cli.{name}")
    module.add_arguments(parser)
    parser.set_defaults(run=partial(_run_command, module))


def _run_task(name: str, kind: Kind, args: argparse.Namespace) -> int:
    command = importlib.import_module(f"rcnn_jax.cli.{name}")
    # JAX reads these variables when it is imported, which comes next.
    keep_compilations()
    from rcnn_jax.cli.processes import with_others

    def checked() -> int:
        # Before the session opens its log: a check where a file is written comes too late, by then the
        # log holds lines and the first image is gone.
        check(command.paths(args, kind))
        return command.run(args, kind)

    return with_others(args, name, checked)


def _run_command(command: Any, args: argparse.Namespace) -> int:
    check(command.paths(args))
    return command.run(args)


def _speaker() -> str:
    """Returns which process of a job speaks, where it is not the only one."""
    module = sys.modules.get("rcnn_jax.hosts.team")
    return module.team().speaker if module is not None else ""


def _complain(message: str) -> None:
    """Prints to stderr, the first word red on a terminal; a terminal that is gone hears nothing."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        word = "\x1b[31merror:\x1b[0m" if sys.stderr.isatty() else "error:"
        sys.stderr.write(f"{word} {_speaker()}{printable(message)}\n")
        sys.stderr.flush()
