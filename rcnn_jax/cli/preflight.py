"""`preflight`: go or no-go for a spec, within minutes, before hours are spent on it."""

import argparse
import json
import os
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from rcnn_jax.cli.flags import KEY_VARIABLE, existing_file
from rcnn_jax.cli.outputs import CommandPaths
from rcnn_jax.cli.session import Session, memory_advice
from rcnn_jax.errors import UsageError

if TYPE_CHECKING:
    from rcnn_jax.diagnose.preflight import Preflight

MINUTES = 3.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `preflight`."""
    parser.add_argument("spec", type=Path, metavar="SPEC", help="spec of a detector")
    parser.add_argument(
        "--minutes",
        type=float,
        default=MINUTES,
        metavar="M",
        help=f"time to take, at most about this much (default: {MINUTES:g})",
    )
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="write the answers")
    parser.add_argument(
        "-k",
        "--key",
        metavar="KEY",
        help=f"key of encrypted weights (default: ${KEY_VARIABLE}, then enc_key of the spec)",
    )


def paths(args: Namespace) -> CommandPaths:
    """Lists the paths of the command's inputs and outputs."""
    known = CommandPaths()
    known.read("SPEC", args.spec)
    known.write("--json", args.json)
    return known


def run(args: Namespace) -> int:
    """Answers; returns 0 for go and 2 for no-go.

    Raises:
      RcnnError: the flags, the spec or the data are at fault.
    """
    if not args.minutes > 0:
        raise UsageError(f"--minutes {args.minutes:g}: expected more than 0")
    from rcnn_jax.checkpoints.atomic import write_file
    from rcnn_jax.cli.compilations import keep_compilations
    from rcnn_jax.preflight.command import preflight
    from rcnn_jax.spec.load import load_spec
    from rcnn_jax.spec.render import redact, written_key
    from rcnn_jax.tasks.build import build_experiment

    keep_compilations()
    with Session("preflight", status_folder=None) as session:
        loaded = load_spec(existing_file(args.spec, "SPEC"), None, "train")
        if loaded.kind == "dataset_convert":
            raise UsageError(f"{args.spec}: expected the spec of a detector")
        for warning in loaded.warnings:
            session.warn(warning)
        key = args.key or os.environ.get(KEY_VARIABLE) or written_key(loaded.config) or None
        with memory_advice(loaded.kind):
            experiment = build_experiment(redact(loaded.config), loaded.kind)
            result = preflight(experiment, key, 60 * args.minutes, session)
        session.console.print(_table(result))
        style = "green" if result.go else "red"
        session.console.print(result.sentence(), markup=False, style=style)
        if args.json is not None:
            write_file(args.json, [(json.dumps(result.to_json(), indent=2) + "\n").encode()])
    return 0 if result.go else 2


def _table(result: "Preflight"):
    from rich.table import Table

    table = Table(show_lines=False)
    for heading in ("check", "answer", "what was seen"):
        table.add_column(heading, overflow="fold")
    styles = {"go": "green", "caution": "yellow", "no-go": "red", "skipped": "dim"}
    for check in result.checks:
        text = check.sentence + (f". {check.advice}" if check.advice else "")
        table.add_row(check.name, check.outcome, text, style=styles[check.outcome])
    return table
