"""Remarks about a valid spec, in the order of its lines.

They name fields without effect, a redacted or empty key, and booleans that are absent and yet true.
They omit what misleads nobody: fields that the original ignores too (`silent`), and values that ask for
what happens anyway.
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
    """Returns the remarks about a valid spec.

    Args:
      values: the given fields, from `scan`.
      table: the table of the message.
      positions: path of every entry of the text -> (line, column).
      trains: the spec is used for training; absent booleans matter to training only.
    """
    remarks = list(_given(values, table))
    remarks.sort(key=lambda note: positions.get(note[0], (0, 0)))
    if trains:
        # Behind the others: they are about what is not in the text and has no line.
        remarks += _true_though_absent(values, table)
    return [sentence for _, sentence in remarks]


def _given(values: dict[str, Any], table: Message, prefix: str = "") -> Iterator[Note]:
    for row in table.fields:
        given = values.get(row.name)
        if given is None:
            continue
        path = f"{prefix}{row.name}"
        if row.no_effect:
            # A value that asks for what happens anyway needs no note: sample specs are full of
            # them.
            if not row.silent and _asks_for_something(given, row):
                yield path, f"{path} has no effect: {row.no_effect}"
        elif row.secret and given == REDACTED:
            yield path, f"{path} is redacted in this file: give it with -k or RCNN_JAX_KEY"
        elif row.secret and not given:
            yield (
                path,
                f"{path} is empty: files are written unencrypted unless -k or RCNN_JAX_KEY gives a key",
            )
        elif row.kind == "message" and row.repeated:
            for index, block in enumerate(given):
                yield from _given(block, row.table, f"{path}[{index}].")
        elif row.kind == "message":
            yield from _given(given, row.table, f"{path}.")


def _asks_for_something(given: Any, row: Field) -> bool:
    """Returns whether the value differs from the behaviour without it."""
    if row.kind == "message" and row.table.has_switch:
        return bool(given.get("enabled"))
    return given != row.default


def _true_though_absent(values: dict[str, Any], table: Message, prefix: str = "") -> Iterator[Note]:
    # Deviation: the original read an absent boolean as false, also where its documentation
    # recommends true. Without a mask head there is no Mask R-CNN, and what is documented holds.
    for row in table.fields:
        path, given = f"{prefix}{row.name}", values.get(row.name)
        if row.kind == "message" and not (row.optional or row.repeated):
            yield from _true_though_absent(given or {}, row.table, f"{path}.")
        elif is_true_though_absent(row) and given is None:
            yield path, f"{path} is not given: true, as the documentation recommends"


def is_true_though_absent(row: Field) -> bool:
    """Returns whether an absent boolean of the original is true here."""
    return row.kind == "bool" and row.default is True and not (row.extension or row.no_effect)
