"""`compare`: two evaluations, or two models with a spec, side by side."""

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
from rcnn_jax.optional import require

if TYPE_CHECKING:
    from rcnn_jax.evaluate.compare import Comparison, Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `compare`."""
    for name in ("first", "second"):
        parser.add_argument(
            name,
            type=Path,
            metavar=name.upper(),
            help="FILE.json of `evaluate --report`, or a model file together with -e",
        )
    parser.add_argument(
        "-e",
        "--experiment_spec",
        dest="specs",
        type=Path,
        nargs="+",
        default=[],
        metavar="SPEC",
        help="spec of the models: one for both, or one for each",
    )
    parser.add_argument(
        "-k",
        "--key",
        metavar="KEY",
        help=f"key of encrypted model files (default: ${KEY_VARIABLE}, then enc_key of the spec)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE.html", help="write a page of the comparison"
    )
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="write its numbers")


def paths(args: Namespace) -> CommandPaths:
    """Lists the paths of the command's inputs and outputs."""
    known = CommandPaths()
    known.read("FIRST", args.first)
    known.read("SECOND", args.second)
    for spec in args.specs:
        known.read("-e", spec)
    known.write("-o", args.output)
    known.write("--json", args.json)
    return known


def run(args: Namespace) -> int:
    """Compares; returns the exit code.

    Raises:
      RcnnError: the flags, the files or the data are at fault.
    """
    if len(args.specs) > 2:
        raise UsageError(f"-e: expected one spec or two, found {len(args.specs)}")
    files = [
        existing_file(args.first, "FIRST"),
        existing_file(args.second, "SECOND"),
    ]
    models = [path for path in files if path.suffix != ".json"]
    if models and not args.specs:
        raise UsageError(f"{models[0]}: is a model: name the spec it is evaluated by with -e")
    if args.specs and not models:
        raise UsageError("-e: the results name their images themselves; leave it out")
    if models:
        require("hotcoco", extra="report", purpose="the comparison of models")
    from rcnn_jax.checkpoints.atomic import write_file
    from rcnn_jax.evaluate import compare as comparing

    with Session("compare", status_folder=None) as session:
        results = []
        for number, path in enumerate(files):
            if path in models:
                spec = args.specs[min(number, len(args.specs) - 1)]
                results.append(_evaluated(path, spec, args.key, session))
            else:
                results.append(comparing.read_result(path))
        comparison = comparing.compare(*results)
        console = session.console
        console.print(_table(comparison))
        console.print(comparison.sentence(), markup=False)
        if args.output is not None:
            write_file(args.output, [comparing.page(comparison).encode()])
            console.print(f"page: {args.output}", markup=False)
        if args.json is not None:
            write_file(args.json, [(json.dumps(comparison.to_json(), indent=2) + "\n").encode()])
    return 0


def _evaluated(path: Path, spec: Path, key: str | None, session: Session) -> "Result":
    from rcnn_jax.evaluate import pages
    from rcnn_jax.evaluate.analysis import analyse
    from rcnn_jax.evaluate.command import full_evaluation
    from rcnn_jax.evaluate.compare import result_of
    from rcnn_jax.runtime.open import experiment_of, open_model
    from rcnn_jax.spec.load import load_spec
    from rcnn_jax.spec.render import redact, written_key

    loaded = load_spec(existing_file(spec, "-e"), None, "evaluate")
    if loaded.kind == "dataset_convert":
        raise UsageError(f"-e {spec}: expected the spec of a detector")
    key = key or os.environ.get(KEY_VARIABLE) or written_key(loaded.config) or None
    with memory_advice(loaded.kind):
        model = open_model(path, key)
        experiment = experiment_of(
            model, redact(loaded.config), loaded.kind, own_classes=False, reporter=session
        )
        evaluation, source = full_evaluation(experiment, model, session)
    names = [source.name(record) for record in evaluation.records]
    fields = pages.record(analyse(evaluation), model=str(path), spec=str(spec), names=names)
    return result_of(fields, str(path))


def _table(comparison: "Comparison"):
    from rich.table import Table

    from rcnn_jax.evaluate.compare import HEADINGS

    table = Table(title=f"{comparison.first}  and  {comparison.second}", title_justify="left")
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if number in (0, 6) else "right", overflow="fold")
    styles = {"second better": "green", "first better": "yellow"}
    for row in comparison.rows:
        table.add_row(*row.cells(), style=styles.get(row.outcome, ""))
    return table
