"""Secrets in spec text: keys are replaced by hidden tokens before anything is parsed.

    tokens --hide--> Hidden(tokens without keys, originals of the keys, spans to redact)

Messages are made of tokens, and a hidden token holds only the length of a key. The key itself goes into
the config and nowhere else. It is detected by the name before it, well or badly spelled, in any block;
it ends with its line, or where the next field surely begins. In doubt a token is hidden: that costs a
word in a message, and the opposite publishes a key.
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
    """The tokens of a spec with its keys hidden.

    Attributes:
      tokens: of the text; names, numbers and texts of a key have the kind `hidden`.
      originals: offset of every piece of a key -> its token as written, for the config alone.
      spans: (start, end) of every key, for redaction.
    """

    tokens: list[Token]
    originals: dict[int, Token]
    spans: list[tuple[int, int]]


def hide(tokens: list[Token]) -> Hidden:
    """Returns the tokens with the keys hidden.

    Args:
      tokens: from `tokens.tokenize`.
    """
    # Offsets stay those of the text, so that lines and columns of messages are right.
    shown, originals, spans = list(tokens), {}, []
    openers: list[str] = []
    index = 0

    def conceal(first: int, end: int) -> None:
        for i in range(first, end):
            # Marks stay: the parser needs them to find the end of a block around a faulty key.
            if tokens[i].kind != "mark":
                originals[tokens[i].start] = tokens[i]
                shown[i] = _without_text(tokens[i])
        if end > first:
            spans.append((tokens[first].start, tokens[end - 1].end))

    # The end token has no successor to look at, and is no key.
    while index < len(tokens) - 1:
        token = tokens[index]
        if token.is_mark("{", "<"):
            # A stack without the table: keys are hidden in blocks that no table knows, too.
            openers.append(_name_before(tokens, index))
        elif token.is_mark("}", ">") and openers:
            openers.pop()
        # The block counts as well as the name: `key` is a secret in `wandb_config`, and the key of an
        # entry in a map.
        named = _may_be_a_name(tokens, index) and _names_a_key(
            token, {*openers[-1:], _name_before(tokens, index)}
        )
        inside = not named and token.kind in _TEXTS and _key_inside(token.text)
        if inside or (named and token.kind == "word"):  # the key may be part of the word
            conceal(index, index + 1)
        index += 1
        if named or inside == "open":
            first = _value_begins(tokens, index)
            end = _value_ends(tokens, first)
            conceal(first, end)
            index = max(index, end)
    return Hidden(shown, originals, spans)


def _key_inside(text: str) -> Literal["", "whole", "open"]:
    """Detects a key inside a string or comment, put there by a missing or wrong quotation mark.

    Returns:
      "whole" for a key, "open" if the text ends where the key would begin, "" for none.
    """
    result: Literal["", "whole", "open"] = ""
    for match in _INSIDE.finditer(text):
        if _sounds_secret(match.group(1)):
            result = "whole" if match.group(2).strip("\"' ") else "open"
    return result


def commented_keys(comment: str) -> Iterator[tuple[int, int]]:
    """Yields the (start, end) offsets of the text behind the name of a key in a comment."""
    reached = 0
    for match in _COMMENTED.finditer(comment):
        # `key: "car"` of a map entry is shorter than any real key.
        key = match.group(1) == "key" and _LONG.match(comment, match.end())
        if match.start() >= reached and (key or _sounds_secret(match.group(1))):
            rest = _REST.match(comment, match.end())
            reached = rest.end() if rest else match.end()
            if rest:
                yield rest.span()


def _without_text(token: Token) -> Token:
    return Token("hidden", "*" * len(token.text), token.start, token.line, token.column)


def _may_be_a_name(tokens: list[Token], index: int) -> bool:
    """Returns whether a token may name a field and is not the value of one."""
    if tokens[index + 1].is_mark(":", "=", "{", "<", "["):
        return True
    token, following = tokens[index], tokens[index + 1]
    # Behind a colon it is a value, unless a text follows in its line: `key: api_key "..."`.
    if index > 0 and tokens[index - 1].is_mark(":", "="):
        return following.line == token.line and following.kind in ("string", "open", "curly")
    return token.kind in ("name", "word")


def _names_a_key(token: Token, blocks: set[str]) -> bool:
    if token.kind in ("name", "string", "curly"):
        names = _WORD.findall(token.text[:64])
        if len(names) != 1:
            return False
        name = names[0]
        # Parts of a map entry, unless the block has a secret called `key`.
        if name in ("key", "value"):
            return name == "key" and any(_near(a, b) for a in blocks for b in _owners())
        return _sounds_secret(name)
    squashed = _squashed(token.text)
    return token.kind == "word" and any(_squashed(name) in squashed for name in _secret_names())


@functools.lru_cache(maxsize=4096)
def _sounds_secret(name: str) -> bool:
    if name in _secret_names():
        return True
    # A field of some table is not a misspelt secret. Long names would make the comparison slow.
    if name in known_names() or len(name) > 64:
        return False
    # Misspelled fields hold keys as well: `enc_kye` is unknown to the table, its value is not
    # public.
    near = any(_near(name, known) for known in _secret_names())
    return near or bool(_TELLING.search(name.lower()))


@functools.lru_cache(maxsize=4096)
def _near(name: str, known: str) -> bool:
    # Common letters first: SequenceMatcher is quadratic, and every word of the text comes here.
    letters = set(_squashed(known))
    if len(name) > 64 or len(letters & set(name.lower())) < 0.7 * len(letters):
        return False
    matcher = difflib.SequenceMatcher(None, _squashed(name), _squashed(known))
    return matcher.ratio() >= 0.7


def _squashed(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


@functools.cache
def known_names() -> frozenset[str]:
    """Returns the names and aliases of all fields of all tables."""
    return frozenset(name for _, row in _rows() for name in (row.name, *row.aliases))


@functools.cache
def _secret_names() -> frozenset[str]:
    # Without `key`, which maps have too; see _owners.
    return frozenset(row.name for _, row in _rows() if row.secret) - {"key"}


@functools.cache
def _owners() -> frozenset[str]:
    """Returns the names of the blocks that have a secret called `key`."""
    paths = (path.split(".") for path, row in _rows() if row.secret and row.name == "key")
    # From the tables, so that a new secret row is protected without a change here.
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
    """Returns the index behind the key that begins at `index`."""
    if tokens[index].is_mark("{", "[", "<"):
        return _bracket_ends(tokens, index)
    first, whole = index, False
    while tokens[index].kind != "end":
        here, before = tokens[index], tokens[index - 1]
        # Without a space between them, marks are part of a key: base64 ends in '='.
        adjacent = here.start == before.end and index > first
        if not adjacent and here.is_mark("}", ">", "]"):
            break
        # A field that a table knows, with its mark: anything less may be a part of the key.
        if not adjacent and _surely_a_field(tokens, index):
            break
        if whole and here.line > before.line and here.kind != "string":
            break
        if adjacent and here.is_mark("}", ">", "]", ",", ";") and before.kind == "string":
            break
        # An unclosed string may go on in the next line, and a name alone has its value there.
        whole = here.kind != "open" and (whole or here.kind != "mark")
        index += 1
    return index


def _bracket_ends(tokens: list[Token], index: int) -> int:
    depth = 0
    while tokens[index].kind != "end":
        depth += tokens[index].is_mark("{", "[", "<") - tokens[index].is_mark("}", "]", ">")
        # Without a closing bracket: the key must not hide the rest of the spec.
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
