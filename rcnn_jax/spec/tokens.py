"""Spec text as tokens that know where they stand."""

import re
from dataclasses import dataclass
from typing import Literal

from google.protobuf import text_encoding

TokenKind = Literal["name", "number", "string", "mark", "bad", "end"]

_PATTERN = re.compile(
    r"""
    (?P<space>\s+|\#[^\n]*)
  | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
  | (?P<number>-?\s*(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[fF]?
                      |(?:[iI][nN][fF](?:[iI][nN][iI][tT][yY])?|[nN][aA][nN])[fF]?)(?![\w.]))
  | (?P<name>[A-Za-z_]\w*)
  | (?P<mark>[{}<>\[\]:,;])
  | (?P<bad>.)
    """,
    re.VERBOSE,
)

_ESCAPE = re.compile(
    r"""\\(?:[abfnrtv\\'"]|[0-7]{1,3}|x[0-9a-fA-F]{1,2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})"""
)


@dataclass(frozen=True)
class Token:
    """A word of the text.

    Attributes:
      kind: what sort of word; `end` is an empty one behind the last.
      text: as written.
      start: offset of the first character.
      line: counted from 1.
      column: counted from 1.
    """

    kind: TokenKind
    text: str
    start: int
    line: int
    column: int

    @property
    def end(self) -> int:
        """Offset behind the last character."""
        return self.start + len(self.text)

    @property
    def shown(self) -> str:
        """The word as an error message calls it."""
        return "the end of the file" if self.kind == "end" else self.text


def tokenize(text: str) -> list[Token]:
    """Returns the words of a spec without spaces and comments, closed by an `end` token."""
    tokens = []
    line, line_start = 1, 0
    for match in _PATTERN.finditer(text):
        kind, word, start = match.lastgroup, match.group(), match.start()
        if kind != "space":
            tokens.append(Token(kind, word, start, line, start - line_start + 1))  # type: ignore[arg-type]
        if "\n" in word:
            line += word.count("\n")
            line_start = start + word.rindex("\n") + 1
    tokens.append(Token("end", "", len(text), line, len(text) - line_start + 1))
    return tokens


def unquote(text: str) -> str:
    """Returns what one string in quotes says.

    Raises:
      ValueError: a backslash begins no escape, or the escapes give no UTF-8.
    """
    inside = text[1:-1]
    if "\\" in _ESCAPE.sub("", inside):
        raise ValueError("has a backslash that begins no escape; write two for one")
    try:
        return text_encoding.CUnescape(inside).decode("utf-8")
    except ValueError as error:
        raise ValueError("has escapes that give no UTF-8 text") from error


def comments(text: str) -> list[tuple[int, int]]:
    """Returns the (start, end) offsets of every comment."""
    return [
        match.span()
        for match in _PATTERN.finditer(text)
        if match.lastgroup == "space" and match.group().startswith("#")
    ]
