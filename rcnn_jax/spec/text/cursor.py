"""A cursor over the words of a spec, and where it notes what is wrong with them."""

from dataclasses import dataclass, field
from typing import Any

from rcnn_jax.spec.schema import Field, Message
from rcnn_jax.spec.text.secrets import Hidden
from rcnn_jax.spec.text.tokens import Token

Position = tuple[int, int]

MAX_PROBLEMS = 100

OPENING = ("{", "<", "[")
CLOSING = ("}", ">", "]")


@dataclass(frozen=True)
class Problem:
    """An error of form: (line, column), both from 1, and a sentence."""

    position: Position
    sentence: str


class TooManyError(Exception):
    """There are so many problems that more of them help nobody."""


@dataclass
class Block:
    """A block that is being read.

    Attributes:
      path: of its entries, with a dot at the end; empty at the top level.
      table: its fields; None for the entry of a map.
      opener: the word that named it; None at the top level.
      indent: column of the first word of the line that opened it.
      row: the map whose entry this is; None for a message.
      values: where its values go.
      given: name of a field, or of a key of a map -> the words that gave it.
    """

    path: str
    table: Message | None = None
    opener: Token | None = None
    indent: int = 0
    row: Field | None = None
    values: dict[str, Any] = field(default_factory=dict)
    given: dict[str, list[Token]] = field(default_factory=dict)

    def knows(self, name: str) -> bool:
        """Says whether an entry of this name may stand here."""
        if self.table is None:
            return name in ("key", "value")
        return self.table.find(name) is not None

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"the block {self.path.rstrip('.')}" if self.path else "the top level"

    @property
    def place(self) -> str:
        """Where its entries are, for messages."""
        return f"in {self.path.rstrip('.')}" if self.path else "at the top level"


class Cursor:
    """The words, and which of them is next.

    Attributes:
      tokens: the words of the text, without their keys.
      originals: offset -> piece of a key, as written.
      index: of the next word.
      blocks: those that are open, the innermost last.
      problems: errors of form, as they are found.
      warnings: what is legal and hardly meant.
    """

    def __init__(self, words: Hidden) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.blocks: list[Block] = []
        self.originals = words.originals
        self.index = 0
        self.tokens = self._without_slashes(words.tokens)

    @property
    def here(self) -> Token:
        """The next word."""
        return self.tokens[self.index]

    @property
    def next(self) -> Token:
        """The word behind the next one."""
        return self.tokens[min(self.index + 1, len(self.tokens) - 1)]

    @property
    def last(self) -> Token:
        """The word that was taken last."""
        return self.tokens[max(self.index - 1, 0)]

    def take(self) -> Token:
        """Returns the next word and goes on; at the end it stays."""
        token = self.here
        if token.kind != "end":
            self.index += 1
        return token

    def skip(self, *marks: str) -> bool:
        """Takes the next word if it is one of the marks, and says whether it was."""
        if self.here.is_mark(*marks):
            self.index += 1
            return True
        return False

    def complain(self, token: Token, sentence: str) -> None:
        """Notes an error.

        Raises:
          TooManyError: it was one too many.
        """
        position = (token.line, token.column)
        self.problems.append(Problem(position, sentence))
        if len(self.problems) >= MAX_PROBLEMS:
            last = max(problem.position for problem in self.problems)
            sentence = f"only the first {MAX_PROBLEMS} errors are shown"
            self.problems.append(Problem((last[0], last[1] + 1), sentence))
            raise TooManyError

    def warn(self, token: Token, sentence: str) -> None:
        """Notes a warning, unless there are so many that more of them help nobody."""
        if len(self.warnings) < MAX_PROBLEMS:
            self.warnings.append(Problem((token.line, token.column), sentence))

    def begins_entry(self) -> bool:
        """Says whether a field begins here: a name with a mark behind it, or a field of this block."""
        if self.here.kind not in ("name", "string", "word"):
            return False
        marked = self.next.is_mark(":", "{", "<", "=") and self.next.line == self.here.line
        if self.here.kind != "name":
            return marked and self.here.line > self.last.line
        return marked or self.blocks[-1].knows(self.here.text)

    def skip_brackets(self) -> None:
        """Skips a block or list, whatever is in it."""
        opening, depth = self.here, 0
        while self.here.kind != "end":
            here = self.take()
            depth += here.is_mark(*OPENING) - here.is_mark(*CLOSING)
            if depth == 0:
                return
        self.complain(opening, f"the '{opening.text}' in line {opening.line} is not closed")

    def _without_slashes(self, tokens: list[Token]) -> list[Token]:
        """Returns the words without comments of other languages, about which it complains once."""
        kept: list[Token] = []
        for token in tokens:
            # Part of a word in front, as in s3://bucket, it is no comment.
            if token.kind == "slashes" and not (kept and kept[-1].end == token.start):
                if not self.problems:
                    self.complain(token, f"comments begin with #, not with {token.text[:2]}")
            else:
                kept.append(token)
        return kept
