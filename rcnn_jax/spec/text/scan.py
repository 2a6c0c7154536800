"""Parser of spec text: values, their positions and every error of form, in one pass.

    Hidden tokens + Message table --scan--> Scan(values, positions, problems, warnings)

Entries given twice merge as in protobuf's text format, which the original reads: blocks merge, of values
the last one counts. All errors are reported together, so the parser recovers from each: it drops the
faulty entry, and it closes a block without closing mark before a field that only an outer block has.
"""

import unicodedata
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from rcnn_jax.printable import excerpt
from rcnn_jax.spec.schema import Field, Message
from rcnn_jax.spec.text.cursor import CLOSING, OPENING, Block, Position, Problem, TooManyError
from rcnn_jax.spec.text.hints import elsewhere
from rcnn_jax.spec.text.scalars import ScalarReader
from rcnn_jax.spec.text.secrets import Hidden
from rcnn_jax.spec.text.tokens import Token
from rcnn_jax.spec.text.values import bare


@dataclass
class Scan:
    """Result of parsing a spec.

    Attributes:
      values: the given fields without defaults; absent fields are absent. Messages are dicts, repeated
        fields lists, maps dicts, enums names, literals text.
      positions: path of every entry -> (line, column) of its name; of repeated ones, of the last.
      problems: errors of form in text order.
      warnings: legal but suspicious entries, in text order.
    """

    values: dict[str, Any] = field(default_factory=dict)
    positions: dict[str, Position] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def scan(tokens: Hidden, table: Message) -> Scan:
    """Parses the tokens of a spec against its table."""
    result = Scan()
    reader = _Reader(tokens, result.positions)
    # The problems up to there are the report.
    with suppress(TooManyError):
        reader.entries(Block("", table, values=result.values))
    # Sorted, because a missing closing mark is noticed far behind the block that it names.
    result.problems = sorted(reader.problems, key=lambda problem: problem.position)
    result.warnings = sorted(reader.warnings, key=lambda problem: problem.position)
    return result


class _Reader(ScalarReader):
    """Recursive-descent parser of blocks and entries, with error recovery."""

    def __init__(self, tokens: Hidden, positions: dict[str, Position]) -> None:
        super().__init__(tokens)
        self.positions = positions
        self._items: Counter[str] = Counter()
        # Closing marks that the text lacks; negative for surplus ones. This balance of the whole text
        # is the evidence behind every guess below: a balanced text is read as it is written, and no
        # more blocks are closed by guess than marks are missing.
        self.missing = sum(
            token.is_mark("{", "<") - token.is_mark("}", ">") for token in self.tokens
        )
        # Blocks around the current one that end with it, see _closes_early.
        self.closed_early = 0
        self.indents: dict[int, int] = {}
        for token in self.tokens:
            # The first token of a line: that is where an editor would align the closing mark.
            self.indents.setdefault(token.line, token.column)

    def entries(self, block: Block) -> None:
        """Reads the entries of a block, up to and with its closing mark."""
        self.blocks.append(block)
        while not self._ends(block):
            if self.here.kind == "name" or self._is_odd_name():
                self._entry(block, self.take())
                self.skip(",", ";")
            else:
                self._unexpected(block)
        self.blocks.pop()

    def _ends(self, block: Block) -> bool:
        """Consumes the end of the block, if it is here; returns whether it was."""
        if self.closed_early:
            self.closed_early -= 1
            return True
        while self.here.is_mark(*CLOSING):
            if self._closes(block, self.take()):
                return True
        if self.here.kind == "end":
            if block.opener is not None:
                self._unclosed(block, "")
            return True
        return self.here.kind == "name" and self._closes_early(block, self.here)

    def _closes(self, block: Block, mark: Token) -> bool:
        """Returns whether a closing mark ends the block; otherwise reports it as one too many."""
        if mark.text == "]" or block.opener is None:
            self.complain(mark, f"'{mark.text}' closes nothing: remove it, or open what it closes")
            self.missing += mark.text != "]"
            return False
        outer, name = self.blocks[-2], self.here.text
        # Surplus: the next field belongs to this block and not to the outer one.
        belongs_here = self.here.kind == "name" and block.knows(name) and not outer.knows(name)
        if self.missing < 0 and belongs_here:
            self.complain(
                mark,
                f"this '{mark.text}' is one too many: {name} behind it belongs to {block.name}",
            )
            self.missing += 1
            return False
        # Missing before this mark: it stands alone at the indentation of the outer block, so it is
        # meant for that one. Indentation is evidence only where the balance says one is missing.
        alone = self.tokens[self.index - 2].line < mark.line
        below_outer = outer.opener is not None and mark.column == outer.indent != block.indent
        if self.missing > 0 and alone and below_outer:
            self._unclosed(block, f" before the '{mark.text}' in line {mark.line}")
            self.missing -= 1
            self.index -= 1  # the outer block takes the mark
        return True

    def _closes_early(self, block: Block, token: Token) -> bool:
        """Returns whether a closing mark is missing before a name, and reports it."""
        if self.missing <= 0 or block.knows(token.text):
            return False
        # The innermost block that has such a field. Names of several levels (`enabled`, `key`) are
        # handled by the check above: a field that this block knows is never a reason to close it.
        for levels, outer in enumerate(reversed(self.blocks[:-1]), start=1):
            # More blocks would have to be closed than marks are missing: the guess is wrong.
            if levels > self.missing:
                return False
            if outer.knows(token.text):
                for each in reversed(self.blocks[-levels:]):
                    self._unclosed(each, f" before {token.text} in line {token.line}")
                self.missing -= levels
                self.closed_early = levels - 1
                return True
        return False

    def _unclosed(self, block: Block, where: str) -> None:
        assert block.opener is not None
        line = block.opener.line
        self.complain(
            block.opener,
            f"{block.name}, opened in line {line}, is not closed{where}: a '}}' is missing",
        )

    def _entry(self, block: Block, token: Token) -> None:
        # A name in quotes, as in JSON, is an error with a known meaning: its value is still checked.
        name = token.text if token.kind == "name" else bare(token.text)
        if not block.knows(name):
            self._unknown(block, token, name)
        elif block.table is None:
            self._part_of_map_entry(block, token, name)
        else:
            row = block.table.find(name)
            assert row is not None
            if token.kind == "string":
                self.complain(token, f"the name of a field is written without quotes: {row.name}")
            self._field(block, token, row, f"{block.path}{row.name}")

    def _field(self, block: Block, token: Token, row: Field, path: str) -> None:
        colon = self.colon()
        if row.repeated or row.kind == "map":
            self._several(block, token, row, path, colon=colon)
            return
        what = "both are read, of each field" if row.kind == "message" else "of its values"
        self._once(block, row.name, token, path, f"{what} the last counts")
        if row.oneof:
            self._remove_rivals(block, token, row)
        self.positions[path] = (token.line, token.column)
        if row.kind == "message":
            # The values of an earlier block of this name go on: protobuf merges the two.
            inner = Block(f"{path}.", row.table, token, values=block.values.get(row.name, {}))
            if self._block(inner, token, path):
                block.values[row.name] = inner.values
        else:
            value = self.scalar(token, row.kind, row, path, colon=colon)
            if value is not None:
                block.values[row.name] = value

    def _once(self, block: Block, name: str, token: Token, what: str, rule: str) -> None:
        """Warns of an entry that is given again."""
        given = block.given.setdefault(name, [])
        # The last two are named: with three or more, each warning has its predecessor.
        given.append(token)
        if len(given) > 1:
            where = _lines(given[-2].line, token.line)
            self.warn(token, f"{what} is given twice, {where}: {rule}")

    def _remove_rivals(self, block: Block, token: Token, row: Field) -> None:
        """Removes the other members of a oneof: as in protobuf the last one counts."""
        assert block.table is not None
        for rival in block.table.fields:
            if rival.oneof == row.oneof and rival is not row and rival.name in block.values:
                del block.values[rival.name]
                block.given.pop(rival.name, None)
                path = f"{block.path}{rival.name}"
                where = _lines(self.positions[path][0], token.line)
                self.warn(
                    token,
                    f"{path} and {block.path}{row.name} exclude each other, {where}: the last counts",
                )

    def _several(self, block: Block, token: Token, row: Field, path: str, *, colon: bool) -> None:
        """Parses the values of a repeated field or map, single or in brackets."""
        opening = self.here
        if not self.skip("["):
            self._item(block, token, token, row, path, colon=colon)
            return
        # Ends with the list, or where a field of the block begins: then a ']' was forgotten, and
        # what follows must not be swallowed.
        while not self.skip("]"):
            if self.here.kind == "end" or self.here.is_mark("}", ">") or self.begins_entry():
                line = opening.line
                self.complain(
                    opening, f"the list of {path} in line {line} is not closed: a ']' is missing"
                )
                return
            if self.here.is_mark(",", ";", ":"):
                mark = self.take()
                self.complain(mark, f"expected a value in the list of {path}, found {mark.text}")
                continue
            self._item(block, token, self.here, row, path, colon=True, listed=True)
            comma = self.here
            if self.skip(","):
                if self.here.is_mark("]"):
                    self.complain(comma, f"',' behind the last value of {path}: remove it")
            # In the same line only: a value in the next line is a missing ']', reported above.
            elif not comma.is_mark("]") and comma.line == self.last.line:
                self.complain(comma, f"expected ',' or ']' in {path}, found {self.shown_here()}")
                if comma.kind == "mark" and not comma.is_mark(*OPENING, *CLOSING):
                    self.take()

    def _item(
        self,
        block: Block,
        token: Token,
        first: Token,
        row: Field,
        path: str,
        *,
        colon: bool,
        listed: bool = False,
    ) -> None:
        """Parses one value of a repeated field or map.

        Args:
          block: the block it is in.
          token: the name of the entry.
          first: the token with its position; items of the short form [a, b] share one name.
          row: the field.
          path: of the field.
          colon: whether a colon precedes it.
          listed: whether it is an item of the short form.
        """
        # The list itself is where its first value stands; rules about the list point there.
        self.positions.setdefault(path, (token.line, token.column))
        if row.kind == "map":
            self._map_entry(block, token, row, path)
            return
        item = f"{path}[{self._items[path]}]"  # values count only those that could be read
        self._items[path] += 1
        self.positions[item] = (first.line, first.column)
        if row.kind == "message":
            inner = Block(f"{item}.", row.table, token)
            value = inner.values if self._block(inner, token, item) else None
        else:
            value = self.scalar(token, row.kind, row, item, colon=colon, listed=listed)
        if value is not None:
            block.values.setdefault(row.name, []).append(value)

    def _map_entry(self, block: Block, token: Token, row: Field, path: str) -> None:
        entry, faults = Block(f"{path}.", None, token, row=row), len(self.problems)
        opening = self.next
        # An entry with an error has been reported; "without key or value" would be a second message.
        if not self._block(entry, token, path) or len(self.problems) > faults:
            return
        if len(entry.values) < 2:
            self.complain(opening, f"{path} has an entry without key or value")
            return
        key, at = entry.values["key"], entry.given["key"][-1]
        self.positions[f"{path}.{key}"] = (at.line, at.column)
        what = f"the key '{excerpt(key)}' of {path}"
        self._once(block, f"{row.name}.{key}", at, what, "the last counts")
        block.values.setdefault(row.name, {})[key] = entry.values["value"]

    def _part_of_map_entry(self, block: Block, token: Token, name: str) -> None:
        assert block.row is not None
        path = f"{block.path.rstrip('.')} {name}"
        colon = self.colon()
        at = self.here
        kind = "string" if name == "key" else block.row.entry
        value = self.scalar(token, kind, block.row, path, colon=colon)
        self._once(block, name, at, path, "the last counts")
        if value is not None:
            block.values[name] = value

    def _block(self, block: Block, token: Token, path: str) -> bool:
        """Parses a block behind its name; returns whether there is one."""
        if not self.skip("{", "<"):
            here = self.here
            inside = here.kind == "name" and block.knows(here.text)
            if not (inside and self.next.is_mark(":", "{", "<")):
                self.complain(token, f"{path} needs a block {{ ... }}, found {self.shown_here()}")
                self._drop_value()
                return False
            self.complain(token, f"expected '{{' behind {path}, found {here.shown}")
            self.missing += 1  # its closing mark would look like one too many
        # Of the line and not of the name, which may stand behind others.
        block.indent = self.indents[token.line]
        self.entries(block)
        return True

    def _unknown(self, block: Block, token: Token, name: str) -> None:
        shown = excerpt(name)
        if token.kind == "hidden":
            self.complain(token, f"unknown field {block.location}: it looks like a key")
        elif block.table is None:
            where = block.path.rstrip(".")
            self.complain(token, f"unknown field '{shown}' in {where}: an entry has key and value")
        else:
            root = self.blocks[0].table
            assert root is not None
            hint = elsewhere(name, block.table, root)
            self.complain(token, f"unknown field '{shown}' {block.location}{hint}")
        # With its value, whatever that is: an unknown block has fields of its own, which would all
        # be reported.
        self._drop_value()

    def _is_odd_name(self) -> bool:
        """Returns whether the next token is a field name that is wrongly written."""
        if self.here.kind not in ("string", "word", "curly", "hidden"):
            return False
        return self.next.is_mark(":", "{", "<", "=") and self.next.line == self.here.line

    def _unexpected(self, block: Block) -> None:
        """Reports tokens that begin no field, once, and skips to where one may begin."""
        here = self.here
        shown = f"a {here.text[0]} without its end" if here.kind == "open" else self.shown_here()
        closing = " or '}'" if block.opener is not None else ""
        plain = unicodedata.normalize(
            "NFKC", here.text
        )  # full-width punctuation of East Asian keyboards
        meant = f"; write {excerpt(plain)}" if plain != here.text and here.kind == "word" else ""
        self.complain(here, f"expected a field{closing}, found {shown}{meant}")
        self._rest_of_line(here)

    def _drop_value(self) -> None:
        """Skips the value of a faulty entry, whatever its form."""
        name, marked = self.last, False
        while self.skip(":", "="):
            marked = True
        here = self.here
        if here.is_mark(*OPENING):
            self.skip_brackets()
        elif here.kind == "end" or here.is_mark(*CLOSING):
            return
        elif here.line == name.line or (marked and not self.begins_entry()):
            self._rest_of_line(here)
            # Adjacent strings are one value over several lines.
            while here.kind in ("string", "hidden") and self.here.kind == "string":
                self.take()

    def _rest_of_line(self, token: Token) -> None:
        """Skips a token and the rest of its line, up to where a field may begin."""
        first = self.index
        while self.here.kind != "end" and self.here.line == token.line:
            if self.index > first and (self.here.is_mark(*CLOSING) or self.begins_entry()):
                return
            if self.here.is_mark(*OPENING):
                self.skip_brackets()
            else:
                self.take()


def _lines(first: int, second: int) -> str:
    return f"in lines {first} and {second}" if first != second else f"in line {first}"
