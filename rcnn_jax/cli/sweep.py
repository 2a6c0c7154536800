"""`sweep`: trains one spec many times with other values, and keeps the best."""

import argparse
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcnn_jax.cli.flags import key_from
from rcnn_jax.cli.outputs import CommandPaths
from rcnn_jax.cli.session import Session
from rcnn_jax.errors import UsageError
from rcnn_jax.interrupt import resumable

if TYPE_CHECKING:
    from rcnn_jax.sweep.definition import Definition
    from rcnn_jax.sweep.executors import Executor

SAMPLERS = ("grid", "random", "tpe", "cmaes")
TRIALS = 20
_EVERYWHERE = (
    "timeout_min",
    "mem_gb",
    "nodes",
    "cpus_per_task",
    "gpus_per_node",
    "tasks_per_node",
    "name",
)
"""Parameters that submitit gives one name on all clusters."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `sweep`."""
    parser.add_argument(
        "file", type=Path, metavar="FILE.py", help="names a spec and what is tried of it"
    )
    parser.add_argument(
        "-d",
        "--folder",
        type=Path,
        metavar="DIR",
        help="of the sweep; one that is there goes on (default: out/<name of the file>)",
    )
    parser.add_argument(
        "--executor", choices=("local", "slurm"), default="local", help="where trials run (local)"
    )
    parser.add_argument(
        "--trials", type=int, metavar="N", help=f"that end; pruned and failed ones too ({TRIALS})"
    )
    parser.add_argument(
        "--sampler", choices=SAMPLERS, help="what is tried next (random; grid needs no --trials)"
    )
    parser.add_argument(
        "--prune", choices=("none", "median", "hyperband"), default="none", help="ends trials early"
    )
    parser.add_argument(
        "--minutes", type=float, metavar="M", help="budget of all starts of the sweep together"
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="trials at a time (1)")
    parser.add_argument("--seed", type=int, default=0, help="of the sampler (0)")
    parser.add_argument(
        "--again", type=int, nargs="+", default=[], metavar="NUMBER", help="repeat failed trials"
    )
    parser.add_argument(
        "--slurm",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="for Slurm, as submitit calls them: partition=gpu gpus_per_node=1 timeout_min=240",
    )
    parser.add_argument("-k", "--key", metavar="KEY", help="that models are encrypted with")


def paths(args: Namespace) -> CommandPaths:
    """Lists the paths of the command's inputs and outputs."""
    known = CommandPaths()
    known.read("FILE", args.file)
    known.write("-d", _folder(args), "workdir")
    return known


def run(args: Namespace) -> int:
    """Runs the sweep; returns the exit code.

    Raises:
      RcnnError: the flags, the sweep file or the spec are at fault, or all trials fail alike.
    """
    for flag in ("trials", "workers", "minutes"):
        value = getattr(args, flag)
        # In this form, for NaN is neither more nor less than anything.
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"--{flag} {value:g}: expected more than 0")
    import os

    from rcnn_jax.cli.flags import KEY_VARIABLE
    from rcnn_jax.sweep import report
    from rcnn_jax.sweep.run import SweepOptions, run_sweep
    from rcnn_jax.sweep.samplers import make_sampler
    from rcnn_jax.train.lock import held

    root = _folder(args)
    with Session("sweep", status_folder=root) as session:
        definition = _definition(args)
        name = args.sampler or ("random" if definition.listed is None else "list")
        key = key_from(args)
        if key:  # inherited by local trials; a job of Slurm inherits the environment too
            os.environ[KEY_VARIABLE] = key
        # A list and a grid end by themselves; a limit would silently leave out their last trials.
        known_size = definition.listed is not None or name == "grid"
        options = SweepOptions(
            trials=args.trials or (None if known_size else TRIALS),
            minutes=args.minutes,
            key=key,
            again=tuple(args.again),
            wait=0.5 if args.executor == "local" else 5.0,
        )
        # One process per folder: two would give the same number to two trials.
        with held(root, "sweep", session.note), resumable():
            trials = run_sweep(
                definition,
                root,
                lambda known: make_sampler(definition, root, name, args.prune, args.seed, known),
                _executor(args, root),
                options,
                session,
            )
        # On a terminal the live table of the loop is still there.
        if not session.console.is_terminal:
            session.console.print(report.table(trials, definition))
        top = report.best(trials, definition)
        if top is not None:
            session.console.print(f"best spec: {root / report.BEST}", markup=False)
        elif why := report.without_best(trials, definition):
            session.warn(why)
        session.console.print(f"report: {root / report.PAGE}", markup=False)
    return 0


def _folder(args: Namespace) -> Path:
    return args.folder or Path("out") / args.file.stem


def _definition(args: Namespace) -> "Definition":
    """Returns the definition, with the main metric of the spec where it names no objective."""
    from rcnn_jax.spec.load import load_spec
    from rcnn_jax.sweep.definition import read_definition
    from rcnn_jax.tasks.build import build_experiment

    definition = read_definition(args.file)
    experiment = build_experiment(
        load_spec(definition.spec, definition.kind, "train").config, definition.kind
    )
    if experiment.eval_source is None:
        raise UsageError(
            f"{definition.spec}: names no validation data, so no trial can be better than another"
        )
    if definition.objectives:
        return definition
    return replace(definition, objectives={experiment.metrics.main_metric: "max"})


def _executor(args: Namespace, root: Path) -> "Executor":
    from rcnn_jax.sweep.executors import Local, Slurm

    parameters: dict[str, Any] = {}
    for pair in args.slurm:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--slurm {pair}: expected NAME=VALUE")
        # submitit prefixes what only Slurm knows; users should not have to know which that is.
        own = name not in _EVERYWHERE and not name.startswith("slurm_")
        parameters[f"slurm_{name}" if own else name] = int(value) if value.isdigit() else value
    if args.executor == "local":
        if parameters:
            raise UsageError("--slurm goes with --executor slurm")
        return Local(args.workers)
    return Slurm(root, args.workers, parameters)
