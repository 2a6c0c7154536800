"""Scalar values of a spec: parsing by field type, and messages that show the right spelling.

Numbers are read as protobuf's text format reads them, with two differences: leading zeros, which
protobuf reads as octal, are refused, and so is what is not finite.
"""

import difflib
import functools
import math
import re
import unicodedata
from typing import Any

from rcnn_jax.printable import SHOWN, excerpt
from rcnn_jax.spec.schema import Field, FieldKind
from rcnn_jax.spec.text.literals import read_literal
from rcnn_jax.spec.text.tokens import Token, quote, unquote

MAX_UINT32 = 2**32 - 1
MAX_DIGITS = 100
MAX_TEXT = 10_000

# What protobuf's text format accepts, no more: `yes` would be an error in the original.
_TRUE = frozenset({"true", "True", "t", "1"})
_FALSE = frozenset({"false", "False", "f", "0"})
_BOOLEAN_WORDS = {"true": "true", "yes": "true", "on": "true"} | dict.fromkeys(
    ("false", "no", "off"), "false"
)
_DASHES = dict.fromkeys(map(ord, "‐‑‒–—―−﹣－"), "-")


class WrongValueError(ValueError):
    """A word that is no value of its field; the text is the rest of `path = word ...`."""


def read_value(tokens: list[Token], kind: FieldKind, row: Field) -> Any:
    """Returns the value of a token, or of several adjacent strings.

    Args:
      tokens: one token, or several strings.
      kind: type of the value: that of the field, or of the key or value of a map.
      row: the field.

    Raises:
      WrongValueError: it is no such value.
    """
    first = tokens[0]
    # First: adjacent strings are one text, every other type has exactly one token.
    if kind in ("string", "literal"):
        return _text(tokens, kind, row)
    if kind == "bool":
        if first.text in _TRUE or first.text in _FALSE:
            return first.text in _TRUE
    elif kind == "enum":
        if first.kind == "name" and first.text in row.values:
            return first.text
        # protobuf takes an enum's number for its name.
        if first.kind == "number" and len(first.text) < 4 and first.text.isdigit():
            number = int(first.text)
            if number < len(row.values):
                return row.values[number]
    elif first.kind == "number":
        return _number(first.text, kind, row)
    raise WrongValueError(f"is not {wanted(kind, row)}{_as_meant(written(tokens), kind, row)}")


def wanted(kind: FieldKind, row: Field) -> str:
    """Describes the values of a type."""
    descriptions = {
        "bool": "true or false",
        "uint32": "a whole number from 0 on",
        "whole": "a whole number from 0 on",
        "double": "a number",
        "string": "text in quotes",
        "literal": f"text in quotes with a {row.shape}",
        "enum": f"one of {', '.join(row.values)}",
    }
    return descriptions[kind]


def shown_value(value: Any) -> str:
    """Formats any value of a config for a message: one short line, printable."""
    try:
        return excerpt(repr(value))
    except ValueError:  # more digits than Python converts to text
        return f"a number of about 10^{int(math.log10(abs(value)))}"


def control_complaint(value: Any) -> str:
    """Describes a control character in a text; empty for other values.

    Paths of Windows in quotes are the usual cause: their backslashes begin escapes.
    """
    text = value if isinstance(value, str) else ""
    control = next((each for each in text if unicodedata.category(each) == "Cc"), "")
    if not control:
        return ""
    return f"holds the control character {excerpt(control)}: a backslash is written \\\\, or as /"


def did_you_mean(name: str, known: list[str]) -> str:
    """Returns `; did you mean 'x'?`, or nothing where no known name is near."""
    near = nearest(name, tuple(known))
    return f"; did you mean '{near}'?" if near else ""


@functools.lru_cache(maxsize=1024)
def nearest(name: str, known: tuple[str, ...], likeness: float = 0.6) -> str:
    """Returns the nearest known name, whatever its case and dashes, or nothing."""
    if len(name) > SHOWN:
        return ""
    # Reversed: of two names that differ in case only, the first one wins.
    plain = {_plain(each): each for each in reversed(known)}
    if _plain(name) in plain:
        return plain[_plain(name)]
    near = difflib.get_close_matches(_plain(name), plain, 1, likeness)
    return plain[near[0]] if near else ""


def written(tokens: list[Token]) -> str:
    """Returns tokens as written, adjacent ones without a space between."""
    pieces = [tokens[0].text]
    for before, token in zip(tokens, tokens[1:], strict=False):
        pieces += ["" if token.start == before.end else " ", token.text]
    return "".join(pieces)


def text_of(tokens: list[Token]) -> str:
    """Returns the text of adjacent strings.

    Raises:
      ValueError: one of them has a wrong escape.
    """
    return "".join(unquote(token.text) for token in tokens)


def in_quotes(text: str) -> str:
    """Returns text in straight quotes for a message."""
    return excerpt(quote(text))


def bare(text: str) -> str:
    """Returns text without the quotation marks around it, of whatever kind."""
    return text.strip("\"'“”„‟«»‹›″‘’‚‛′`´ ")


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def _fits(text: str, row: Field) -> bool:
    """Tells whether a text is of the form of a row; rows without one take any."""
    if row.shape is None:
        return True
    try:
        read_literal(text, row.shape)
    except ValueError:
        return False
    return True


def _text(tokens: list[Token], kind: FieldKind, row: Field) -> str:
    if tokens[0].kind != "string":
        text = bare(written(tokens))
        # What is advised must be read: 832 in quotes is no tuple of two either.
        advice = f": write {in_quotes(text)}" if _fits(text, row) else ""
        raise WrongValueError(f"is not {wanted(kind, row)}{advice}")
    try:
        text = text_of(tokens)
    except ValueError as error:
        raise WrongValueError(str(error)) from error
    if len(text) > MAX_TEXT:
        raise WrongValueError(f"is longer than {MAX_TEXT} characters")
    if kind == "literal" and row.shape is not None:
        try:
            read_literal(text, row.shape)
        except ValueError as error:
            raise WrongValueError(str(error)) from error
    return text


def _number(text: str, kind: FieldKind, row: Field) -> int | float:
    if len(text) > MAX_DIGITS:
        raise WrongValueError(f"is longer than {MAX_DIGITS} characters")
    # Octal to protobuf: 010 would be 8, which nobody means.
    if re.match(r"-?\s*0\d", text):
        raise WrongValueError(f"has leading zeros{_as_meant(text, kind, row)}")
    try:
        return number_of(text, kind)
    except OverflowError as error:
        raise WrongValueError(str(error)) from error
    except ValueError as error:
        raise WrongValueError(f"is not {wanted(kind, row)}{_as_meant(text, kind, row)}") from error


def number_of(text: str, kind: FieldKind) -> int | float:
    """Returns the number of a token of digits.

    Raises:
      ValueError: it is not of this type.
      OverflowError: it is not finite or too large; the text is the rest of the sentence.
    """
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("-").strip().lower()
    if digits.startswith("0x"):
        if kind in ("double", "whole"):
            raise ValueError(text)
        value: int | float = sign * int(digits, 16)
    elif digits.startswith(("inf", "nan")):
        raise OverflowError("is not a finite number")
    else:
        # `whole` fields are floats to the original, so specs hold 5.0 and 1e3 there.
        value = sign * float(digits.rstrip("f"))  # protobuf accepts 1.5f
        if not math.isfinite(value):
            raise OverflowError("is not a finite number")
        if kind == "double":
            return value
        # protobuf refuses 5.0 for an integer, and a spec must be read by both.
        if kind == "uint32" and not digits.isdigit():
            raise ValueError(text)
    if value < 0 or value != int(value):
        raise ValueError(text)
    if value > MAX_UINT32:
        raise OverflowError(f"is larger than {MAX_UINT32}")
    return int(value)


def _as_meant(text: str, kind: FieldKind, row: Field) -> str:
    """Suggests the right spelling of a value; empty without a suggestion."""
    inside = bare(text)
    if len(inside) > SHOWN:
        return ""
    meant = ""
    if kind == "bool":
        meant = _BOOLEAN_WORDS.get(inside.lower(), "")
    elif kind == "enum":
        if inside in row.values:
            return f": write {inside}, without quotes"
        return did_you_mean(inside, list(row.values))
    elif kind in ("uint32", "whole", "double"):
        if row.repeated and re.fullmatch(r"[\[(].*[\])]", inside):
            items = ", ".join(inside.strip("[]() ").replace(",", " ").split())
            return f": write [{items}], without quotes"
        meant = _meant_number(inside, kind)
    return f": write {meant}" if meant else ""


def _meant_number(text: str, kind: FieldKind) -> str:
    """Returns a number with typographic dashes, thousands separators or decimal commas rewritten."""
    plain = unicodedata.normalize("NFKC", text).translate(_DASHES)
    plain = re.sub(r"[\s_]", "", plain).removeprefix("+")
    # A comma before three digits separates thousands, any other one is a decimal comma.
    if re.fullmatch(r"-?\d{1,3}(,\d{3})+", plain, re.ASCII):
        plain = plain.replace(",", "")
    elif re.fullmatch(r"-?\d+,\d+", plain, re.ASCII):
        plain = plain.replace(",", ".")
    plain = re.sub(r"^(-?)0+(?=\d)", r"\1", plain)
    try:
        value = float(plain)
        if kind != "double":
            return str(int(value)) if 0 <= value <= MAX_UINT32 and value == int(value) else ""
    except (ValueError, OverflowError):
        return ""
    return plain if math.isfinite(value) else ""
