"""From a user's spec file to a locked ConfigDict with the same names.

    text -> scan (positions, errors of form) -> parse (protobuf text format) -> build (defaults)
         -> checks (ranges), rules (several fields) -> LoadedSpec

What the ConfigDict looks like:

- Every field of the table is there, under its name; aliases are stored under the first name.
- A scalar the spec does not give has its default, or is a placeholder (None with a type) where the
  table has none. An explicit 0, 0.0, False or "" stays what it is and is never taken for absent.
- A sub-message is always there. Where its presence means something (members of a choice such as
  `optimizer { sgd { } }`, optional mechanisms such as `early_stopping { }`) it has an extra entry
  `enabled`: whether the spec has the block. `visualizer` and `wandb_config` have a field `enabled`
  of their own, which serves.
- Repeated scalars are tuples; repeated messages are lists of locked ConfigDicts; maps are locked
  ConfigDicts; enums are names; Mask R-CNN's literals are (nested) tuples of numbers.

All errors are raised together in one `SpecError`, a line each, beginning with `file:line:column: `.
Ranges are still checked when the form has errors; rules over several fields are not, since they
would complain about what was left out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from ml_collections import ConfigDict

from rcnn_jax.errors import SpecError
from rcnn_jax.spec.build import build
from rcnn_jax.spec.checks import Finding, check_presence, check_ranges, check_types
from rcnn_jax.spec.demands import Task, means_to_train, whole_findings
from rcnn_jax.spec.kinds import TABLES, SpecKind, kind_of
from rcnn_jax.spec.literals import read_literal
from rcnn_jax.spec.notes import notes
from rcnn_jax.spec.parse import parse_values
from rcnn_jax.spec.scan import Position, Scan, accepted_text, scan, top_level_names
from rcnn_jax.spec.schema import Message


@dataclass(frozen=True)
class LoadedSpec:
    """A spec that passed every check.

    Attributes:
      config: the whole config, locked; see the module.
      text: the spec as written; secrets are in it, `render.redact_text` takes them out.
      kind: what the spec describes.
      notes: fields that have no effect here, a sentence each.
      name: the file name used in messages.
      positions: path of every entry the spec has -> (line, column), from 1.
    """

    config: ConfigDict
    text: str
    kind: SpecKind
    notes: list[str]
    name: str = "spec"
    positions: Mapping[str, Position] = field(default_factory=dict)

    def at(self, path: str) -> str:
        """Returns `file:line:column: path`, for messages; an absent entry has its block's place."""
        return f"{_placed(self.name, _nearest(self.positions, path))} {path}"


def load_spec(
    path: Path | str, kind: SpecKind | None = None, task: Task | None = None
) -> LoadedSpec:
    """Reads, checks and completes a spec file.

    Args:
      path: the file; its spelling begins the error messages.
      kind: what the spec describes; told from its top-level fields when None.
      task: what it is read for, which decides what must be given; see `demands.whole_findings`.

    Raises:
      SpecError: the file cannot be read, or holds errors, all of which are in the message.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise SpecError(f"{path}: there is no such spec file") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: the spec is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise SpecError(f"{path}: the spec cannot be read: {error.strerror}") from error
    return parse_spec(text, str(path), kind, task)


def parse_spec(
    text: str, name: str = "spec", kind: SpecKind | None = None, task: Task | None = None
) -> LoadedSpec:
    """Checks and completes the text of a spec; see `load_spec`."""
    kind = kind or detect_kind(text, name)
    table = TABLES[kind]
    form = scan(text, table)
    problems = [(problem.position, problem.sentence) for problem in form.problems]
    values = None if form.broken else _read_values(text, kind, form, problems)
    if values is None:
        raise _spec_error(name, problems)
    findings = list(_take_bad_literals(values, table))
    config = build(values, table)
    findings += check_ranges(config, table)
    if not problems:
        findings += check_presence(config, table)
        findings += whole_findings(config, kind, task)
    problems += [
        (_nearest(form.positions, path), f"{path} {sentence}") for path, sentence in findings
    ]
    if problems:
        raise _spec_error(name, problems)
    trains = task == "train" or (task is None and means_to_train(config, kind))
    said = notes(values, table, form.positions, trains=trains)
    return LoadedSpec(config, text, kind, said, name, form.positions)


def validate(config: ConfigDict, kind: SpecKind, task: Task | None = None) -> None:
    """Checks a whole config again, after fields were overridden.

    Args:
      config: from `load_spec` or a config file.
      kind: what it describes.
      task: see `load_spec`.

    Raises:
      SpecError: with every finding, a line each, citing `config.path.to.field`.
    """
    table = TABLES[kind]
    findings = list(check_types(config, table))
    if not findings:
        findings += check_ranges(config, table)
        findings += check_presence(config, table)
        findings += whole_findings(config, kind, task)
    if findings:
        raise SpecError("\n".join(f"config.{path} {sentence}" for path, sentence in findings))


def detect_kind(text: str, name: str = "spec") -> SpecKind:
    """Tells from the top-level fields what a spec describes.

    Raises:
      SpecError: the fields fit no kind, or several equally well.
    """
    names = top_level_names(text)
    kind = kind_of(names)
    if kind is None:
        raise SpecError(
            f"{name}: cannot tell what this spec describes from its top-level fields "
            f"({', '.join(sorted(names)) or 'none'}): say --kind {'|'.join(TABLES)}"
        )
    return kind


def _nearest(positions: Mapping[str, Position], path: str) -> Position:
    """Returns where the path, or else its innermost block in the text, stands; else (0, 0)."""
    while path and path not in positions:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return positions.get(path, (0, 0))


def _placed(name: str, position: Position) -> str:
    return f"{name}:{position[0]}:{position[1]}:" if position[0] else f"{name}:"


def _read_values(
    text: str, kind: SpecKind, form: Scan, problems: list[tuple[Position, str]]
) -> dict[str, Any] | None:
    """Returns what the sound part of the text says; None, with the reason noted, if that fails."""
    try:
        return parse_values(accepted_text(text, form), kind)
    except text_format.ParseError as error:
        if not problems:  # Otherwise the text only suffers from what was left out.
            problems.append(((0, 0), str(error)))
        return None


def _take_bad_literals(
    values: dict[str, Any], table: Message, prefix: str = ""
) -> Iterator[Finding]:
    """Yields what is wrong with literals and takes them out, so that the rest can be checked."""
    for row in table.fields:
        said = values.get(row.name)
        if said is None:
            continue
        if row.kind == "message":
            for block in said if row.repeated else [said]:
                yield from _take_bad_literals(block, row.table, f"{prefix}{row.name}.")
        elif row.shape is not None:
            try:
                read_literal(said, row.shape)
            except ValueError as error:
                yield f"{prefix}{row.name}", f"= {said!r} {error}"
                del values[row.name]


def _spec_error(name: str, problems: list[tuple[Position, str]]) -> SpecError:
    lines = [f"{_placed(name, position)} {sentence}" for position, sentence in sorted(problems)]
    return SpecError("\n".join(dict.fromkeys(lines)))
