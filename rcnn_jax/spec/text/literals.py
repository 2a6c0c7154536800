"""Python literals inside strings: parser and writer that evaluate nothing."""

import math
import re
from typing import Any

from rcnn_jax.spec.schema import LiteralShape

# int() of more digits takes quadratic time, and no field has more than ten.
MAX_DIGITS = 100
MAX_WHOLE = 2**32 - 1

_WORD = re.compile(r"\s*([()\[\],]|[^\s()\[\],]+)")
_WHOLE = re.compile(r"[-+]?\d+(?:_\d+)*", re.ASCII)
_REAL = re.compile(
    r"[-+]?(?:\d+(?:_\d+)*(?:\.(?:\d+(?:_\d+)*)?)?|\.\d+(?:_\d+)*)(?:[eE][-+]?\d+)?", re.ASCII
)
_CLOSING = {"(": ")", "[": "]"}


def read_literal(text: str, shape: LiteralShape) -> tuple[Any, ...]:
    """Parses a list or tuple; an empty string is an empty list.

    The grammar is that of the shapes: numbers, or tuples of numbers, in brackets. `ast.literal_eval`
    would take deeper nesting and numbers of any length.

    Raises:
      ValueError: the text is no literal, or not of this shape; the message names the position
        inside the string.
    """
    tokens = [(match.group(1), match.start(1) + 1) for match in _WORD.finditer(text)]
    if not tokens:
        return _checked((), shape)
    # Without brackets (`832, 1344`) Python reads a tuple too, and so did the original.
    if tokens[0][0] in _CLOSING:
        items, rest = _items(tokens, 1, _CLOSING[tokens[0][0]], tokens[0], shape, shape.inner)
    else:
        items, rest = _items(tokens, 0, "", tokens[0], shape, shape.inner)
        if len(tokens) == 1:  # one number without a bracket is no list
            raise ValueError(f"is not a {shape}")
    if rest < len(tokens):
        word, position = tokens[rest]
        raise ValueError(f"is not a {shape}: found {word!r} behind its end at character {position}")
    return _checked(items, shape)


def write_literal(value: tuple[Any, ...], shape: LiteralShape) -> str:
    """Returns the text that `read_literal` turns into the value."""
    items = [_write_tuple(item) if shape.inner else repr(item) for item in value]
    if shape.bracket == "[":
        return f"[{', '.join(items)}]"
    return _write_tuple(value)


def fits(value: Any, shape: LiteralShape) -> bool:
    """Returns whether a value from Python code has the shape."""
    if not isinstance(value, tuple | list):
        return False
    if shape.length is not None and len(value) != shape.length:
        return False
    if not shape.inner:
        return all(_is_number(item, shape) for item in value)
    return all(
        isinstance(item, tuple | list)
        and len(item) == shape.inner
        and all(_is_number(part, shape) for part in item)
        for item in value
    )


def numbers(value: tuple[Any, ...], shape: LiteralShape) -> list[Any]:
    """Returns all numbers of a literal in order."""
    return [part for item in value for part in item] if shape.inner else list(value)


def _is_number(value: Any, shape: LiteralShape) -> bool:
    # bool is an int to Python.
    if isinstance(value, bool):
        return False
    return isinstance(value, int) if shape.item == "int" else isinstance(value, int | float)


def _items(
    tokens: list[tuple[str, int]],
    index: int,
    closing: str,
    opening: tuple[str, int],
    shape: LiteralShape,
    inner: int,
) -> tuple[tuple[Any, ...], int]:
    """Parses items up to the closing bracket, or to the end of the text without one.

    Args:
      tokens: (word, character) of the literal.
      index: the first of them to read.
      closing: the bracket that ends the items; empty for the end of the text.
      opening: the opening bracket, for messages.
      shape: the shape of the whole literal.
      inner: numbers per item; 0 where items are numbers.

    Returns:
      (items, index of the first word behind them).
    """
    items: list[Any] = []
    while True:
        if index == len(tokens):
            if not closing:
                return tuple(items), index
            raise ValueError(
                f"is not a {shape}: '{opening[0]}' was never closed at character {opening[1]}"
            )
        word, position = tokens[index]
        if word == closing:
            return tuple(items), index + 1
        if inner and word in _CLOSING:
            item, index = _items(tokens, index + 1, _CLOSING[word], tokens[index], shape, 0)
            if len(item) != inner:
                raise ValueError(
                    f"is not a {shape}: {len(item)} numbers in the tuple at character {position}"
                )
            items.append(item)
        else:
            items.append(_number(word, position, shape, inner))
            index += 1
        if index < len(tokens) and tokens[index][0] == ",":
            index += 1
        # Only here: a comma before the closing bracket is legal Python.
        elif index < len(tokens) and tokens[index][0] != closing:
            word, position = tokens[index]
            raise ValueError(f"is not a {shape}: expected ',' at character {position}")


def _number(word: str, position: int, shape: LiteralShape, inner: int) -> int | float:
    kind = "whole number" if shape.item == "int" else "number"
    # Before int(): Python refuses more than 4300 digits with an error of its own.
    if len(word) > MAX_DIGITS:
        raise ValueError(
            f"is not a {shape}: a number of {len(word)} characters at character {position}"
        )
    if inner:
        raise ValueError(f"is not a {shape}: {word} at character {position} is not in a tuple")
    if word in ("True", "False") or (shape.item == "int" and _REAL.fullmatch(word)):
        if _WHOLE.fullmatch(word):
            value = int(word)
            if abs(value) > MAX_WHOLE:
                raise ValueError(f"is not a {shape}: {word} at character {position} is too large")
            return value
        raise ValueError(f"is not a {shape}: {word} at character {position} is not a {kind}")
    if not _REAL.fullmatch(word):
        raise ValueError(f"is not a {shape}: no number at character {position}")
    if not math.isfinite(float(word)):
        raise ValueError(f"is not a {shape}: {word} at character {position} is too large")
    return float(word)


def _checked(value: tuple[Any, ...], shape: LiteralShape) -> tuple[Any, ...]:
    if shape.length is not None and len(value) != shape.length:
        raise ValueError(f"is not a {shape}: it has {len(value)} items")
    return value


def _write_tuple(value: tuple[Any, ...]) -> str:
    inside = ", ".join(repr(item) for item in value)
    return f"({inside},)" if len(value) == 1 else f"({inside})"
