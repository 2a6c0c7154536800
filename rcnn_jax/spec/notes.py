"""What a reader of a spec should know although nothing is wrong with it, in the order of its lines.

Said are: fields without effect, a key that is redacted or empty, and booleans that are absent and yet
true. Nobody is told what misleads nobody: a field that the original ignores too (`silent`), or a value
that asks for what happens anyway.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from rcnn_jax.spec.build import REDACTED
from rcnn_jax.spec.schema import Field, Message

Note = tuple[str, str]
"""(path, sentence that begins with the path)."""


def notes(
    values: dict[str, Any],
    table: Message,
    positions: Mapping[str, tuple[int, int]],
    *,
    trains: bool,
) -> list[str]:
    """Returns the sentences about a sound spec.

    Args:
      values: what the spec says, as `scan` returns it.
      table: the table of the message.
      positions: path of every entry of the text -> (line, column).
      trains: the spec is read to train with it; the absent booleans matter to training only.
    """
    found = list(_given(values, table))
    found.sort(key=lambda note: positions.get(note[0], (0, 0)))
    if trains:
        found += _true_though_absent(values, table)
    return [sentence for _, sentence in found]


def _given(values: dict[str, Any], table: Message, prefix: str = "") -> Iterator[Note]:
    for row in table.fields:
        said = values.get(row.name)
        if said is None:
            continue
        path = f"{prefix}{row.name}"
        if row.no_effect:
            if not row.silent and _asks_for_something(said, row):
                yield path, f"{path} has no effect: {row.no_effect}"
        elif row.secret and said == REDACTED:
            yield path, f"{path} is redacted in this file: give it with -k or RCNN_JAX_KEY"
        elif row.secret and not said:
            yield (
                path,
                f"{path} is empty: files are written unsealed unless -k or RCNN_JAX_KEY gives a key",
            )
        elif row.kind == "message" and row.repeated:
            for index, block in enumerate(said):
                yield from _given(block, row.table, f"{path}[{index}].")
        elif row.kind == "message":
            yield from _given(said, row.table, f"{path}.")


def _asks_for_something(said: Any, row: Field) -> bool:
    """Says whether the value differs from what happens without it."""
    if row.kind == "message" and row.table.has_switch:
        return bool(said.get("enabled"))
    return said != row.default


def _true_though_absent(values: dict[str, Any], table: Message, prefix: str = "") -> Iterator[Note]:
    # Deviation: the original read an absent boolean as false, also where its documentation
    # recommends true. Without a mask head there is no Mask R-CNN, and what is documented holds.
    for row in table.fields:
        path, said = f"{prefix}{row.name}", values.get(row.name)
        if row.kind == "message" and not (row.optional or row.repeated):
            yield from _true_though_absent(said or {}, row.table, f"{path}.")
        elif is_true_though_absent(row) and said is None:
            yield path, f"{path} is not given: true, as the documentation recommends"


def is_true_though_absent(row: Field) -> bool:
    """Says whether an absent field of the original means true here."""
    return row.kind == "bool" and row.default is True and not (row.extension or row.no_effect)
