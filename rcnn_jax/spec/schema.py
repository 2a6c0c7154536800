"""Schema of specs: the types of the field tables.

A table (`faster_rcnn`, `mask_rcnn`, `dataset_convert`) is a tree of `Message` and `Field`. It is
the single source of names, types, defaults, ranges and documentation; the parser, the ConfigDict, the
checks, `docs/spec_reference.md` and `rcnn-jax spec explain` are made from it.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

FieldKind = Literal[
    "bool", "uint32", "whole", "double", "string", "enum", "literal", "map", "message"
]

# ConfigDict has no types for its entries, and a class per message would be the tables written
# twice.
Node = Any
"""A ConfigDict whose entries are read by name: only the table knows their types."""

FIRST_EXTENSION = 1000
"""Field numbers from here on are extensions of this project, unknown to the original."""


@dataclass(frozen=True)
class Interval:
    """Numbers from low to high; an open end excludes its bound."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        left = "(" if self.open_low or math.isinf(self.low) else "["
        right = ")" if self.open_high or math.isinf(self.high) else "]"
        return f"{left}{self.low:g}, {self.high:g}{right}"

    @property
    def complaint(self) -> str:
        """The message about a value outside."""
        return f"is not in {self}"


@dataclass(frozen=True)
class Choice:
    """A short list of allowed values."""

    values: tuple[Any, ...]

    def __contains__(self, value: Any) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return ", ".join(repr(value) for value in self.values)

    @property
    def complaint(self) -> str:
        """The message about a value outside."""
        if len(self.values) == 1:
            return f"is not {self}"
        return f"is not one of {self}"


POSITIVE = Interval(low=0, open_low=True)
NON_NEGATIVE = Interval(low=0)
AT_LEAST_ONE = Interval(low=1)
# Upper bounds of what a typing error may start: threads, and batches held in memory.
THREADS = Interval(1, 512)
READY_BATCHES = Interval(1, 4096)
UNIT = Interval(0, 1)
OPEN_UNIT = Interval(0, 1, open_low=True, open_high=True)
BELOW_ONE = Interval(0, 1, open_high=True)
POSITIVE_UNIT = Interval(0, 1, open_low=True)


@dataclass(frozen=True)
class LiteralShape:
    """The form of a Python literal inside a string.

    Attributes:
      bracket: `(` or `[`, the one that is written; both are read.
      item: `int` or `float`.
      length: required number of items, or None for any.
      inner: 0 when items are numbers, else the length of the tuples that are the items.
    """

    bracket: Literal["(", "["]
    item: Literal["int", "float"]
    length: int | None = None
    inner: int = 0

    def __str__(self) -> str:
        one = "whole number" if self.item == "int" else "number"
        thing = f"({', '.join([one] * self.inner)})" if self.inner else one
        amount = "" if self.length is None else f"{self.length} x "
        return f"{'tuple' if self.bracket == '(' else 'list'} of {amount}{thing}"


@dataclass(frozen=True, kw_only=True)
class Field:
    """One row of a table.

    Attributes:
      name: as in the spec and in the ConfigDict.
      number: protobuf field number; from 1000 on an extension of this project.
      kind: type of the value. `whole` is a whole number the original declares as float.
      doc: one sentence.
      default: the value of an absent field; None for none.
      allowed: range of the value, or of every item.
      repeated: the field may be given several times.
      required: the field must be given (not be empty) where its message is given.
      values: names of an enum, by number.
      entry: type of the values of a map with string keys.
      shape: form of a literal.
      message: table of a sub-message.
      optional: presence of the sub-message has a meaning, stored as `enabled` in the ConfigDict.
      oneof: fields of a message that share this name exclude each other.
      aliases: other names that are read.
      no_effect: why the value changes nothing here; empty when it has its effect.
      silent: a value without effect is not reported: the original ignores it too, or its effect
        happens anyway.
      only_checked: only a rule of the spec reads it.
      secret: never written to any file.
      reads: input that must exist before a run: a `file`, a `folder`, or files of a `glob` pattern.
    """

    name: str
    number: int
    kind: FieldKind
    doc: str
    default: Any = None
    allowed: Interval | Choice | None = None
    repeated: bool = False
    required: bool = False
    values: tuple[str, ...] = ()
    entry: FieldKind = "string"
    shape: LiteralShape | None = None
    message: "Message | None" = None
    optional: bool = False
    oneof: str = ""
    aliases: tuple[str, ...] = ()
    no_effect: str = ""
    silent: bool = False
    only_checked: bool = False
    secret: bool = False
    reads: Literal["", "file", "folder", "glob"] = ""

    @property
    def extension(self) -> bool:
        """Whether the field is unknown to the original."""
        # By number, so that no list of extensions can fall behind the tables.
        return self.number >= FIRST_EXTENSION

    @property
    def table(self) -> "Message":
        """The table of a sub-message."""
        if self.message is None:
            raise ValueError(f"{self.name} is not a message")
        return self.message

    @property
    def type_name(self) -> str:
        """The type in words, for documentation and messages."""
        if self.kind == "message":
            name = self.table.name
        elif self.kind == "map":
            name = f"map<string, {self.entry}>"
        elif self.kind == "enum":
            name = f"enum {' | '.join(self.values)}"
        elif self.kind == "literal":
            name = f"string: {self.shape}"
        else:
            name = "whole number" if self.kind == "whole" else self.kind
        return f"repeated {name}" if self.repeated else name


@dataclass(frozen=True)
class Message:
    """A table of fields."""

    name: str
    doc: str
    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        # Checked when the module is imported: a table that is wrong cannot be released.
        names = [name for field in self.fields for name in (field.name, *field.aliases)]
        numbers = [field.number for field in self.fields]
        if len(set(names)) != len(names) or len(set(numbers)) != len(numbers):
            raise ValueError(f"table {self.name} uses a name or number twice")

    def find(self, name: str) -> Field | None:
        """Returns the field of a name or alias, or None."""
        return self._by_name.get(name)

    # The parser asks for every name of a text, several times; a frozen dataclass allows the cache
    # because it lives in the instance's dictionary.
    @functools.cached_property
    def _by_name(self) -> "dict[str, Field]":
        return {name: field for field in self.fields for name in (field.name, *field.aliases)}

    @property
    def has_switch(self) -> bool:
        """Whether `enabled` is a field of the message itself."""
        return self.find("enabled") is not None


def walk(message: Message, prefix: str = "") -> Iterator[tuple[str, Field]]:
    """Yields (dotted path, field) of every row, depth first in table order."""
    for field in message.fields:
        path = f"{prefix}{field.name}"
        yield path, field
        if field.message is not None:
            yield from walk(field.message, f"{path}.")


def messages(message: Message) -> dict[str, Message]:
    """Returns every table below and including this one, by name, outermost first."""
    tables = {message.name: message}
    for _, field in walk(message):
        if field.message is not None:
            tables.setdefault(field.message.name, field.message)
    return tables


def boolean(name: str, number: int, default: bool, doc: str, **marks: Any) -> Field:
    """A row that is true or false."""
    return Field(name=name, number=number, kind="bool", default=default, doc=doc, **marks)


def count(name: str, number: int, default: int | None, doc: str, **marks: Any) -> Field:
    """A row that holds a whole number from 0 on."""
    return Field(name=name, number=number, kind="uint32", default=default, doc=doc, **marks)


def real(name: str, number: int, default: float | None, doc: str, **marks: Any) -> Field:
    """A row that holds a finite number."""
    return Field(name=name, number=number, kind="double", default=default, doc=doc, **marks)


def reals(name: str, number: int, default: tuple[float, ...], doc: str, **marks: Any) -> Field:
    """A row that holds several finite numbers."""
    return Field(
        name=name, number=number, kind="double", default=default, doc=doc, repeated=True, **marks
    )


def string(
    name: str, number: int, default: str | tuple[()] | None, doc: str, **marks: Any
) -> Field:
    """A row that holds text, or several with `repeated`."""
    return Field(name=name, number=number, kind="string", default=default, doc=doc, **marks)


def enum(name: str, number: int, values: tuple[str, ...], doc: str, **marks: Any) -> Field:
    """A row that holds one of some names; the first, number 0, is the default."""
    return Field(
        name=name, number=number, kind="enum", values=values, default=values[0], doc=doc, **marks
    )


def block(name: str, number: int, message: Message, doc: str, **marks: Any) -> Field:
    """A row that holds a sub-message."""
    return Field(name=name, number=number, kind="message", message=message, doc=doc, **marks)


def mapping(
    name: str, number: int, entry: FieldKind, default: dict[str, Any], doc: str, **marks: Any
) -> Field:
    """A row that holds a map from text."""
    return Field(
        name=name, number=number, kind="map", entry=entry, default=default, doc=doc, **marks
    )


def literal(
    name: str, number: int, shape: LiteralShape, default: tuple[Any, ...], doc: str, **marks: Any
) -> Field:
    """A row that holds a Python literal written as text."""
    return Field(
        name=name, number=number, kind="literal", shape=shape, default=default, doc=doc, **marks
    )
