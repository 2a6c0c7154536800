"""One pass over the words of a spec: where everything stands, and every error of form.

Protobuf's own parser stops at the first error and forgets positions, so this pass comes first. It
reports unknown names, wrong types, repeated fields and map keys, numbers that are not finite and
broken syntax, all together, and tells which entries to leave out for the rest to be read.
"""

import difflib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from rcnn_jax.spec.schema import Field, Kind, Message
from rcnn_jax.spec.tokens import Token, tokenize, unquote

Position = tuple[int, int]

MAX_UINT32 = 2**32 - 1

BOOLEANS = frozenset({"true", "True", "t", "1", "false", "False", "f", "0"})


@dataclass(frozen=True)
class Problem:
    """An error of form: (line, column), both from 1, and a sentence."""

    position: Position
    sentence: str


@dataclass
class Scan:
    """What the pass found.

    Attributes:
      positions: path of every entry -> (line, column) of its name.
      problems: errors of form in text order.
      broken: the syntax is broken somewhere, so what follows was not read.
      edits: (start, end, replacement) that turn the text into one the parser accepts.
      secrets: (start, end) of the values of secret fields.
    """

    positions: dict[str, Position] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    broken: bool = False
    edits: list[tuple[int, int, str]] = field(default_factory=list)
    secrets: list[tuple[int, int]] = field(default_factory=list)


class _BrokenSyntaxError(Exception):
    """The words no longer form entries; the problem is already noted."""


def scan(text: str, table: Message) -> Scan:
    """Reads the form of a spec against its table."""
    reader = _Reader(tokenize(text))
    try:
        reader.entries(table, "", "")
    except _BrokenSyntaxError:
        reader.result.broken = True
    return reader.result


def accepted_text(text: str, result: Scan) -> str:
    """Returns the text without the entries that were complained about, aliases spelled out."""
    pieces, reached = [], 0
    for start, end, replacement in sorted(result.edits, key=lambda edit: (edit[0], -edit[1])):
        if start >= reached:
            pieces += [text[reached:start], replacement]
            reached = end
    return "".join([*pieces, text[reached:]])


def top_level_names(text: str) -> set[str]:
    """Returns the names of the outermost entries, known or not."""
    depth, names, previous = 0, set(), None
    for token in tokenize(text):
        if depth == 0 and token.kind == "name" and (previous is None or previous.text != ":"):
            names.add(token.text)
        depth += (token.text in ("{", "<", "[")) - (token.text in ("}", ">", "]"))
        previous = token
    return names


def did_you_mean(name: str, known: list[str]) -> str:
    """Returns `; did you mean 'x'?`, or nothing where no known name is near."""
    near = difflib.get_close_matches(name, known, 1, 0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


class _Reader:
    """A cursor over the words."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.index = 0
        self.result = Scan()

    @property
    def here(self) -> Token:
        return self.tokens[self.index]

    def take(self) -> Token:
        token = self.here
        if token.kind != "end":
            self.index += 1
        return token

    def skip(self, *marks: str) -> bool:
        if self.here.kind == "mark" and self.here.text in marks:
            self.index += 1
            return True
        return False

    def complain(self, token: Token, sentence: str) -> None:
        self.result.problems.append(Problem((token.line, token.column), sentence))

    def give_up(self, sentence: str) -> None:
        self.complain(self.here, sentence)
        raise _BrokenSyntaxError

    def entries(self, table: Message, prefix: str, closing: str) -> None:
        """Reads entries up to the closing mark, or to the end of the text."""
        seen: dict[str, Token] = {}
        counts: dict[str, int] = {}
        groups: dict[str, Field] = {}
        while not (self.here.kind == "mark" and self.here.text == closing and closing):
            if self.here.kind == "end" and not closing:
                return
            if self.here.kind != "name":
                wanted = f"a field or '{closing}'" if closing else "a field"
                self.give_up(f"expected {wanted}, found {self.here.shown}")
            token = self.take()
            row = table.find(token.text)
            if row is None:
                self._unknown(token, table, prefix)
            else:
                if token.text != row.name:
                    self.result.edits.append((token.start, token.end, row.name))
                rival = groups.setdefault(row.oneof, row) if row.oneof else row
                if rival is not row:
                    sentence = f"{prefix}{row.name} and {prefix}{rival.name} exclude each other"
                    self.complain(token, sentence)
                self._known(token, row, prefix, seen, counts)
            self.skip(",", ";")
        self.take()

    def _unknown(self, token: Token, table: Message, prefix: str) -> None:
        known = [row.name for row in table.fields]
        place = f"in {prefix.rstrip('.')}" if prefix else "at the top level"
        self.complain(
            token, f"unknown field '{token.text}' {place}{did_you_mean(token.text, known)}"
        )
        self._drop_value(token)

    def _known(
        self, token: Token, row: Field, prefix: str, seen: dict[str, Token], counts: dict[str, int]
    ) -> None:
        path = f"{prefix}{row.name}"
        several = row.repeated or row.kind == "map"
        if not several and row.name in seen:
            first = seen[row.name]
            self.complain(token, f"{path} is given twice, first in line {first.line}")
            self._drop_value(token)
            return
        seen.setdefault(row.name, token)
        colon = self.skip(":")
        if several and self.skip("["):
            while not self.skip("]"):
                self._one(token, row, path, counts)
                if not self.skip(",") and self.here.text != "]":
                    self.give_up(f"expected ',' or ']' in {path}, found {self.here.shown}")
            return
        if row.kind not in ("message", "map") and not colon:
            self.give_up(f"expected ':' behind {path}, found {self.here.shown}")
        self._one(token, row, path, counts)

    def _one(self, token: Token, row: Field, path: str, counts: dict[str, int]) -> None:
        """Reads one value of an entry; `token` is the name that a faulty value is dropped with."""
        if row.repeated:
            item = f"{path}[{counts.get(row.name, 0)}]"
            counts[row.name] = counts.get(row.name, 0) + 1
            self.result.positions.setdefault(path, (token.line, token.column))
            # Items of the short form [a, b] share one name, so each is placed where it stands.
            at = self.here if self.tokens[self.index - 1].text in ("[", ",") else token
            self.result.positions[item] = (at.line, at.column)
        else:
            item = path
            self.result.positions.setdefault(item, (token.line, token.column))
        if row.kind == "message":
            self._block(token, item, lambda closing: self.entries(row.table, f"{item}.", closing))
        elif row.kind == "map":
            self._block(token, item, lambda closing: self._map_entry(token, row, path, closing))
        else:
            self._scalar(token, row.kind, row, item)

    def _block(self, token: Token, path: str, inside: Callable[[str], None]) -> None:
        opening = self.here
        if not self.skip("{", "<"):
            self.complain(token, f"{path} needs a block {{ ... }}, found {opening.shown}")
            self._drop_value(token)
            return
        inside("}" if opening.text == "{" else ">")

    def _map_entry(self, token: Token, row: Field, path: str, closing: str) -> None:
        parts: dict[str, list[Token]] = {}
        start, faults = self.index, len(self.result.problems)
        while not self.skip(closing):
            name = self.here
            if name.kind != "name":
                self.give_up(f"expected key, value or '{closing}', found {name.shown}")
            self.take()
            if name.text not in ("key", "value"):
                self.complain(
                    name, f"unknown field '{name.text}' in {path}: an entry has key and value"
                )
                self._drop_value(name)
            elif name.text in parts:
                self.complain(name, f"{path} has an entry with two of '{name.text}'")
                self._drop_value(name)
            else:
                if not self.skip(":"):
                    self.give_up(f"expected ':' behind {name.text}, found {self.here.shown}")
                kind: Kind = "string" if name.text == "key" else row.entry
                first = self.index
                self._scalar(token, kind, row, f"{path} {name.text}")
                parts[name.text] = self.tokens[first : self.index]
            self.skip(",", ";")
        if len(parts) < 2:
            self.complain(self.tokens[start], f"{path} has an entry without key or value")
            self._drop_from(token)
            return
        place, key = parts["key"][0], _joined(parts["key"])
        known = self.result.positions.setdefault(f"{path}.{key}", (place.line, place.column))
        if known != (place.line, place.column):
            self.complain(place, f"{path} has the key '{key}' twice, first in line {known[0]}")
        if len(self.result.problems) > faults:
            self._drop_from(token)

    def _scalar(self, token: Token, kind: Kind, row: Field, path: str) -> None:
        first, strings = self.here, self.index
        if first.kind == "mark" and first.text in "{<[":
            self.complain(first, f"{path} needs {wanted(kind, row)}, found a block")
            self._drop_value(token)
            return
        if first.kind not in ("name", "number", "string"):
            self.give_up(f"expected {wanted(kind, row)} for {path}, found {first.shown}")
        self.take()
        while first.kind == "string" and self.here.kind == "string":
            self.take()
        last = self.tokens[self.index - 1]
        if row.secret:
            self.result.secrets.append((first.start, last.end))
        sentence = type_complaint(first, kind, row)
        if first.kind == "string" and not sentence:
            sentence = text_complaint(self.tokens[strings : self.index])
        if sentence:
            self.complain(first, f"{path} = {first.text} {sentence}")
            self._drop_from(token)

    def _drop_value(self, token: Token) -> None:
        """Skips the value of a faulty entry, whatever its form, and leaves the entry out."""
        self.skip(":")
        depth = 0
        while True:
            here = self.here
            if here.kind == "end" or (depth == 0 and here.text in ("}", ">", "]")):
                break
            self.take()
            depth += (here.text in ("{", "<", "[")) - (here.text in ("}", ">", "]"))
            more_text = here.kind == "string" and self.here.kind == "string"
            if depth == 0 and not more_text:
                break
        self._drop_from(token)

    def _drop_from(self, token: Token) -> None:
        self.result.edits.append((token.start, self.tokens[self.index - 1].end, ""))


def wanted(kind: Kind, row: Field) -> str:
    """Says in words what a value must look like."""
    words = {
        "bool": "true or false",
        "uint32": "a whole number from 0 on",
        "whole": "a whole number from 0 on",
        "double": "a number",
        "string": "text in quotes",
        "literal": f"text in quotes with a {row.shape}",
        "enum": f"one of {', '.join(row.values)}",
    }
    return words[kind]


def _joined(strings: list[Token]) -> str:
    """Returns what adjacent strings say; faulty ones, complained about before, as they stand."""
    if text_complaint(strings) or strings[0].kind != "string":
        return strings[0].text
    return "".join(unquote(token.text) for token in strings)


def type_complaint(token: Token, kind: Kind, row: Field) -> str:
    """Returns what is wrong with the type of a value, or nothing."""
    text = token.text.replace(" ", "")
    if kind in ("string", "literal"):
        fits = token.kind == "string"
    elif kind == "bool":
        fits = text in BOOLEANS
    elif kind == "enum":
        number = token.kind == "number" and text.isdigit() and int(text) < len(row.values)
        fits = text in row.values or number
        if not fits and token.kind == "name":
            return f"is not {wanted(kind, row)}{did_you_mean(text, list(row.values))}"
    elif token.kind != "number":
        fits = False
    elif re.match(r"-?0\d", text):
        return "has leading zeros"
    elif kind in ("double", "whole") and "x" in text.lower():
        fits = False
    elif kind == "double":
        if not math.isfinite(_number(text)):
            return "is not a finite number"
        fits = True
    else:
        value = _number(text)
        if not math.isfinite(value):
            return "is not a finite number"
        spelled = kind == "whole" or text.lstrip("-").isdigit() or text.lower().startswith("0x")
        fits = spelled and value == int(value) and value >= 0
        if fits and value > MAX_UINT32:
            return f"is larger than {MAX_UINT32}"
    return "" if fits else f"is not {wanted(kind, row)}"


def text_complaint(strings: list[Token]) -> str:
    """Returns what is wrong with the escapes of adjacent strings, or nothing."""
    try:
        for token in strings:
            unquote(token.text)
    except ValueError as error:
        return str(error)
    return ""


def _number(text: str) -> float:
    if text.lower().startswith("0x"):
        return int(text, 16)
    return float(text.rstrip("fF") if text.lower() not in ("inf", "-inf") else text)
