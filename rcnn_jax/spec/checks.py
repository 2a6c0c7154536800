"""Checks of single fields of a ConfigDict: type, range, presence. They yield and raise nothing."""

from collections.abc import Iterator
from typing import Any

from rcnn_jax.printable import excerpt
from rcnn_jax.spec.build import PYTHON_TYPES
from rcnn_jax.spec.schema import Choice, Field, FieldKind, Message, Node
from rcnn_jax.spec.text import literals
from rcnn_jax.spec.text.values import (
    MAX_UINT32,
    control_complaint,
    did_you_mean,
    shown_value,
    wanted,
)

Finding = tuple[str, str]
"""(path, the rest of the sentence that begins with the path)."""


def check_types(config: Node, table: Message) -> Iterator[Finding]:
    """Yields every value of a wrong type, which only overrides can set."""
    for path, field, value in _entries(config, table):
        # A placeholder is None as well: fields without default may stay empty, those with one were
        # emptied by an override.
        if value is None:
            if field.default is not None:
                yield path, "has no value"
        elif field.kind == "literal":
            assert field.shape is not None
            # From Python these are tuples; from a spec the parser has already read the text.
            if not literals.fits(value, field.shape):
                yield path, f"= {shown_value(value)} is not a {field.shape}"
        elif field.repeated and not isinstance(value, tuple):
            yield path, f"= {shown_value(value)} is not a tuple"
        else:
            for item_path, item in _scalars(path, field, value):
                kind = field.entry if field.kind == "map" else field.kind
                if not _has_type(item, kind):
                    shown = "" if field.secret else f"= {shown_value(item)} "
                    yield item_path, f"{shown}is not {wanted(kind, field)}"


def check_ranges(config: Node, table: Message) -> Iterator[Finding]:
    """Yields every value out of range; types must be right."""
    for path, field, value in _entries(config, table):
        for item_path, item in _scalars(path, field, value):
            complaint = _complaint(item, field)
            if complaint and field.shape is not None:
                written = literals.write_literal(value, field.shape)
                yield item_path, f"= '{excerpt(written)}': {shown_value(item)} {complaint}"
            elif complaint:
                shown = "" if field.secret else f"= {shown_value(item)} "
                yield item_path, f"{shown}{complaint}"


def check_presence(config: Node, table: Message, prefix: str = "") -> Iterator[Finding]:
    """Yields absent required fields, and members of a oneof that are given together."""
    given: dict[str, str] = {}
    for field in table.fields:
        path, value = f"{prefix}{field.name}", config[field.name]
        is_block = field.kind == "message"
        # A block is always in the config; `enabled` tells whether the spec has it.
        present = value.enabled if is_block and field.optional else value is not None
        # An empty list counts as not given: protobuf cannot tell the two apart either.
        several = field.repeated or field.kind in ("map", "literal")
        if field.required and not (present and (len(value) if several else True)):
            yield path, "must be given"
        # A member with a default is present in every config, so it says nothing of what was given.
        if field.oneof and present and field.default is None:
            rival = given.setdefault(field.oneof, field.name)
            if rival != field.name:
                yield path, f"and {prefix}{rival} exclude each other"
        if is_block and present:
            for item_path, block in _blocks(path, field, value):
                yield from check_presence(block, field.table, f"{item_path}.")


def _entries(config: Node, table: Message, prefix: str = "") -> Iterator[tuple[str, Field, Any]]:
    """Yields (path, field, value) of everything that is not a message."""
    for field in table.fields:
        path, value = f"{prefix}{field.name}", config[field.name]
        if field.kind == "message":
            for item_path, block in _blocks(path, field, value):
                yield from _entries(block, field.table, f"{item_path}.")
        else:
            yield path, field, value


def _blocks(path: str, field: Field, value: Any) -> list[tuple[str, Node]]:
    if not field.repeated:
        return [(path, value)]
    return [(f"{path}[{index}]", block) for index, block in enumerate(value)]


def _scalars(path: str, field: Field, value: Any) -> list[tuple[str, Any]]:
    if value is None:
        return []
    if field.kind == "map":
        return [(f"{path}.{key}", item) for key, item in value.items()]
    if field.shape is not None:
        return [(path, number) for number in literals.numbers(value, field.shape)]
    if field.repeated:
        return [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    return [(path, value)]


def _has_type(value: Any, kind: FieldKind) -> bool:
    # First: bool is a subclass of int, and True must not pass as a number.
    if isinstance(value, bool) or kind == "bool":
        return isinstance(value, bool) and kind == "bool"
    if kind == "double":
        return isinstance(value, int | float)
    return isinstance(value, int if kind == "whole" else PYTHON_TYPES[kind])


def _complaint(value: Any, field: Field) -> str:
    kind = field.entry if field.kind == "map" else field.kind
    complaint = control_complaint(value)
    if complaint:
        return complaint
    if kind == "enum" and value not in field.values:
        return f"is not {wanted(kind, field)}{did_you_mean(value, list(field.values))}"
    if kind in ("uint32", "whole") and not 0 <= value <= MAX_UINT32:
        return f"is not in [0, {MAX_UINT32}]"
    # Infinity lies inside every interval without an upper end.
    if kind == "double" and not abs(value) < float("inf"):
        return "is not a finite number"
    if field.allowed is None or value in field.allowed:
        return ""
    hint = ""
    if isinstance(field.allowed, Choice) and isinstance(value, str):
        hint = did_you_mean(value, list(field.allowed.values))
    return f"{field.allowed.complaint}{hint}"
