"""Cursor over the tokens of a spec, with the errors and warnings found so far."""

from dataclasses import dataclass, field
from typing import Any

from rcnn_jax.spec.schema import Field, Message
from rcnn_jax.spec.text.secrets import Hidden
from rcnn_jax.spec.text.tokens import Token

Position = tuple[int, int]

# A file that is no spec at all has an error per line; nobody reads the second hundred.
MAX_PROBLEMS = 100

OPENING = ("{", "<", "[")
CLOSING = ("}", ">", "]")


@dataclass(frozen=True)
class Problem:
    """An error of form: (line, column), both from 1, and a sentence."""

    position: Position
    sentence: str


# An exception, because the limit is reached deep inside nested blocks.
class TooManyError(Exception):
    """Raised at MAX_PROBLEMS errors, to end the parsing."""


@dataclass
class Block:
    """A block that is being read.

    Attributes:
      path: of its entries, with a dot at the end; empty at the top level.
      table: its fields; None for the entry of a map.
      opener: the token of its name; None at the top level.
      indent: column of the first token in the line that opened it.
      row: the map whose entry this is; None for a message.
      values: receives its values.
      given: name of a field, or of a key of a map -> tokens of its entries.
    """

    path: str
    table: Message | None = None
    opener: Token | None = None
    indent: int = 0
    row: Field | None = None
    values: dict[str, Any] = field(default_factory=dict)
    given: dict[str, list[Token]] = field(default_factory=dict)

    def knows(self, name: str) -> bool:
        """Returns whether the block has an entry of this name."""
        if self.table is None:
            return name in ("key", "value")
        return self.table.find(name) is not None

    @property
    def name(self) -> str:
        """The block in messages."""
        return f"the block {self.path.rstrip('.')}" if self.path else "the top level"

    @property
    def location(self) -> str:
        """The location of its entries in messages."""
        return f"in {self.path.rstrip('.')}" if self.path else "at the top level"


class Cursor:
    """The tokens and the index of the next one.

    Attributes:
      tokens: of the text, keys hidden.
      originals: offset -> piece of a key, as written.
      index: of the next token.
      blocks: those that are open, the innermost last.
      problems: errors of form, as they are found.
      warnings: legal but suspicious entries.
    """

    def __init__(self, tokens: Hidden) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.blocks: list[Block] = []
        # Keys stay out of `tokens`: their text is taken from here when the value itself is built.
        self.originals = tokens.originals
        self.index = 0
        self.tokens = self._without_slashes(tokens.tokens)

    @property
    def here(self) -> Token:
        """The next token."""
        return self.tokens[self.index]

    @property
    def next(self) -> Token:
        """The token behind the next one."""
        # The end token repeats: looking ahead needs no test for the end of the list.
        return self.tokens[min(self.index + 1, len(self.tokens) - 1)]

    @property
    def last(self) -> Token:
        """The token that was consumed last."""
        return self.tokens[max(self.index - 1, 0)]

    def take(self) -> Token:
        """Consumes and returns the next token; the end token is never consumed."""
        token = self.here
        if token.kind != "end":
            self.index += 1
        return token

    def skip(self, *marks: str) -> bool:
        """Consumes the next token if it is one of the marks; returns whether it was."""
        if self.here.is_mark(*marks):
            self.index += 1
            return True
        return False

    def complain(self, token: Token, sentence: str) -> None:
        """Adds an error.

        Raises:
          TooManyError: there are MAX_PROBLEMS now.
        """
        position = (token.line, token.column)
        self.problems.append(Problem(position, sentence))
        if len(self.problems) >= MAX_PROBLEMS:
            # One column behind the last error, so that sorting keeps the remark at the end.
            last = max(problem.position for problem in self.problems)
            sentence = f"only the first {MAX_PROBLEMS} errors are shown"
            self.problems.append(Problem((last[0], last[1] + 1), sentence))
            raise TooManyError

    def warn(self, token: Token, sentence: str) -> None:
        """Adds a warning, up to MAX_PROBLEMS."""
        if len(self.warnings) < MAX_PROBLEMS:
            self.warnings.append(Problem((token.line, token.column), sentence))

    def begins_entry(self) -> bool:
        """Returns whether a field begins here: a name before a mark, or a field of this block."""
        if self.here.kind not in ("name", "string", "word"):
            return False
        # In one line: a name at the end of a line may be a value, with the next field below it.
        marked = self.next.is_mark(":", "{", "<", "=") and self.next.line == self.here.line
        if self.here.kind != "name":
            return marked and self.here.line > self.last.line
        # `model_config {` has a mark; a field whose colon was forgotten is known by its name.
        return marked or self.blocks[-1].knows(self.here.text)

    def skip_brackets(self) -> None:
        """Skips a block or list with its content."""
        opening, depth = self.here, 0
        while self.here.kind != "end":
            here = self.take()
            depth += here.is_mark(*OPENING) - here.is_mark(*CLOSING)
            if depth == 0:
                return
        self.complain(opening, f"the '{opening.text}' in line {opening.line} is not closed")

    def _without_slashes(self, tokens: list[Token]) -> list[Token]:
        """Returns the tokens without comments of other languages, reported once."""
        kept: list[Token] = []
        for token in tokens:
            # Directly behind another token, as in s3://bucket, it is no comment.
            if token.kind == "slashes" and not (kept and kept[-1].end == token.start):
                if not self.problems:
                    self.complain(token, f"comments begin with #, not with {token.text[:2]}")
            else:
                kept.append(token)
        return kept
