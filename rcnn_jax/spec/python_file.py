"""Translation of a spec into a config file in Python, field by field.

    config.training_config.num_epochs = 80  # the comment of that line

Fields and comments keep the order of the spec; keys are left out.
"""

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from rcnn_jax.kinds import SpecKind
from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.load import LoadedSpec
from rcnn_jax.spec.render import redact_text
from rcnn_jax.spec.schema import Field, Message, Node
from rcnn_jax.spec.text.tokens import comments

WIDTH = 100
INDENT = "    "
TOP = "fields outside of blocks"

DOCUMENT = '''"""{title}

    python -m rcnn_jax.main --config={output} --workdir=out

Any field can be set here or on the command line: --config.{example}
"""

from ml_collections import ConfigDict

from rcnn_jax.spec import {imports}


def get_config() -> ConfigDict:
    """Returns the config; what is not set here has its default."""
    config = default_config("{kind}")
{body}
    return config
'''

EXAMPLES: dict[SpecKind, str] = {
    "faster_rcnn": "training_config.num_epochs=3",
    "mask_rcnn": "num_epochs=3",
    "dataset_convert": "kitti_config.val_split=20",
}


@dataclass(frozen=True)
class Statement:
    """Lines of Python, without their indentation.

    Attributes:
      position: (line, column) of their source in the spec.
      block: top-level block they belong to, or `TOP`; "" for comments.
      lines: the lines.
    """

    position: tuple[int, int]
    block: str
    lines: tuple[str, ...]


def python_file(spec: LoadedSpec, output: str) -> str:
    """Returns the source of a config file whose config equals that of the spec, but for keys.

    Args:
      spec: a valid spec.
      output: the name of the file, for the command in its docstring.
    """
    statements = _with_comments(
        sorted(_statements(spec), key=lambda each: each.position), redact_text(spec.text)
    )
    body = _joined(statements)
    blocks = "default_block(" in body
    return DOCUMENT.format(
        title=f"Translated from {_in_docstring(spec.name.replace(chr(92), '/').split('/')[-1])}.",
        output=_in_docstring(shlex.quote(output)),
        example=EXAMPLES[spec.kind],
        imports="default_block, default_config" if blocks else "default_config",
        kind=spec.kind,
        body=body,
    )


def _statements(spec: LoadedSpec) -> Iterator[Statement]:
    # Only what the spec sets becomes a statement, so that the defaults of a later version apply.
    given = _given(spec.positions)
    for path, lines in _assignments(spec.config, TABLES[spec.kind], spec.kind, "", "config", given):
        yield Statement(given[path], path.partition(".")[0] if "." in path else TOP, tuple(lines))


def _given(positions: Any) -> dict[str, tuple[int, int]]:
    """Returns the position of every given path, and of the blocks and lists around it."""
    given: dict[str, tuple[int, int]] = dict(positions)
    for path, position in positions.items():
        for end, letter in enumerate(path):
            if letter in ".[":
                given[path[:end]] = min(given.get(path[:end], position), position)
    return given


def _assignments(
    config: Node,
    table: Message,
    kind: SpecKind,
    prefix: str,
    target: str,
    given: dict[str, tuple[int, int]],
) -> Iterator[tuple[str, Iterable[str]]]:
    """Yields (path, lines) of every field that is given; `target` is the Python name of the config."""
    for field in table.fields:
        path, name = f"{prefix}{field.name}", f"{target}.{field.name}"
        if path not in given:
            continue
        value = config[field.name]
        # The line stays as a comment, because a reader compares the file with the spec.
        if field.secret:
            yield path, (f"# {name}: keys are not written into files",)
        elif field.kind == "message" and field.repeated:
            yield from _appended(value, field, kind, path, name, given)
        elif field.kind == "message":
            # An empty block (`sgd { }`) would otherwise leave no statement at all.
            if field.optional and not field.table.has_switch:
                yield path, (f"{name}.enabled = True",)
            yield from _assignments(value, field.table, kind, f"{path}.", name, given)
        else:
            yield path, _assignment(name, value, field)


def _appended(
    blocks: list[Node],
    field: Field,
    kind: SpecKind,
    path: str,
    name: str,
    given: dict[str, tuple[int, int]],
) -> Iterator[tuple[str, Iterable[str]]]:
    # A local name and not an index: the block is complete when it is appended, as in the spec.
    variable = field.name.removesuffix("s")
    for index, block in enumerate(blocks):
        item = f"{path}[{index}]"
        yield item, (f'{variable} = default_block("{kind}", "{path}")',)
        last = item
        # In the order of the text, not of the table, so that comments stay with their fields.
        for inner, lines in sorted(
            _assignments(block, field.table, kind, f"{item}.", variable, given),
            key=lambda each: given[each[0]],
        ):
            yield inner, lines
            last = inner
        yield last, (f"{name}.append({variable})",)


def _assignment(name: str, value: Any, field: Field) -> list[str]:
    line = f"{name} = {_literal(value, field)}"
    several = field.kind == "map" or (isinstance(value, tuple) and len(value) > 1)
    if not several or len(INDENT) + len(line) <= WIDTH:
        return [line]
    opening, closing = "()" if isinstance(value, tuple) else "{}"
    if field.kind == "map" and _dotted(value):
        # ConfigDict takes a dot in a key for a path unless it is told otherwise.
        opening, closing = "ConfigDict({", "}, allow_dotted_keys=True)"
    return [f"{name} = {opening}", *(f"{INDENT}{item}," for item in _items(value)), closing]


def _literal(value: Any, field: Field) -> str:
    if field.kind == "map":
        inside = f"{{{', '.join(_items(value))}}}"
        return f"ConfigDict({inside}, allow_dotted_keys=True)" if _dotted(value) else inside
    if isinstance(value, tuple):
        return f"({', '.join(_items(value))}{',' * (len(value) == 1)})"
    return _scalar(value)


def _items(value: Any) -> list[str]:
    if isinstance(value, tuple):
        return [
            f"({', '.join(map(_scalar, item))}{',' * (len(item) == 1)})"
            if isinstance(item, tuple)
            else _scalar(item)
            for item in value
        ]
    return [f"{_scalar(key)}: {_scalar(item)}" for key, item in value.items()]


def _dotted(value: Any) -> bool:
    return any("." in key for key in value)


def _scalar(value: Any) -> str:
    """Returns a Python literal; no text can end it early or look like other code."""
    if isinstance(value, str) and value.isprintable() and not set(value) & {'"', "\\"}:
        return f'"{value}"'
    # ascii: a right-to-left mark or a look-alike letter of a spec must not hide in source code.
    return repr(value) if not isinstance(value, str) else ascii(value)


def _with_comments(statements: list[Statement], text: str) -> list[Statement]:
    """Merges the comments of the text into the statements; one behind a field stays there."""
    merged = list(statements)
    lines = {each.position[0]: index for index, each in enumerate(merged)}
    alone = []
    for start, end in comments(text):
        line = text.count("\n", 0, start) + 1
        column = start - (text.rfind("\n", 0, start) + 1) + 1
        comment = _comment(text[start:end])
        owner = lines.get(line)
        if owner is None:
            alone.append(Statement((line, column), "", (comment,)))
        else:
            each = merged[owner]
            *first, last = each.lines
            merged[owner] = Statement(each.position, each.block, (*first, f"{last}  {comment}"))
    return sorted(merged + alone, key=lambda each: each.position)


def _comment(text: str) -> str:
    """Returns a one-line comment: a carriage return or the like would end it in Python."""
    content = text.removeprefix("#").rstrip()
    shown = "".join(
        letter if letter.isprintable() or letter == "\t" else ascii(letter)[1:-1]
        for letter in content
    )
    return f"#{shown}" if not shown or shown.startswith((" ", "#")) else f"# {shown}"


def _joined(statements: list[Statement]) -> str:
    """Returns the indented lines, with a blank one between top-level blocks."""
    lines: list[str] = []
    pending: list[str] = []
    block = ""
    for each in statements:
        # A comment waits for the field below it: it belongs to its block, and behind the blank
        # line.
        if not each.block:
            pending += each.lines
            continue
        if each.block != block:
            lines.append("")
        block = each.block
        lines += [*pending, *each.lines]
        pending = []
    return "\n".join(f"{INDENT}{line}" if line else "" for line in [*lines, *pending])


def _in_docstring(text: str) -> str:
    """Returns text that cannot end a docstring."""
    return ascii(text)[1:-1].replace('"', "'")
