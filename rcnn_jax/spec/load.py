"""Spec loading: from a user's spec file to a locked ConfigDict with the same names.

    text -> tokens -> secrets (keys hidden) -> scan (values, positions, errors of form)
         -> recipes (fields of a name) -> build (defaults)
         -> checks (ranges), rules (several fields) -> LoadedSpec

The ConfigDict:

- Every field of the table is there, under its name; aliases are stored under the first name.
- An absent scalar has its default, or is a placeholder (None with a type) where the table has none.
  An explicit 0, 0.0, False or "" is kept and never counts as absent.
- A sub-message is always there. Where its presence has a meaning (members of a choice such as
  `optimizer { sgd { } }`, optional mechanisms such as `early_stopping { }`) it has an extra entry
  `enabled`: whether the spec has the block. `visualizer` and `wandb_config` have a field `enabled`
  of their own, which serves.
- Repeated scalars are tuples; repeated messages are lists of locked ConfigDicts; maps are locked
  ConfigDicts; enums are names; Mask R-CNN's literals are (nested) tuples of numbers.

All errors are raised together in one `SpecError`, a line each, beginning with `file:line:column: `.
Ranges are still checked when the form has errors. Rules over several fields are not: they would report
fields that were dropped for an error of form.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ml_collections import ConfigDict

from rcnn_jax.errors import SpecError
from rcnn_jax.kinds import SpecKind, TaskName
from rcnn_jax.printable import excerpt, visible
from rcnn_jax.spec.build import build
from rcnn_jax.spec.checks import check_presence, check_ranges, check_types
from rcnn_jax.spec.demands import means_to_train, whole_findings
from rcnn_jax.spec.kinds import TABLES, kind_of
from rcnn_jax.spec.notes import notes
from rcnn_jax.spec.recipes import NAMES, Values, expand
from rcnn_jax.spec.text.cursor import Position, Problem
from rcnn_jax.spec.text.hints import described, other_form, other_network
from rcnn_jax.spec.text.scan import Scan, scan
from rcnn_jax.spec.text.secrets import Hidden, hide
from rcnn_jax.spec.text.tokens import MAX_SPEC, tokenize, top_level_names
from rcnn_jax.spec.upgrade import OLD_EXPERIMENT, is_old, upgrade
from rcnn_jax.text_file import read_text


@dataclass(frozen=True)
class LoadedSpec:
    """A spec that passed every check.

    Attributes:
      config: the whole config, locked; see the module.
      text: the spec as written, secrets included; `render.redact_text` removes them.
      kind: of the spec.
      notes: remarks about a valid spec, a sentence each, in line order.
      name: the file name used in messages.
      positions: path of every entry the spec has -> (line, column), from 1.
      warnings: legal but suspicious entries, such as a field given twice: a sentence each, beginning
        with its position, in line order.
      dropped: fields of an old spec without counterpart today, a sentence each; see `upgrade`.
    """

    config: ConfigDict
    text: str
    kind: SpecKind
    notes: list[str]
    name: str = "spec"
    positions: Mapping[str, Position] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def at(self, path: str) -> str:
        """Returns `file:line:column: path`, where an absent entry has the position of its block."""
        return f"{_placed(self.name, _nearest(self.positions, path))} {visible(path)}"


def load_spec(
    path: Path | str,
    kind: SpecKind | None = None,
    task: TaskName | None = None,
    *,
    upgrades: bool = False,
    recorded: str | None = None,
) -> LoadedSpec:
    """Reads, checks and completes a spec file.

    Args:
      path: the file; its spelling begins the error messages.
      kind: of the spec; detected from its top-level fields when None.
      task: decides which fields are required; see `demands.whole_findings`.
      upgrades: translate a spec of TLT 2.0, which is an error otherwise.
      recorded: text of the spec that a run recorded, where one goes on: its recipe counts, not today's.

    Raises:
      SpecError: the file cannot be read, or holds errors, all of which are in the message.
    """
    text = read_text(path, "spec file", SpecError, limit=MAX_SPEC)
    return parse_spec(text, str(path), kind, task, upgrades=upgrades, recorded=recorded)


def parse_spec(
    text: str,
    name: str = "spec",
    kind: SpecKind | None = None,
    task: TaskName | None = None,
    *,
    upgrades: bool = False,
    recorded: str | None = None,
) -> LoadedSpec:
    """Checks and completes the text of a spec; see `load_spec`."""
    name = excerpt(name, 4096)
    # Keys are out of sight before anything else reads the text: messages are made of tokens.
    tokens = _tokens(text, name)
    names = top_level_names(tokens.tokens)
    # Old field names in a spec of the other network are unknown fields there, and reported as such.
    old = is_old(tokens.tokens) and {kind, kind_of(names)} <= {None, "faster_rcnn"}
    kind = "faster_rcnn" if old else _kind(names, kind, name)
    dropped: list[str] = []
    if old:
        if not upgrades:
            raise SpecError(
                f"{name}: this is a TLT 2.0 spec: `rcnn-jax spec translate {shlex.quote(name)} "
                "-o NEW.txt` writes it in today's form"
            )
        # Read against the old table first, so that its errors have the lines of the user's file.
        form = scan(tokens, OLD_EXPERIMENT)
        form, dropped = upgrade(form)
    else:
        form = scan(tokens, TABLES[kind])
    begun = None if recorded is None else scan(hide(tokenize(recorded)), TABLES[kind]).values
    spec = _checked(form, text, name, kind, task, begun)
    return replace(spec, dropped=dropped)


def validate(config: ConfigDict, kind: SpecKind, task: TaskName | None = None) -> None:
    """Checks a whole config again, after fields were overridden.

    Args:
      config: from `load_spec` or a config file.
      kind: of the config.
      task: see `load_spec`.

    Raises:
      SpecError: with every finding, a line each, citing `config.path.to.field`.
    """
    table = TABLES[kind]
    findings = list(check_types(config, table))
    # Ranges and rules compare values, so they need the types: an override may set text where a
    # number belongs.
    if not findings:
        findings += check_ranges(config, table)
        findings += check_presence(config, table)
        findings += whole_findings(config, kind, task)
    if findings:
        lines = [visible(f"config.{path} {sentence}") for path, sentence in findings]
        raise SpecError("\n".join(lines))


def _tokens(text: str, name: str) -> Hidden:
    """Tokenizes a text that may be a spec, and hides its keys.

    Raises:
      SpecError: it cannot be one.
    """
    # Before the tokenizer: whatever a user names by mistake (a checkpoint, a log) must not take
    # minutes.
    if len(text) > MAX_SPEC:
        raise SpecError(f"{name}: the spec is longer than {MAX_SPEC} characters: is it one?")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise SpecError(f"{name}:{line}: the file holds zero bytes: it is no text, or it is UTF-16")
    tokens = tokenize(text)
    if tokens[0].kind == "end":
        what = "holds nothing but comments" if text.strip() else "is empty"
        raise SpecError(f"{name}: the spec {what}")
    form = other_form(text, tokens)
    if form:
        raise SpecError(
            f"{name}: this is {form}; a spec is protobuf text: `name: value`, blocks in {{ }}"
        )
    return hide(tokens)


def _kind(names: set[str], kind: SpecKind | None, name: str) -> SpecKind:
    """Returns the kind of a spec.

    Args:
      names: its top-level fields.
      kind: the required one; None for any.
      name: of the file.

    Raises:
      SpecError: it is of another kind, or the fields fit no kind, or several equally well.
    """
    network = other_network(names)
    if network:
        raise SpecError(f"{name}: this is a spec of {network}; faster_rcnn and mask_rcnn are read")
    detected = kind_of(names)
    if kind is None and detected is None:
        shown = ", ".join(excerpt(each) for each in sorted(names)[:10]) or "none"
        raise SpecError(
            f"{name}: cannot tell what this spec describes from its top-level fields "
            f"({shown}): say --kind {'|'.join(TABLES)}"
        )
    if kind and detected and detected != kind:
        what = described(detected, names)
        raise SpecError(
            f"{name}: this is a {detected} spec ({what}), and a {kind} spec is needed here"
        )
    # With a kind from the flag a spec without any known field passes here: the parser names each
    # unknown one.
    return kind or detected or "faster_rcnn"


def _checked(
    form: Scan,
    text: str,
    name: str,
    kind: SpecKind,
    task: TaskName | None,
    recorded: Values | None,
) -> LoadedSpec:
    """Completes and checks a parsed spec.

    Raises:
      SpecError: with every error of form, range and rule.
    """
    table = TABLES[kind]
    expansion = expand(form.values, kind, table, recorded)
    values = form.values if expansion is None else expansion.values
    if expansion is not None:
        # What the recipe sets stands where the recipe does: an error in it points there.
        here = form.positions["recipe"]
        named = dict.fromkeys((*expansion.fields, "recipe_fields"), here)
        form.positions = {**named, **form.positions}
    config = build(values, table)
    # Types need no check here: the parser has made the values from the table.
    findings = [*check_ranges(config, table)]
    # A dropped entry looks like an absent one: presence and rules would report it a second time. So
    # would they what an unknown recipe was meant to set.
    if not form.problems and values.get("recipe") in (None, *NAMES):
        findings += check_presence(config, table)
        findings += whole_findings(config, kind, task)
    problems = [
        *form.problems,
        *(
            Problem(_nearest(form.positions, path), f"{path} {sentence}")
            for path, sentence in findings
        ),
    ]
    if problems:
        # Once: a value may break its range and a rule with the same sentence.
        raise SpecError("\n".join(dict.fromkeys(_lines(name, problems))))
    # Absent booleans that are true concern training; other tasks would only be puzzled by the note.
    trains = task == "train" or (task is None and means_to_train(config, kind))
    remarks = [visible(note) for note in notes(values, table, form.positions, trains=trains)]
    if expansion is not None and trains:
        remarks.append(expansion.sentence(values["recipe"]))
    warnings = _lines(name, form.warnings)
    # The text stays as written: what a run stores of it goes through `redact_text`.
    return LoadedSpec(config, text, kind, remarks, name, form.positions, warnings)


def _lines(name: str, problems: list[Problem]) -> list[str]:
    # In the order of the file, whichever check found them: users work through it from the top.
    ordered = sorted(problems, key=lambda problem: (problem.position, problem.sentence))
    return [f"{_placed(name, each.position)} {visible(each.sentence)}" for each in ordered]


def _nearest(positions: Mapping[str, Position], path: str) -> Position:
    """Returns the position of a path, or of its innermost block in the text, or (0, 0)."""
    while path and path not in positions:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return positions.get(path, (0, 0))


def _placed(name: str, position: Position) -> str:
    return f"{name}:{position[0]}:{position[1]}:" if position[0] else f"{name}:"
