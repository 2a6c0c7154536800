"""Keys in a spec text, hidden before anything else looks at it, whatever is wrong around them.

Messages are made of tokens. Where a key stands, the tokens say only how long it is; what the key is
goes into the config and nowhere else. A key is found by the name in front of it, well or badly spelled,
in any block; it ends with its line, or where the next field surely begins.
"""

import difflib
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.schema import Field, walk
from rcnn_jax.spec.text.tokens import Token

_TELLING = re.compile(r"key|secret|passw|token|credential")
_COMMENTED = re.compile(r"\b(\w+)\b[\s\"']*[:=][^\S\r\n]*")
_INSIDE = re.compile(r"\b(\w+)\b[\s\"']*[:=](?=([^:=]*))")
_TEXTS = ("string", "open", "curly", "slashes")
_REST = re.compile(r"[^\r\n]+")
_LONG = re.compile(r"[\"'][^\"']{30}")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Hidden:
    """A text whose keys are out of sight.

    Attributes:
      tokens: the words, with `hidden` in place of the names, numbers and texts of a key.
      originals: offset of every piece of a key -> the word as written, for the config alone.
      spans: (start, end) of every key, for redaction.
    """

    tokens: list[Token]
    originals: dict[int, Token]
    spans: list[tuple[int, int]]


def hide(tokens: list[Token]) -> Hidden:
    """Returns the words without their keys.

    Args:
      tokens: from `tokens.tokenize`.
    """
    shown, originals, spans = list(tokens), {}, []
    openers: list[str] = []
    index = 0

    def put_away(first: int, end: int) -> None:
        for place in range(first, end):
            if tokens[place].kind != "mark":
                originals[tokens[place].start] = tokens[place]
                shown[place] = _without_text(tokens[place])
        if end > first:
            spans.append((tokens[first].start, tokens[end - 1].end))

    while index < len(tokens) - 1:
        token = tokens[index]
        if token.is_mark("{", "<"):
            openers.append(_name_before(tokens, index))
        elif token.is_mark("}", ">") and openers:
            openers.pop()
        named = _may_be_a_name(tokens, index) and _names_a_key(
            token, {*openers[-1:], _name_before(tokens, index)}
        )
        inside = not named and token.kind in _TEXTS and _key_inside(token.text)
        if inside or (named and token.kind == "word"):  # The key may be part of the word.
            put_away(index, index + 1)
        index += 1
        if named or inside == "open":
            first = _value_begins(tokens, index)
            end = _value_ends(tokens, first)
            put_away(first, end)
            index = max(index, end)
    return Hidden(shown, originals, spans)


def _key_inside(text: str) -> Literal["", "whole", "open"]:
    """Says whether a text has a key in it, which a mark that is missing or wrong has put there.

    Returns:
      "open" if the text ends where the key would begin.
    """
    found: Literal["", "whole", "open"] = ""
    for match in _INSIDE.finditer(text):
        if _sounds_secret(match.group(1)):
            found = "whole" if match.group(2).strip("\"' ") else "open"
    return found


def commented_keys(comment: str) -> Iterator[tuple[int, int]]:
    """Yields the (start, end) offsets of what follows the name of a key in a comment."""
    reached = 0
    for match in _COMMENTED.finditer(comment):
        # A `key` of a map is told from one by its length.
        key = match.group(1) == "key" and _LONG.match(comment, match.end())
        if match.start() >= reached and (key or _sounds_secret(match.group(1))):
            rest = _REST.match(comment, match.end())
            reached = rest.end() if rest else match.end()
            if rest:
                yield rest.span()


def _without_text(token: Token) -> Token:
    return Token("hidden", "*" * len(token.text), token.start, token.line, token.column)


def _may_be_a_name(tokens: list[Token], index: int) -> bool:
    """Says whether the word may name a field, and is not the value of one."""
    if tokens[index + 1].is_mark(":", "=", "{", "<", "["):
        return True
    token, following = tokens[index], tokens[index + 1]
    if index > 0 and tokens[index - 1].is_mark(":", "="):
        return following.line == token.line and following.kind in ("string", "open", "curly")
    return token.kind in ("name", "word")


def _names_a_key(token: Token, blocks: set[str]) -> bool:
    if token.kind in ("name", "string", "curly"):
        words = _WORD.findall(token.text[:64])
        if len(words) != 1:
            return False
        name = words[0]
        if name in (
            "key",
            "value",
        ):  # Of the entry of a map, unless the block has a key of its own.
            return name == "key" and any(_near(a, b) for a in blocks for b in _owners())
        return _sounds_secret(name)
    squashed = _squashed(token.text)
    return token.kind == "word" and any(_squashed(name) in squashed for name in _secret_names())


@functools.lru_cache(maxsize=4096)
def _sounds_secret(name: str) -> bool:
    if name in _secret_names():
        return True
    if name in known_names() or len(name) > 64:
        return False
    near = any(_near(name, known) for known in _secret_names())
    return near or bool(_TELLING.search(name.lower()))


@functools.lru_cache(maxsize=4096)
def _near(name: str, known: str) -> bool:
    letters = set(_squashed(known))
    if len(name) > 64 or len(letters & set(name.lower())) < 0.7 * len(letters):
        return False
    matcher = difflib.SequenceMatcher(None, _squashed(name), _squashed(known))
    return matcher.ratio() >= 0.7


def _squashed(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


@functools.cache
def known_names() -> frozenset[str]:
    """Returns the name of every field of every table, and its aliases."""
    return frozenset(name for _, row in _rows() for name in (row.name, *row.aliases))


@functools.cache
def _secret_names() -> frozenset[str]:
    return frozenset(row.name for _, row in _rows() if row.secret) - {"key"}


@functools.cache
def _owners() -> frozenset[str]:
    """Returns the names of the blocks that have a secret called `key`."""
    paths = (path.split(".") for path, row in _rows() if row.secret and row.name == "key")
    return frozenset(path[-2] for path in paths)


@functools.cache
def _rows() -> tuple[tuple[str, Field], ...]:
    return tuple(row for table in TABLES.values() for row in walk(table))


def _name_before(tokens: list[Token], index: int) -> str:
    """Returns the name of the block that the mark opens."""
    before = index - 1
    while before >= 0 and tokens[before].is_mark(":", "="):
        before -= 1
    return tokens[before].text if before >= 0 and tokens[before].kind == "name" else ""


def _value_begins(tokens: list[Token], index: int) -> int:
    while tokens[index].is_mark(":", "=", ",", ";", ">"):  # `=>` of other languages too
        index += 1
    return index


def _value_ends(tokens: list[Token], index: int) -> int:
    """Returns the index behind a key that begins at an index."""
    if tokens[index].is_mark("{", "[", "<"):
        return _bracket_ends(tokens, index)
    first, whole = index, False
    while tokens[index].kind != "end":
        here, before = tokens[index], tokens[index - 1]
        adjacent = here.start == before.end and index > first
        if not adjacent and here.is_mark("}", ">", "]"):
            break
        if not adjacent and _surely_a_field(tokens, index):
            break
        if whole and here.line > before.line and here.kind != "string":
            break
        if adjacent and here.is_mark("}", ">", "]", ",", ";") and before.kind == "string":
            break
        # A string without its end may go on in the next line, and a name alone has its value there.
        whole = here.kind != "open" and (whole or here.kind != "mark")
        index += 1
    return index


def _bracket_ends(tokens: list[Token], index: int) -> int:
    depth = 0
    while tokens[index].kind != "end":
        depth += tokens[index].is_mark("{", "[", "<") - tokens[index].is_mark("}", "]", ">")
        if _surely_a_field(tokens, index):
            return index
        index += 1
        if depth == 0:
            break
    return index


def _surely_a_field(tokens: list[Token], index: int) -> bool:
    following = tokens[index + 1] if index + 1 < len(tokens) else tokens[index]
    known = tokens[index].kind == "name" and tokens[index].text in known_names() - {"key", "value"}
    return known and following.is_mark(":", "{", "<", "=")
