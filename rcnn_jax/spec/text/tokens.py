"""Tokenizer of spec text: tokens with line and column, in linear time."""

import re
from typing import Literal, NamedTuple

from google.protobuf import text_encoding

from rcnn_jax.printable import excerpt

TokenKind = Literal[
    "name", "number", "string", "open", "curly", "word", "mark", "slashes", "hidden", "end"
]

INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
"""Characters of no width, common in text that is copied from web pages."""

DOUBLE, SINGLE = "“”„‟«»″", "‘’‚‛‹›′`´"
"""Typographic quotation marks of word processors and web pages."""

_BREAK = re.compile(r"\r\n?|\n")

# Linear: every alternative ends where another kind of character begins, so none backtracks far.
# Order matters: a closed string before an open one, slashes before words.
_PATTERN = re.compile(
    rf"""
    (?P<space>[\s{INVISIBLE}]+|\#[^\r\n]*)
  | (?P<string>"(?:[^"\\\r\n]|\\.)*"|'(?:[^'\\\r\n]|\\.)*')
  | (?P<open>["'][^\r\n]*)
  | (?P<curly>[{DOUBLE}][^{DOUBLE}"\r\n]*[{DOUBLE}"]?|[{SINGLE}][^{SINGLE}'\r\n]*[{SINGLE}']?)
  | (?P<slashes>//[^\r\n]*|/\*(?s:.*?)(?:\*/|\Z))
  | (?P<mark>[{{}}<>\[\]:,;=])
  | (?P<word>(?:-\s+(?=[\d.]))?[^\s{{}}<>\[\]:,;="'\#{INVISIBLE}]+
             (?:[{INVISIBLE}]+[^\s{{}}<>\[\]:,;="'\#{INVISIBLE}]+)*)
    """,
    re.VERBOSE,
)

_NUMBER = re.compile(
    r"-?\s*(?:0x[0-9a-f]+|(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?f?|(?:inf(?:inity)?|nan)f?)",
    re.ASCII | re.IGNORECASE,
)
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)

_ESCAPE = re.compile(
    r"""\\(?:[abfnrtv\\'"]|[0-7]{1,3}|x[0-9a-fA-F]{1,2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})"""
)

MAX_SPEC = 2**18
"""Characters of the longest spec; real ones have a few thousand."""


class Token(NamedTuple):
    """One token of the text.

    Attributes:
      kind: sort of token. `open` is a string without its closing mark, `curly` one in typographic
        quotes, `word` neither a name nor a number, `slashes` a comment of another language,
        `hidden` a piece of a secret, and `end` an empty one behind the last.
      text: as written; of a piece of a secret only the length.
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
        """The token in error messages."""
        return "the end of the file" if self.kind == "end" else excerpt(self.text)

    def is_mark(self, *marks: str) -> bool:
        """Returns whether this is one of the marks."""
        return self.kind == "mark" and self.text in marks


def tokenize(text: str) -> list[Token]:
    """Returns the tokens of a spec without spaces and comments; the last has the kind `end`."""
    tokens: list[Token] = []
    line, line_start = 1, 0
    for match in _PATTERN.finditer(text):
        kind, word, start = match.lastgroup, match.group(), match.start()
        if kind == "open":  # marks at the end of the line are hardly part of the text
            word = word.rstrip(" \t}>,;") or word
        if kind == "word":
            kind = _kind_of_word(word)
        if kind != "space":
            column = start - line_start + 1
            tokens.append(Token(kind, word, start, line, column))  # type: ignore[arg-type]
        if kind == "open":
            # The marks cut off above are part of the structure: without them a block would stay
            # open.
            tokens += _marks(match.group()[len(word) :], start + len(word), line, line_start)
        for newline in _BREAK.finditer(match.group()):
            line += 1
            line_start = start + newline.end()
    tokens.append(Token("end", "", len(text), line, len(text) - line_start + 1))
    return tokens


def top_level_names(tokens: list[Token]) -> set[str]:
    """Returns the names of the outermost entries, known or not."""
    depth, names = 0, set()
    for before, token in zip([None, *tokens], tokens, strict=False):
        named = token.kind == "name" and not (before and before.is_mark(":", "="))
        if depth == 0 and named:
            names.add(token.text)
        depth += token.is_mark("{", "<", "[") - token.is_mark("}", ">", "]")
        # A surplus closing mark must not take the rest of the text out of the top level.
        depth = max(depth, 0)
    return names


def unquote(text: str) -> str:
    """Returns the text of one string in quotes.

    Raises:
      ValueError: a backslash begins no escape, or the escapes give no UTF-8.
    """
    inside = text[1:-1]
    if "\\" not in inside:
        return inside
    # protobuf's function leaves unknown escapes as they are: a Windows path would be half converted.
    if "\\" in _ESCAPE.sub("", inside):
        raise ValueError("has a backslash that begins no escape; write two for one, or /")
    try:
        return text_encoding.CUnescape(inside).decode("utf-8")
    except ValueError as error:
        raise ValueError("has escapes that give no UTF-8 text") from error


def quote(text: str) -> str:
    """Returns the string that `unquote` turns into the text."""
    escaped = text_encoding.CEscape(text, as_utf8=True)  # type: ignore[arg-type]
    return f'"{escaped}"'


def comments(text: str) -> list[tuple[int, int]]:
    """Returns the (start, end) offsets of every comment."""
    return [
        match.span()
        for match in _PATTERN.finditer(text)
        if match.lastgroup == "slashes"
        or (match.lastgroup == "space" and match.group().startswith("#"))
    ]


def _kind_of_word(word: str) -> TokenKind:
    if _NUMBER.fullmatch(word):
        return "number"
    return "name" if _NAME.fullmatch(word) else "word"


def _marks(text: str, start: int, line: int, line_start: int) -> list[Token]:
    """Returns the marks among spaces."""
    return [
        Token("mark", each, start + index, line, start + index - line_start + 1)
        for index, each in enumerate(text)
        if not each.isspace()
    ]
