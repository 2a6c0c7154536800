"""`spec`: checks, translates and explains spec files; nothing is trained, no data are read."""

import argparse
import difflib
import glob
import json
import os
import sys
from argparse import Namespace
from contextlib import suppress
from pathlib import Path

from rcnn_jax.cli.outputs import CommandPaths
from rcnn_jax.errors import SpecError, UsageError
from rcnn_jax.printable import SHOWN, excerpt
from rcnn_jax.spec import demands
from rcnn_jax.spec.explain import all_fields, describe, find_fields
from rcnn_jax.spec.inputs import DATA_VARIABLE, named_inputs
from rcnn_jax.spec.json_schema import json_schema
from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.load import LoadedSpec, load_spec
from rcnn_jax.spec.python_file import python_file
from rcnn_jax.spec.render import redact, render

MOST_FOLDERS = 100
"""In a path that may exist; a pattern of more takes a search deeper than Python goes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-commands of `spec` and their flags."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser("check", help="report every error of a spec file")
    translate = actions.add_parser(
        "translate",
        help="write the complete config as .json, .txt or .py, without keys; upgrades TLT 2.0",
    )
    explain = actions.add_parser("explain", help="say what a field means")
    schema = actions.add_parser("schema", help="print all fields, for editors and searches")
    schema.add_argument("--kind", choices=list(TABLES), help="one kind of spec (default: all)")
    schema.add_argument("--json", action="store_true", help="as JSON Schema, the only form")
    for action in (check, translate):
        action.add_argument("spec", type=Path, metavar="SPEC", help="spec file")
    for action in (check, translate, explain):
        action.add_argument(
            "--kind",
            choices=list(TABLES),
            help="what the spec describes (default: detected automatically)",
        )
    check.add_argument(
        "--task",
        choices=demands.TASKS,
        help="task that the spec must serve (default: list those it serves)",
    )
    check.add_argument(
        "--strict-paths", action="store_true", help="paths that do not exist are errors"
    )
    translate.add_argument(
        "-o", "--output", type=Path, metavar="FILE", required=True, help="file to write"
    )
    explain.add_argument("field", metavar="FIELD", help="name, or the end of a dotted path")


def paths(args: Namespace) -> CommandPaths:
    """Lists the paths of the command's inputs and outputs."""
    known = CommandPaths()
    known.read("SPEC", getattr(args, "spec", None))
    known.write("-o", getattr(args, "output", None))
    return known


def run(args: Namespace) -> int:
    """Runs a sub-command; returns the exit code.

    Raises:
      SpecError: the spec is wrong.
      UsageError: the output has an unknown ending, or there is no such field.
    """
    actions = {"check": _check, "translate": _translate, "explain": _explain, "schema": _schema}
    return actions[args.action](args)


def missing_paths(spec: LoadedSpec) -> list[str]:
    """Returns a sentence for every input the spec names that does not exist."""
    missing = [
        (
            spec.positions.get(entry.field, (0, 0)),
            f"{spec.at(entry.field)}: {entry.reads} '{excerpt(entry.value, 200)}' does not exist",
        )
        for entry in named_inputs(spec.config, spec.kind)
        if not _exists(entry.value, entry.reads)
    ]
    return [sentence for _, sentence in sorted(missing)]


def _check(args: Namespace) -> int:
    # For no task: a spec that serves only some tasks is valid, and the report below lists which.
    spec = load_spec(args.spec, args.kind)
    unserved = {
        task: [f"{spec.at(path)} {sentence}" for path, sentence in findings]
        for task, findings in demands.unserved(spec.config, spec.kind).items()
    }
    if args.task in unserved:
        raise SpecError("\n".join(unserved[args.task]))
    missing = missing_paths(spec)
    if missing and args.strict_paths:
        raise SpecError("\n".join(missing))
    for warning in [*spec.warnings, *missing]:
        _write(f"warning: {warning}")
    for note in spec.notes:
        _write(f"note: {note}")
    served = [task for task in demands.TASKS if task not in unserved]
    use = f", for {', '.join(served)}" if spec.kind != "dataset_convert" else ""
    _write(f"{spec.name}: a valid {spec.kind} spec{use}")
    for task, sentences in unserved.items():
        _write(f"not for {task}:")
        for sentence in sentences:
            _write(f"  {sentence}")
    return 0


def _translate(args: Namespace) -> int:
    output: Path = args.output
    if output.suffix not in (".json", ".txt", ".py"):
        shown = excerpt(str(output), 4096)
        raise UsageError(f"-o {shown}: expected a name that ends in .json, .txt or .py")
    # Only here: a command that upgraded silently would train something that no file describes.
    spec = load_spec(args.spec, args.kind, upgrades=True)
    # Whatever the format: translated files are made to be passed on.
    shown = redact(spec.config)
    text = render(shown, spec.kind)
    if output.suffix == ".json":
        text = shown.to_json(indent=2, sort_keys=True) + "\n"
    elif output.suffix == ".py":
        text = python_file(spec, str(output))
    _write_file(output, text)
    for warning in [*spec.warnings, *spec.dropped]:
        _write(f"warning: {warning}")
    _write(f"wrote {excerpt(str(output), 4096)}")
    return 0


def _write_file(output: Path, text: str) -> None:
    """Writes a whole file or nothing.

    Raises:
      UsageError: the file cannot be written.
    """
    partial = output.with_name(f"{output.name}.partial")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(output)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name.
        reason = getattr(error, "strerror", None) or str(error)
        shown = excerpt(str(output), 4096)
        raise UsageError(f"-o {shown}: the file cannot be written: {reason}") from error


def _explain(args: Namespace) -> int:
    rows = find_fields(args.field, args.kind)
    if not rows:
        last = args.field.rpartition(".")[2]
        known = sorted({field.name for _, _, field in all_fields(args.kind)})
        near = difflib.get_close_matches(last[:SHOWN], known, 3, 0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"no spec has a field '{excerpt(args.field)}'{hint}")
    _write("\n".join(describe(row) for row in rows).rstrip())
    return 0


def _schema(args: Namespace) -> int:
    every = {kind: json_schema(kind) for kind in TABLES}
    _write(json.dumps(every[args.kind] if args.kind else every, indent=2))
    return 0


def _exists(value: str, kind: str) -> bool:
    if kind == "glob" and "**" in value:
        return True  # To look for it may mean to walk through a whole disk.
    if value.count("/") > MOST_FOLDERS:
        return False
    for path in (Path(value), Path(os.environ.get(DATA_VARIABLE, "")) / value):
        # A name that is too long or has a NUL names nothing.
        with suppress(OSError, ValueError):
            if kind == "glob":
                exists = any(glob.iglob(str(path)))  # noqa: PTH207 (Path.glob fails on "/")
            else:
                exists = path.is_dir() if kind == "folder" else path.is_file()
            if exists:
                return True
    return False


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
